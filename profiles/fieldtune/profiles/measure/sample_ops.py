"""The ops that the microbenchmark runs, with random shapes from small to large.

The shapes are typical for training small models: batches of 1 to 32, images with sides of 1 to 48
pixels, 1 to 160 channels, 10 to 1,000,000 weights. The kernel of a sample is not stated here:
:func:`fieldtune.profiles.costmodel.tflite_work.read_work` determines it, as for any model.
"""

import random
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.profiles.measure.tflite_graphs import Sample, Shape


def _size(rng: random.Random, low: float, high: float) -> int:
    """A random size between two bounds, log-uniform."""
    return max(round(float(low * (high / low) ** rng.random())), 1)


def _image(rng: random.Random, most: int = 400_000) -> tuple[int, int, int, int]:
    while True:
        batch, side = rng.choice([1, 1, 4, 8, 16, 32]), _size(rng, 1, 48)
        channels = rng.choice([1, 3, 4, 6, 8, 12, 16, 18, 24, 32, 48, 64, 96, 128])
        if batch * side * side * channels <= most:
            return batch, side, side, channels


def _shape(rng: random.Random) -> Shape:
    kind = rng.random()
    if kind < 0.4:
        return (_size(rng, 1, 300_000),)
    if kind < 0.6:
        return rng.choice([1, 4, 8, 16, 32]), _size(rng, 4, 256)
    return _image(rng)


def _numbers(shape: Shape) -> NDArray[np.float32]:
    return np.linspace(0.1, 1.0, max(prod(shape), 1), dtype=np.float32).reshape(shape)


def _ints(*values: int) -> NDArray[np.int32]:
    return np.array(values, np.int32)


Maker = Callable[[random.Random], Sample]


def _same(op: str, count: int, options: str | None = None, kind: str = "FLOAT32",
          result: str = "FLOAT32") -> Maker:  # fmt: skip
    def make(rng: random.Random) -> Sample:
        shape = _shape(rng)
        table: tuple[str, dict[str, Any]] | None = None if options is None else (options, {})
        return Sample(op, (shape,) * count, (shape,), table, (kind,) * count, result)

    return make


def _broadcast(rng: random.Random) -> Sample:
    shape = _image(rng) if rng.random() < 0.7 else (_size(rng, 2, 64), _size(rng, 4, 256))
    one = rng.choice(["row", "row", "row", "column", "scalar"])
    if one == "scalar":
        other: Shape = (1,)
    else:
        other = (1,) * (len(shape) - 1) + shape[-1:] if one == "row" else (*shape[:-1], 1)
    return Sample("MUL", (shape, other), (shape,), ("MulOptions", {}))


def _compare(rng: random.Random) -> Sample:
    shape = _shape(rng)
    scalar = np.zeros((), np.float32)
    return Sample("GREATER", (shape, scalar), (shape,), None, result_kind="BOOL")


def _select(rng: random.Random) -> Sample:
    shape = _shape(rng)
    kinds = ("BOOL", "FLOAT32", "FLOAT32")
    return Sample("SELECT", (shape,) * 3, (shape,), None, kinds)


def _softmax(op: str) -> Maker:
    def make(rng: random.Random) -> Sample:
        shape = (_size(rng, 1, 512), _size(rng, 2, 128))
        options = ("SoftmaxOptions", {"beta": 1.0}) if op == "SOFTMAX" else None
        return Sample(op, (shape,), (shape,), options)

    return make


def _matmul(turned: bool) -> Maker:
    def make(rng: random.Random) -> Sample:
        while True:
            rows, columns = _size(rng, 1, 200), _size(rng, 2, 250)
            depth = _size(rng, 4, 500)
            if turned and rng.random() < 0.6:  # like a filter's gradient: a long sum
                rows, columns, depth = _size(rng, 3, 300), _size(rng, 2, 96), _size(rng, 16, 4000)
            elif rng.random() < 0.4:
                rows = _size(rng, 64, 8000)
            if rows * columns * depth < 1.5e7:
                break
        batch: Shape = (rng.choice([2, 4, 8, 16, 32]),) if rng.random() < 0.25 else ()
        if batch:
            rows, columns, depth = min(rows, 64), min(columns, 64), min(depth, 64)
        left = (depth, rows) if turned else (rows, depth)
        options = ("BatchMatMulOptions", {"adjX": turned})
        return Sample("BATCH_MATMUL", ((*batch, *left), (*batch, depth, columns)),
                      ((*batch, rows, columns),), options)  # fmt: skip

    return make


def _dense(fixed: bool) -> Maker:
    def make(rng: random.Random) -> Sample:
        rows = rng.choice([1, 1, 1, 1, 1, 4, 8, 16, 32, 64] if fixed else [1, 1, 1, 4, 8, 16, 32])
        if not fixed and rng.random() < 0.3:
            rows = _size(rng, 1, 64)
        depth, units = _size(rng, 2, 1200), _size(rng, 2, 300)
        weights: Any = _numbers((units, depth)) if fixed else (units, depth)
        operands: tuple[Any, ...] = ((rows, depth), weights)
        if fixed:
            operands += (_numbers((units,)),)
        return Sample("FULLY_CONNECTED", operands, ((rows, units),), ("FullyConnectedOptions", {}))

    return make


def _conv(fixed: bool, pointwise: bool, depthwise: bool = False) -> Maker:
    def make(rng: random.Random) -> Sample:
        if not (fixed or pointwise or depthwise) and rng.random() < 0.35:
            return _filter_gradient(rng)
        while True:
            batch, side, _, channels = _image(rng, 150_000)
            batch = 1 if fixed and rng.random() < 0.8 else batch
            side = side if rng.random() < 0.15 else max(side, _size(rng, 4, 48))
            kernel = 1 if pointwise else rng.choice([2, 3, 3, 3, 5])
            stride = rng.choice([1, 1, 2])
            channels_out = channels if depthwise else _size(rng, 3, 160)
            out = -(-side // stride)
            depth = 1 if depthwise else channels
            work = batch * out * out * channels_out * kernel * kernel * depth
            if work < (6e6 if depthwise else 2e7):
                break
        shape = (
            (1, kernel, kernel, channels) if depthwise else (channels_out, kernel, kernel, channels)
        )
        weights: Any = _numbers(shape) if fixed else shape
        options: dict[str, Any] = {"strideW": stride, "strideH": stride, "padding": 0}
        if depthwise:
            options["depthMultiplier"] = 1
        bias = _numbers((channels_out,))
        op = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
        table = "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions"
        return Sample(op, ((batch, side, side, channels), weights, bias),
                      ((batch, out, out, channels_out),), (table, options))  # fmt: skip

    return make


def _filter_gradient(rng: random.Random) -> Sample:
    """The convolution that computes a filter's gradient: a window almost as large as the image."""
    while True:
        batch, _, _, channels = _image(rng, 60_000)
        side = _size(rng, 6, 40)
        out, kernel = _size(rng, 3, 128), rng.choice([1, 3, 3, 5])
        if batch * side * side * channels * out * kernel * kernel < 2e7:
            break
    image = (channels, side + kernel - 1, side + kernel - 1, batch)
    window, bias = (out, side, side, batch), _numbers((out,))
    options = {"strideW": 1, "strideH": 1, "padding": 1}
    return Sample("CONV_2D", (image, window, bias), ((channels, kernel, kernel, out),),
                  ("Conv2DOptions", options))  # fmt: skip


def _transpose_conv(rng: random.Random) -> Sample:
    batch, side, _, channels = _image(rng, 20_000)
    out, kernel = rng.choice([3, 8, 16, 24]), rng.choice([1, 3])
    shape = (batch, 2 * side, 2 * side, out)
    options = {"strideW": 2, "strideH": 2, "padding": 0}
    operands = (_ints(*shape), (out, kernel, kernel, channels), (batch, side, side, channels))
    return Sample("TRANSPOSE_CONV", operands, (shape,), ("TransposeConvOptions", options))


def _pool(op: str) -> Maker:
    def make(rng: random.Random) -> Sample:
        batch, side, _, channels = _image(rng, 150_000)
        side = max(side, 2)
        size = {"strideW": 2, "strideH": 2, "filterWidth": 2, "filterHeight": 2, "padding": 1}
        small = (batch, side // 2, side // 2, channels)
        return Sample(op, ((batch, side, side, channels),), (small,), ("Pool2DOptions", size))

    return make


def _sum(rows: bool) -> Maker:
    def make(rng: random.Random) -> Sample:
        if rng.random() < 0.6:
            shape: Shape = _image(rng)
            axes = (3,) if rows else rng.choice([(0, 1, 2), (0, 1, 2), (1, 2)])
        else:
            shape = (_size(rng, 1, 2500), _size(rng, 2, 200))
            axes = (1,) if rows else (0,)
        out = tuple(size for axis, size in enumerate(shape) if axis not in axes)
        return Sample("SUM", (shape, _ints(*axes)), (out,), ("ReducerOptions", {"keepDims": False}))

    return make


def _transpose(rng: random.Random) -> Sample:
    if rng.random() < 0.5:
        shape: Shape = _image(rng, 200_000)
        order: Shape = rng.choice([(3, 1, 2, 0), (3, 1, 2, 0), (0, 2, 1, 3), (1, 2, 0, 3)])
    else:
        shape = (rng.choice([1, 4, 8, 16]), _size(rng, 4, 64), _size(rng, 4, 64))
        order = rng.choice([(1, 0, 2), (0, 2, 1), (2, 0, 1)])
    return Sample("TRANSPOSE", (shape, _ints(*order)), (tuple(shape[axis] for axis in order),))


def _slice(rng: random.Random) -> Sample:
    if rng.random() < 0.6:
        shape: Shape = _image(rng, 300_000)
        size: Shape = (shape[0], max(shape[1] - 2, 1), max(shape[2] - 2, 1), shape[3])
        begin: Shape = (0, min(1, shape[1] - 1), min(1, shape[2] - 1), 0)
    else:
        shape = (rng.choice([1, 4, 8, 16, 32, 1000]), _size(rng, 8, 256))
        size, begin = (shape[0], max(shape[1] // 3, 1)), (0, shape[1] // 3)
    return Sample("SLICE", (shape, _ints(*begin), _ints(*size)), (size,))


def _pad(rng: random.Random) -> Sample:
    if rng.random() < 0.7:
        shape: Shape = _image(rng, 200_000)
        around = np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32)
    else:
        shape = (rng.choice([1, 4, 8, 16, 32]), _size(rng, 4, 96))
        around = np.array([[0, 0], [0, 2 * shape[1]]], np.int32)
    out = tuple(int(size + before + after)
                for size, (before, after) in zip(shape, around, strict=True))  # fmt: skip
    return Sample("PAD", (shape, around), (out,), ("PadOptions", {}))


def _concatenation(many: bool) -> Maker:
    def make(rng: random.Random) -> Sample:
        if many and rng.random() < 0.5:  # the windows of a convolution (im2col)
            batch, side, _, channels = _image(rng, 30_000)
            part, wide = (batch, side, side, channels), (batch, side, side, 9 * channels)
            return Sample("CONCATENATION", (part,) * 9, (wide,),
                          ("ConcatenationOptions", {"axis": 3}))  # fmt: skip
        if many:
            shapes: list[Shape] = [(_size(rng, 2, 30_000),) for _ in range(rng.randint(6, 12))]
            axis, out = 0, (sum(shape[0] for shape in shapes),)
            return Sample("CONCATENATION", tuple(shapes), (out,),
                          ("ConcatenationOptions", {"axis": axis}))  # fmt: skip
        shape = (rng.choice([1, 4, 8, 16, 500]), _size(rng, 4, 128))
        count = rng.randint(2, 4)
        return Sample("CONCATENATION", (shape,) * count, ((shape[0], count * shape[1]),),
                      ("ConcatenationOptions", {"axis": 1}))  # fmt: skip

    return make


def _split(fixed: bool) -> Maker:
    def make(rng: random.Random) -> Sample:
        if fixed:  # of a matrix into equal parts
            parts = rng.randint(2, 4)
            shape = (rng.choice([1, 4, 8, 16, 32]), _size(rng, 4, 64))
            return Sample("SPLIT", (np.array(1, np.int32), (shape[0], parts * shape[1])),
                          (shape,) * parts, ("SplitOptions", {"numSplits": parts}))  # fmt: skip
        sizes = [_size(rng, 2, 30_000) for _ in range(rng.randint(2, 12))]
        operands = ((sum(sizes),), _ints(*sizes), np.array(0, np.int32))
        pieces = tuple((size,) for size in sizes)
        return Sample("SPLIT_V", operands, pieces, ("SplitVOptions", {"numSplits": len(sizes)}))

    return make


def _pack(rng: random.Random) -> Sample:
    shape = (_size(rng, 4, 20_000),) if rng.random() < 0.5 else _image(rng, 40_000)[:3]
    count = 9 if len(shape) == 1 else 2
    axis = 0 if len(shape) == 1 else rng.choice([1, 2, 3])
    out = (*shape[:axis], count, *shape[axis:])
    return Sample("PACK", (shape,) * count, (out,),
                  ("PackOptions", {"valuesCount": count, "axis": axis}))  # fmt: skip


def _reverse(rng: random.Random) -> Sample:
    shape = (rng.choice([2, 3, 5]),) * 2 + (_size(rng, 1, 160), _size(rng, 1, 96))
    return Sample("REVERSE_V2", (shape, _ints(rng.choice([0, 1]))), (shape,))


def _tile(rng: random.Random) -> Sample:
    batch, side, _, channels = _image(rng, 200_000)
    return Sample("TILE", ((batch, 1, 1, channels), _ints(1, side, side, 1)),
                  ((batch, side, side, channels),))  # fmt: skip


def _one_hot(rng: random.Random) -> Sample:
    rows, classes = rng.choice([1, 4, 8, 16, 32]), _size(rng, 2, 200)
    one, zero = np.ones((), np.float32), np.zeros((), np.float32)
    return Sample("ONE_HOT", ((rows,), np.array(classes, np.int32), one, zero),
                  ((rows, classes),), ("OneHotOptions", {"axis": -1}),
                  ("INT32",) * 4)  # fmt: skip


def _reshape(rng: random.Random) -> Sample:
    shape = _shape(rng)
    flat = (prod(shape),)
    return Sample("RESHAPE", (shape, _ints(*flat)), (flat,))


# (Function that draws a sample, number of samples): more where the shape has more influence.
MAKERS: tuple[tuple[Maker, int], ...] = (
    (_same("ADD", 2, "AddOptions"), 10), (_broadcast, 14), (_same("NEG", 1), 8),
    (_same("ADD_N", 2), 8), (_same("DIV", 2, "DivOptions"), 5), (_same("SQRT", 1), 5),
    (_same("RSQRT", 1), 5), (_same("LOGISTIC", 1), 6), (_same("TANH", 1), 6), (_same("ELU", 1), 5),
    (_same("EXP", 1), 5), (_same("GELU", 1), 5), (_same("POW", 2), 4),
    (_same("CAST", 1, None, "BOOL"), 6), (_compare, 6), (_select, 5),
    (_same("LOGICAL_AND", 2, None, "BOOL", "BOOL"), 5),
    (_softmax("SOFTMAX"), 7), (_softmax("LOG_SOFTMAX"), 7),
    (_matmul(False), 18), (_matmul(True), 18), (_dense(True), 48), (_dense(False), 18),
    (_conv(True, False), 44), (_conv(True, True), 24), (_conv(False, False), 34),
    (_conv(False, True), 10), (_conv(True, False, True), 24), (_conv(False, False, True), 20),
    (_transpose_conv, 8), (_pool("MAX_POOL_2D"), 12), (_pool("AVERAGE_POOL_2D"), 12),
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
