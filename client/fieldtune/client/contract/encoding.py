"""How a client's update travels: as float32 weights, or smaller.

An update is the difference between the trained weights and those that the client was given, plus
what its earlier encodings left out (error feedback: Seide et al. 2014; Karimireddy et al. 2019,
arXiv 1901.09847, algorithm 2). ``float32`` is no encoding: the trained weights themselves are sent.

Bytes of an update of ``n`` weights:

- ``float16``: ``2 n``, each difference rounded to nearest;
- ``int8``: ``n + 4 ceil(n / 256)``, blocks of 256 differences, each block with its largest absolute
  value as a float32; rounded stochastically, so that the expected value is exact (QSGD, Alistarh
  et al. 2017, arXiv 1610.02132);
- ``topk``: ``4 k + min(4 k, ceil(n / 8))``, the ``k`` largest differences as float32, and where
  they are: as uint32, or as one bit a weight.

All numbers are little-endian. The size follows from ``n`` and the share, so a reply of another size
is refused before anything is read from it.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Encoding = Literal["float32", "float16", "int8", "topk"]
Download = Literal["float32", "float16"]
ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)

Vector = NDArray[np.float32]

BLOCK = 256
"""Differences that share a scale in ``int8``."""
_LEVELS = 127
_STREAM = 0x1B17
"""Separates the random numbers of rounding from those that shuffle samples with the same seed."""


def kept(size: int, share: float) -> int:
    """How many of ``size`` differences ``topk`` sends."""
    return min(size, max(1, math.ceil(share * size)))


def encoded_bytes(encoding: Encoding, size: int, share: float = 1.0) -> int:
    """Bytes of an update of ``size`` weights; ``share`` of them are sent by ``topk``."""
    match encoding:
        case "float32":
            return 4 * size
        case "float16":
            return 2 * size
        case "int8":
            return size + 4 * math.ceil(size / BLOCK)
        case "topk":
            count = kept(size, share)
            return 4 * count + min(4 * count, math.ceil(size / 8))


def encode(update: Vector, encoding: Encoding, seed: int, share: float = 1.0) -> bytes:
    """An update ``[n]`` of finite numbers as bytes.

    Args:
        update: trained weights minus those received, plus the residual.
        encoding: any of :data:`ENCODINGS`.
        seed: of stochastic rounding.
        share: of the weights, for ``topk``.
    """
    match encoding:
        case "float32":
            return update.astype("<f4").tobytes()
        case "float16":
            with np.errstate(over="ignore"):  # above 65504 it is infinite: the client has diverged
                return update.astype("<f2").tobytes()
        case "int8":
            scales, quanta = _quantised(update, seed)
            return scales.astype("<f4").tobytes() + quanta.tobytes()
        case "topk":
            count = kept(update.size, share)
            # Stable, so that of equal differences the first are sent on every platform.
            chosen = np.sort(np.argsort(-np.abs(update), kind="stable")[:count])
            return _places(chosen, update.size) + update[chosen].astype("<f4").tobytes()


def decode(data: bytes, encoding: Encoding, size: int, share: float = 1.0) -> Vector:
    """The update ``[size]`` that bytes stand for.

    Raises:
        ValueError: they are no encoding of an update of this size.
    """
    expected = encoded_bytes(encoding, size, share)
    if len(data) != expected:
        raise ValueError(
            f"{len(data)} bytes are no {encoding} update of {size} weights: {expected}"
        )
    match encoding:
        case "float32":
            return np.frombuffer(data, "<f4").astype(np.float32)
        case "float16":
            return np.frombuffer(data, "<f2").astype(np.float32)
        case "int8":
            blocks = math.ceil(size / BLOCK)
            scales = np.frombuffer(data, "<f4", blocks)
            if not (scales >= 0).all():  # false for nan
                raise ValueError("a scale of an int8 update is negative or not a number")
            quanta = np.frombuffer(data, np.int8, size, 4 * blocks)
            steps = np.repeat(scales.astype(np.float32) / np.float32(_LEVELS), BLOCK)[:size]
            with np.errstate(invalid="ignore", over="ignore"):  # as of a client that has diverged
                return np.asarray(quanta.astype(np.float32) * steps, np.float32)
        case "topk":
            count = kept(size, share)
            update = np.zeros(size, np.float32)
            places = _read_places(data[: len(data) - 4 * count], size, count)
            update[places] = np.frombuffer(data, "<f4", count, len(data) - 4 * count)
            return update


def _quantised(update: Vector, seed: int) -> tuple[Vector, NDArray[np.int8]]:
    """The largest absolute value of each block, and each difference as a multiple of its 127th."""
    blocks = math.ceil(update.size / BLOCK)
    padded = np.zeros((blocks, BLOCK), np.float32)
    padded.ravel()[: update.size] = update
    scales = np.abs(padded).max(axis=1, initial=0)
    steps = scales.astype(np.float64)[:, None] / _LEVELS
    exact = np.divide(padded, steps, out=np.zeros(padded.shape), where=steps > 0)
    random = np.random.default_rng([seed, _STREAM]).random(padded.shape)
    quanta = np.clip(np.floor(exact + random), -_LEVELS, _LEVELS).astype(np.int8)
    return scales, quanta.ravel()[: update.size]


def _places(chosen: NDArray[np.intp], size: int) -> bytes:
    if 4 * chosen.size <= math.ceil(size / 8):
        return chosen.astype("<u4").tobytes()
    bits = np.zeros(size, np.uint8)
    bits[chosen] = 1
    return np.packbits(bits).tobytes()


def _read_places(data: bytes, size: int, count: int) -> NDArray[np.intp]:
    if 4 * count <= math.ceil(size / 8):
        places = np.frombuffer(data, "<u4").astype(np.intp)
        if (np.diff(places) <= 0).any() or places[-1] >= size:
            raise ValueError(f"the places of a topk update are not ascending and below {size}")
        return places
    places = np.flatnonzero(np.unpackbits(np.frombuffer(data, np.uint8))[:size])
    if places.size != count:
        raise ValueError(f"a topk update has {places.size} places for {count} values")
    return places


def compressed(
    received: Vector,
    trained: Vector,
    residual: Vector | None,
    encoding: Encoding,
    seed: int,
    share: float,
) -> tuple[bytes, Vector]:
    """A training's update as bytes, and the residual for the client's next one.

    Args:
        received: the weights that the client was given ``[n]``.
        trained: after its training ``[n]``, finite.
        residual: what its earlier encodings left out; None for nothing.
        encoding: of the update.
        seed: of stochastic rounding.
        share: of the weights, for ``topk``.
    """  # fmt: skip
    update = trained - received
    if residual is not None:
        update = update + residual
    data = encode(update, encoding, seed, share)
    return data, update - decode(data, encoding, update.size, share)
