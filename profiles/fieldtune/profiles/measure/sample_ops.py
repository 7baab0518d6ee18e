"""The ops that the microbenchmark runs.

The kernel of a sample is not stated here:
:func:`fieldtune.profiles.costmodel.tflite_reader.read_work` determines it, as for any model.
"""

import random
from math import prod
from typing import Any

import numpy as np

from fieldtune.profiles.measure.sample_products import conv, dense, matmul, transpose_conv
from fieldtune.profiles.measure.sample_shapes import (
    Maker,
    ints,
    random_image,
    random_shape,
    random_size,
)
from fieldtune.profiles.measure.tflite_graphs import Sample, Shape


def _same(op: str, count: int, options: str | None = None, kind: str = "FLOAT32",
          result: str = "FLOAT32") -> Maker:  # fmt: skip
    def make(rng: random.Random) -> Sample:
        shape = random_shape(rng)
        table: tuple[str, dict[str, Any]] | None = None if options is None else (options, {})
        return Sample(op, (shape,) * count, (shape,), table, (kind,) * count, result)

    return make


def _broadcast(rng: random.Random) -> Sample:
    shape = (
        random_image(rng)
        if rng.random() < 0.7
        else (random_size(rng, 2, 64), random_size(rng, 4, 256))
    )
    one = rng.choice(["row", "row", "row", "column", "scalar"])
    if one == "scalar":
        other: Shape = (1,)
    else:
        other = (1,) * (len(shape) - 1) + shape[-1:] if one == "row" else (*shape[:-1], 1)
    return Sample("MUL", (shape, other), (shape,), ("MulOptions", {}))


def _compare(rng: random.Random) -> Sample:
    shape = random_shape(rng)
    scalar = np.zeros((), np.float32)
    return Sample("GREATER", (shape, scalar), (shape,), None, result_kind="BOOL")


def _select(rng: random.Random) -> Sample:
    shape = random_shape(rng)
    kinds = ("BOOL", "FLOAT32", "FLOAT32")
    return Sample("SELECT", (shape,) * 3, (shape,), None, kinds)


def _softmax(op: str) -> Maker:
    def make(rng: random.Random) -> Sample:
        shape = (random_size(rng, 1, 512), random_size(rng, 2, 128))
        options = ("SoftmaxOptions", {"beta": 1.0}) if op == "SOFTMAX" else None
        return Sample(op, (shape,), (shape,), options)

    return make


def _pool(op: str) -> Maker:
    def make(rng: random.Random) -> Sample:
        batch, side, _, channels = random_image(rng, 150_000)
        side = max(side, 2)
        size = {"strideW": 2, "strideH": 2, "filterWidth": 2, "filterHeight": 2, "padding": 1}
        small = (batch, side // 2, side // 2, channels)
        return Sample(op, ((batch, side, side, channels),), (small,), ("Pool2DOptions", size))

    return make


def _sum(rows: bool) -> Maker:
    def make(rng: random.Random) -> Sample:
        if rng.random() < 0.6:
            shape: Shape = random_image(rng)
            axes = (3,) if rows else rng.choice([(0, 1, 2), (0, 1, 2), (1, 2)])
        else:
            shape = (random_size(rng, 1, 2500), random_size(rng, 2, 200))
            axes = (1,) if rows else (0,)
        out = tuple(size for axis, size in enumerate(shape) if axis not in axes)
        return Sample("SUM", (shape, ints(*axes)), (out,), ("ReducerOptions", {"keepDims": False}))

    return make


def _transpose(rng: random.Random) -> Sample:
    if rng.random() < 0.5:
        shape: Shape = random_image(rng, 200_000)
        order: Shape = rng.choice([(3, 1, 2, 0), (3, 1, 2, 0), (0, 2, 1, 3), (1, 2, 0, 3)])
    else:
        shape = (rng.choice([1, 4, 8, 16]), random_size(rng, 4, 64), random_size(rng, 4, 64))
        order = rng.choice([(1, 0, 2), (0, 2, 1), (2, 0, 1)])
    return Sample("TRANSPOSE", (shape, ints(*order)), (tuple(shape[axis] for axis in order),))


def _slice(rng: random.Random) -> Sample:
    if rng.random() < 0.6:
        shape: Shape = random_image(rng, 300_000)
        size: Shape = (shape[0], max(shape[1] - 2, 1), max(shape[2] - 2, 1), shape[3])
        begin: Shape = (0, min(1, shape[1] - 1), min(1, shape[2] - 1), 0)
    else:
        shape = (rng.choice([1, 4, 8, 16, 32, 1000]), random_size(rng, 8, 256))
        size, begin = (shape[0], max(shape[1] // 3, 1)), (0, shape[1] // 3)
    return Sample("SLICE", (shape, ints(*begin), ints(*size)), (size,))


def _pad(rng: random.Random) -> Sample:
    if rng.random() < 0.7:
        shape: Shape = random_image(rng, 200_000)
        around = np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32)
    else:
        shape = (rng.choice([1, 4, 8, 16, 32]), random_size(rng, 4, 96))
        around = np.array([[0, 0], [0, 2 * shape[1]]], np.int32)
    out = tuple(int(size + before + after)
                for size, (before, after) in zip(shape, around, strict=True))  # fmt: skip
    return Sample("PAD", (shape, around), (out,), ("PadOptions", {}))


def _concatenation(many: bool) -> Maker:
    def make(rng: random.Random) -> Sample:
        if many and rng.random() < 0.5:  # the windows of a convolution (im2col)
            batch, side, _, channels = random_image(rng, 30_000)
            part, wide = (batch, side, side, channels), (batch, side, side, 9 * channels)
            return Sample("CONCATENATION", (part,) * 9, (wide,),
                          ("ConcatenationOptions", {"axis": 3}))  # fmt: skip
        if many:
            shapes: list[Shape] = [
                (random_size(rng, 2, 30_000),) for _ in range(rng.randint(6, 12))
            ]
            axis, out = 0, (sum(shape[0] for shape in shapes),)
            return Sample("CONCATENATION", tuple(shapes), (out,),
                          ("ConcatenationOptions", {"axis": axis}))  # fmt: skip
        shape = (rng.choice([1, 4, 8, 16, 500]), random_size(rng, 4, 128))
        count = rng.randint(2, 4)
        return Sample("CONCATENATION", (shape,) * count, ((shape[0], count * shape[1]),),
                      ("ConcatenationOptions", {"axis": 1}))  # fmt: skip

    return make


def _split(fixed: bool) -> Maker:
    def make(rng: random.Random) -> Sample:
        if fixed:  # of a matrix into equal parts
            parts = rng.randint(2, 4)
            shape = (rng.choice([1, 4, 8, 16, 32]), random_size(rng, 4, 64))
            return Sample("SPLIT", (np.array(1, np.int32), (shape[0], parts * shape[1])),
                          (shape,) * parts, ("SplitOptions", {"numSplits": parts}))  # fmt: skip
        sizes = [random_size(rng, 2, 30_000) for _ in range(rng.randint(2, 12))]
        operands = ((sum(sizes),), ints(*sizes), np.array(0, np.int32))
        pieces = tuple((size,) for size in sizes)
        return Sample("SPLIT_V", operands, pieces, ("SplitVOptions", {"numSplits": len(sizes)}))

    return make


def _pack(rng: random.Random) -> Sample:
    shape = (random_size(rng, 4, 20_000),) if rng.random() < 0.5 else random_image(rng, 40_000)[:3]
    count = 9 if len(shape) == 1 else 2
    axis = 0 if len(shape) == 1 else rng.choice([1, 2, 3])
    out = (*shape[:axis], count, *shape[axis:])
    return Sample("PACK", (shape,) * count, (out,),
                  ("PackOptions", {"valuesCount": count, "axis": axis}))  # fmt: skip


def _reverse(rng: random.Random) -> Sample:
    shape = (rng.choice([2, 3, 5]),) * 2 + (random_size(rng, 1, 160), random_size(rng, 1, 96))
    return Sample("REVERSE_V2", (shape, ints(rng.choice([0, 1]))), (shape,))


def _tile(rng: random.Random) -> Sample:
    batch, side, _, channels = random_image(rng, 200_000)
    return Sample("TILE", ((batch, 1, 1, channels), ints(1, side, side, 1)),
                  ((batch, side, side, channels),))  # fmt: skip


def _one_hot(rng: random.Random) -> Sample:
    rows, classes = rng.choice([1, 4, 8, 16, 32]), random_size(rng, 2, 200)
    one, zero = np.ones((), np.float32), np.zeros((), np.float32)
    return Sample("ONE_HOT", ((rows,), np.array(classes, np.int32), one, zero),
                  ((rows, classes),), ("OneHotOptions", {"axis": -1}),
                  ("INT32",) * 4)  # fmt: skip


def _reshape(rng: random.Random) -> Sample:
    shape = random_shape(rng)
    flat = (prod(shape),)
    return Sample("RESHAPE", (shape, ints(*flat)), (flat,))


# (Function that draws a sample, number of samples): more where the shape has more influence.
MAKERS: tuple[tuple[Maker, int], ...] = (
    (_same("ADD", 2, "AddOptions"), 10), (_broadcast, 14), (_same("NEG", 1), 8),
    (_same("ADD_N", 2), 8), (_same("DIV", 2, "DivOptions"), 5), (_same("SQRT", 1), 5),
    (_same("RSQRT", 1), 5), (_same("LOGISTIC", 1), 6), (_same("TANH", 1), 6), (_same("ELU", 1), 5),
    (_same("EXP", 1), 5), (_same("GELU", 1), 5), (_same("POW", 2), 4),
    (_same("CAST", 1, None, "BOOL"), 6), (_compare, 6), (_select, 5),
    (_same("LOGICAL_AND", 2, None, "BOOL", "BOOL"), 5),
    (_softmax("SOFTMAX"), 7), (_softmax("LOG_SOFTMAX"), 7),
    (matmul(False), 18), (matmul(True), 18), (dense(True), 48), (dense(False), 18),
    (conv(True, False), 44), (conv(True, True), 24), (conv(False, False), 34),
    (conv(False, True), 10), (conv(True, False, True), 24), (conv(False, False, True), 20),
    (transpose_conv, 8), (_pool("MAX_POOL_2D"), 12), (_pool("AVERAGE_POOL_2D"), 12),
    (_sum(True), 10), (_sum(False), 12), (_transpose, 16), (_slice, 12), (_pad, 12),
    (_concatenation(True), 14), (_concatenation(False), 8), (_split(True), 8), (_split(False), 8),
    (_pack, 8), (_reverse, 8), (_tile, 8), (_one_hot, 5), (_reshape, 8),
)  # fmt: skip


def samples(seed: int = 0) -> list[Sample]:
    """All samples, shuffled, so that a burst of noise does not hit all samples of one kernel."""
    rng = random.Random(seed)
    drawn = [make(rng) for make, count in MAKERS for _ in range(count)]
    rng.shuffle(drawn)
    return drawn
