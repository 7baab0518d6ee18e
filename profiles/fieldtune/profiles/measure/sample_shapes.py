"""Random shapes of the microbenchmark's ops, from small to large.

They are typical for training small models: batches of 1 to 32, images with sides of 1 to 48
pixels, 1 to 160 channels, 10 to 1,000,000 weights.
"""

import random
from collections.abc import Callable
from math import prod

import numpy as np
from numpy.typing import NDArray

from fieldtune.profiles.measure.tflite_graphs import Sample, Shape

Maker = Callable[[random.Random], Sample]


def random_size(rng: random.Random, low: float, high: float) -> int:
    """A random size between two bounds, log-uniform."""
    return max(round(float(low * (high / low) ** rng.random())), 1)


def random_image(rng: random.Random, most: int = 400_000) -> tuple[int, int, int, int]:
    """Batch, height, width and channels, of at most so many elements."""
    while True:
        batch, side = rng.choice([1, 1, 4, 8, 16, 32]), random_size(rng, 1, 48)
        channels = rng.choice([1, 3, 4, 6, 8, 12, 16, 18, 24, 32, 48, 64, 96, 128])
        if batch * side * side * channels <= most:
            return batch, side, side, channels


def random_shape(rng: random.Random) -> Shape:
    """A vector, a matrix or images."""
    kind = rng.random()
    if kind < 0.4:
        return (random_size(rng, 1, 300_000),)
    if kind < 0.6:
        return rng.choice([1, 4, 8, 16, 32]), random_size(rng, 4, 256)
    return random_image(rng)


def numbers(shape: Shape) -> NDArray[np.float32]:
    """Weights of a shape, none of which is 0 or denormal."""
    return np.linspace(0.1, 1.0, max(prod(shape), 1), dtype=np.float32).reshape(shape)


def ints(*values: int) -> NDArray[np.int32]:
    """Axes, sizes and paddings."""
    return np.array(values, np.int32)
