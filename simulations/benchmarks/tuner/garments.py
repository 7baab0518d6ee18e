"""Small pictures of clothes as a data set: 4,000 of Fashion-MNIST's test images, 14x14 pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fieldtune.simulations.datasets.fashion import load_fashion

_SAMPLES = 4000


def garments() -> tuple[NDArray[np.float32], NDArray[np.int32], None]:
    """``x``: float32 ``[4000, 14, 14, 1]``, 0 to 1; ``y``: int32 ``[4000]``, 0 to 9; no owners.

    Raises:
        DataError: the files are not installed or damaged.
    """
    clothes = load_fashion()
    last = np.arange(len(clothes.y))[-_SAMPLES:]
    return halved(clothes.samples(last)), clothes.y[last], None


def halved(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Images ``[n, 2h, 2w, 1]``, each square of four pixels as their mean: ``[n, h, w, 1]``."""
    count, height, width, _ = images.shape
    squares = images.reshape(count, height // 2, 2, width // 2, 2, 1)
    return np.asarray(squares.mean(axis=(2, 4)), np.float32)
