"""Random numbers from built-in ops, for dropout and noise on the device.

TFLite has no built-in ops for TensorFlow's generators. So numbers are a hash of (seed, step, draw,
position), computed in float32 without rounding: residues modulo two primes below 2^11, whose
products stay below 2^24. Cubing permutes the residues of these primes, and the sum of the two
residues' fractions has the period of their product (the combination of Wichmann and Hill, AS 183,
1982).
Every runtime gets the same numbers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

PRIMES = (2039, 2027)
"""Below 2^11, and with p - 1 not divisible by 3, so that cubing is a permutation."""


class Stream:
    """A source of random numbers for one training step.

    Args:
        seed: float32 ``[1]``, a non-negative integer, different for each client and round.
        step: float32 ``[1]``, the number of the step since ``load``.
    """

    def __init__(self, seed: Any, step: Any) -> None:
        # Mixed twice, so that neighbouring seeds and steps give unrelated numbers.
        self._keys = [
            _cube(_cube(_residue(seed, p) + 17.0, p) + _residue(step, p), p) for p in PRIMES
        ]
        self.draws = 0

    def uniform(self, shape: tuple[int, ...]) -> Any:
        """Independent numbers in [0, 1), about 4 million different ones."""
        size = math.prod(shape)
        columns = _columns(size)
        rows = size // columns
        rng = np.random.default_rng([rows, columns, self.draws])
        self.draws += 1
        total = None
        for key, p in zip(self._keys, PRIMES, strict=True):
            offset = float(rng.integers(p))
            draw = _cube(key + offset, p)
            places = [
                _residue(draw * _constants(rng, n, 1, p) + _constants(rng, n, 0, p), p)
                for n in (rows, columns)
            ]
            mixed = _cube(tf.reshape(places[0], [rows, 1]) + places[1], p)
            fraction = mixed * (1.0 / p)
            total = fraction if total is None else total + fraction
        return tf.reshape(total - tf.floor(total), shape)

    def normal(self, shape: tuple[int, ...]) -> Any:
        """Independent standard normal numbers (Box and Muller, 1958)."""
        radius = tf.sqrt(-2.0 * tf.math.log(1.0 - self.uniform(shape) * (1.0 - 1e-7)))
        return radius * tf.cos((2.0 * math.pi) * self.uniform(shape))


def _constants(rng: np.random.Generator, count: int, low: int, p: int) -> Any:
    return tf.constant(rng.integers(low, p, count), tf.float32)


def _residue(x: Any, p: int) -> Any:
    """``x mod p`` for whole numbers 0 <= x < 2^24; p itself may come out for a multiple of p."""
    # FLOOR_MOD calls fmod for each number; this is four vector operations. A quotient that rounds
    # the wrong way gives p instead of 0 (or 0 instead of p), the same everywhere.
    return x - tf.floor(x * (1.0 / p)) * float(p)


def _cube(x: Any, p: int) -> Any:
    """``x^3 mod p`` for whole numbers 0 <= x <= 2p."""
    return _residue(_residue(x * x, p) * x, p)


def _columns(size: int) -> int:
    """The divisor of ``size`` nearest to its root: one hash per row and per column is enough."""
    return next(n for n in range(math.isqrt(size), 0, -1) if size % n == 0)
