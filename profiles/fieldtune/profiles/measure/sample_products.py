"""The matrix products and convolutions that the microbenchmark runs."""

import random
from typing import Any

from fieldtune.profiles.measure.sample_shapes import Maker, ints, numbers, random_image, random_size
from fieldtune.profiles.measure.tflite_graphs import Sample, Shape


def matmul(turned: bool) -> Maker:
    """A product of two results; the first one transposed, as in a gradient, or not."""

    def make(rng: random.Random) -> Sample:
        while True:
            rows, columns = random_size(rng, 1, 200), random_size(rng, 2, 250)
            depth = random_size(rng, 4, 500)
            if turned and rng.random() < 0.6:  # like a filter's gradient: a long sum
                rows, columns = random_size(rng, 3, 300), random_size(rng, 2, 96)
                depth = random_size(rng, 16, 4000)
            elif rng.random() < 0.4:
                rows = random_size(rng, 64, 8000)
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


def dense(fixed: bool) -> Maker:
    """A dense layer with stored weights, as in a deployed model, or with computed ones."""

    def make(rng: random.Random) -> Sample:
        rows = rng.choice([1, 1, 1, 1, 1, 4, 8, 16, 32, 64] if fixed else [1, 1, 1, 4, 8, 16, 32])
        if not fixed and rng.random() < 0.3:
            rows = random_size(rng, 1, 64)
        depth, units = random_size(rng, 2, 1200), random_size(rng, 2, 300)
        weights: Any = numbers((units, depth)) if fixed else (units, depth)
        operands: tuple[Any, ...] = ((rows, depth), weights)
        if fixed:
            operands += (numbers((units,)),)
        return Sample("FULLY_CONNECTED", operands, ((rows, units),), ("FullyConnectedOptions", {}))

    return make


def conv(fixed: bool, pointwise: bool, depthwise: bool = False) -> Maker:
    """A convolution with stored or computed weights."""

    def make(rng: random.Random) -> Sample:
        if not (fixed or pointwise or depthwise) and rng.random() < 0.35:
            return _filter_gradient(rng)
        while True:
            batch, side, _, channels = random_image(rng, 150_000)
            batch = 1 if fixed and rng.random() < 0.8 else batch
            side = side if rng.random() < 0.15 else max(side, random_size(rng, 4, 48))
            kernel = 1 if pointwise else rng.choice([2, 3, 3, 3, 5])
            stride = rng.choice([1, 1, 2])
            channels_out = channels if depthwise else random_size(rng, 3, 160)
            out = -(-side // stride)
            depth = 1 if depthwise else channels
            work = batch * out * out * channels_out * kernel * kernel * depth
            if work < (6e6 if depthwise else 2e7):
                break
        shape = (
            (1, kernel, kernel, channels) if depthwise else (channels_out, kernel, kernel, channels)
        )
        weights: Any = numbers(shape) if fixed else shape
        options: dict[str, Any] = {"strideW": stride, "strideH": stride, "padding": 0}
        if depthwise:
            options["depthMultiplier"] = 1
        bias = numbers((channels_out,))
        op = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
        table = "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions"
        return Sample(op, ((batch, side, side, channels), weights, bias),
                      ((batch, out, out, channels_out),), (table, options))  # fmt: skip

    return make


def _filter_gradient(rng: random.Random) -> Sample:
    """The convolution that computes a filter's gradient: a window almost as large as the image."""
    while True:
        batch, _, _, channels = random_image(rng, 60_000)
        side = random_size(rng, 6, 40)
        out, kernel = random_size(rng, 3, 128), rng.choice([1, 3, 3, 5])
        if batch * side * side * channels * out * kernel * kernel < 2e7:
            break
    image = (channels, side + kernel - 1, side + kernel - 1, batch)
    window, bias = (out, side, side, batch), numbers((out,))
    options = {"strideW": 1, "strideH": 1, "padding": 1}
    return Sample("CONV_2D", (image, window, bias), ((channels, kernel, kernel, out),),
                  ("Conv2DOptions", options))  # fmt: skip


def transpose_conv(rng: random.Random) -> Sample:
    """A transposed convolution that doubles an image's sides."""
    batch, side, _, channels = random_image(rng, 20_000)
    out, kernel = rng.choice([3, 8, 16, 24]), rng.choice([1, 3])
    shape = (batch, 2 * side, 2 * side, out)
    options = {"strideW": 2, "strideH": 2, "padding": 0}
    operands = (ints(*shape), (out, kernel, kernel, channels), (batch, side, side, channels))
    return Sample("TRANSPOSE_CONV", operands, (shape,), ("TransposeConvOptions", options))
