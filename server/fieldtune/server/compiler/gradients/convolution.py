"""Convolutions and their gradients, as matrix products.

The runtimes have quick kernels for convolutions with constant filters only: gathering what each
window sees and a matrix product take a third of the time, measured by
``simulations/benchmarks/train_step.py``. The filter's gradient takes the same gathered numbers; the
input's gradient gathers ``dy`` and multiplies by the filter turned by 180 degrees. What would be
too large to gather stays a convolution: of the input with ``dy``, the batch taking the place of the
channels, and of ``dy``, spread out by the stride, with the turned filter.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

from fieldtune.server.compiler.gradients.columns import Columns
from fieldtune.server.compiler.gradients.geometry import dilate, every, fit, flip, window_padding
from fieldtune.server.compiler.gradients.products import product
from fieldtune.server.compiler.gradients.registry import gradient, unsupported


@gradient("Conv2D")
def conv2d(op: Any, dy: Any) -> tuple[Any, Any]:
    """Gradients of ``Conv2D`` with any stride, dilation and padding (NHWC)."""
    x, w = op.inputs
    window = _Window(op, x, w)
    return window.input_gradient(dy, w), window.filter_gradient(x, dy)


def conv2d_forward(
    x: Any, w: Any, strides: tuple[int, int], padding: str, dilations: tuple[int, int]
) -> Any:
    """``tf.nn.conv2d`` (NHWC), as a matrix product where that is faster, with its gradients.

    Args:
        x: ``[n, h, w, c]``.
        w: ``[kh, kw, c, out]``.
        strides: by axis.
        padding: SAME or VALID.
        dilations: by axis.
    """

    @tf.custom_gradient  # type: ignore[untyped-decorator]  # TensorFlow ships no types
    def convolve(x: Any, w: Any) -> Any:
        plain = tf.nn.conv2d(x, w, [1, *strides, 1], padding, dilations=[1, *dilations, 1])
        window = _Window(plain.op, x, w)

        def gradients(dy: Any) -> tuple[Any, Any]:
            return window.input_gradient(dy, w), window.filter_gradient(x, dy)

        columns = window.columns(x)
        if columns is None:
            return plain, gradients
        # The plain op is left without a user, and the converter drops it.
        return tf.reshape(columns.times(tf.reshape(w, [-1, w.shape[3]])), plain.shape), gradients

    return convolve(x, w)


@gradient("Conv2DBackpropInput")
def conv2d_transpose(op: Any, dy: Any) -> tuple[None, Any, Any]:
    """Gradients of a transposed convolution, which is the input gradient of a convolution.

    Its own input takes the place of that convolution's ``dy`` and the other way round.
    """
    _, w, x = op.inputs
    window = _Window(op, op.outputs[0], w)
    height, width = window.stride
    dx = tf.nn.conv2d(
        dy, w, [1, height, width, 1], op.get_attr("padding").decode(), dilations=window.dilation
    )
    return None, window.filter_gradient(dy, x), dx


@gradient("DepthwiseConv2dNative")
def depthwise(op: Any, dy: Any) -> tuple[Any, Any]:
    """Gradients of ``DepthwiseConv2dNative`` with any stride, dilation and multiplier."""
    x, w = op.inputs
    window = _Window(op, x, w)
    (kh, kw), (dh, dw) = window.filter, window.dilation
    channels, multiplier = w.shape[2], w.shape[3]
    # Output channel c * multiplier + m belongs to input channel c.
    wide = x if multiplier == 1 else _repeat_channels(x, multiplier)
    # Each output channel on its own, then the sum over those of one input channel.
    each = w if multiplier == 1 else tf.reshape(w, [kh, kw, channels * multiplier, 1])
    if window.stride == (1, 1):
        # Both gradients look at dy from each cell. Slices of x would be taken long before dy is
        # there, and kept until then.
        room = window.room(dy)
        taps = window.taps(wide, room)
        dx = tf.nn.depthwise_conv2d(room, flip(each), [1, 1, 1, 1], "VALID", dilations=[dh, dw])
    else:
        taps = window.strided_taps(wide, dy)
        dx = window.strided_depthwise(dy, each)
    filter_gradient = tf.reshape(taps, w.shape)
    if multiplier == 1:
        return dx, filter_gradient
    n, height, width = x.shape[:3]
    grouped = tf.reshape(dx, [n * height * width, channels, multiplier])
    return tf.reshape(tf.reduce_sum(grouped, 2), x.shape), filter_gradient


def _repeat_channels(x: Any, times: int) -> Any:
    n, height, width, channels = x.shape
    flat = tf.reshape(x, [n * height * width, channels, 1])
    repeated = tf.concat([flat] * times, 2)
    return tf.reshape(repeated, [n, height, width, channels * times])


_MOST = 1 << 23
"""Numbers that a convolution written as a matrix product may gather (32 MiB)."""


class _Window:
    """The geometry of one convolution from ``x`` ``[n, h, w, c]`` with filter ``w``."""

    def __init__(self, op: Any, x: Any, w: Any) -> None:
        if op.get_attr("data_format") != b"NHWC":
            raise unsupported(op, "channels-first data", "use data_format='channels_last'")
        self.name = op.get_attr("padding").decode()
        self.filter = (w.shape[0], w.shape[1])
        self.stride = tuple(op.get_attr("strides")[1:3])
        self.dilation = tuple(op.get_attr("dilations")[1:3])
        self.size = (x.shape[1], x.shape[2])
        self.reach = tuple(
            (size - 1) * step + 1 for size, step in zip(self.filter, self.dilation, strict=True)
        )
        self.padding = tuple(
            window_padding(op, axis + 1, self.size[axis], self.reach[axis], self.stride[axis])
            for axis in (0, 1)
        )

    def columns(self, x: Any) -> Columns | None:
        """What the window sees at each position, unless it is too much to keep."""
        grid = tuple(self.positions(axis) for axis in (0, 1))
        if x.shape[0] * math.prod(grid) * math.prod(self.filter) * x.shape[3] > _MOST:
            return None
        padded = self.pad_for_steps(x)
        return Columns(padded, self.filter, grid, self.stride, self.dilation)

    def positions(self, axis: int) -> int:
        """How many steps the window makes."""
        room = sum(self.padding[axis]) + self.size[axis] - self.reach[axis]
        return int(room // self.stride[axis] + 1)

    def pad_for_steps(self, x: Any) -> Any:
        """The padded input, cut or continued to what ``every`` needs for each cell."""
        spans = []
        for axis in (0, 1):
            stride, reach = self.stride[axis], self.reach[axis]
            needed = ((reach - 1) // stride + self.positions(axis)) * stride
            spans.append((-self.padding[axis][0], needed))
        return fit(x, spans[0], spans[1])

    def room(self, spread: Any) -> Any:
        """``dy``, spread out, with room so that a VALID convolution ends in the input's size."""
        spans = [
            (1 - self.reach[axis] + self.padding[axis][0], self.size[axis] + self.reach[axis] - 1)
            for axis in (0, 1)
        ]
        return fit(spread, spans[0], spans[1])

    def taps(self, x: Any, room: Any) -> Any:
        """The gradient of each cell of a depthwise filter of stride 1, ``[cells, c]``."""
        n, height, width, channels = x.shape
        # Rows as long as possible: columns and channels as one axis, summed over columns last.
        x = tf.reshape(x, [n, height, width * channels])
        rows = tf.reshape(room, [n, room.shape[1], room.shape[2] * channels])
        taps = []
        for i in reversed(range(self.filter[0])):
            for j in reversed(range(self.filter[1])):
                begin = [0, i * self.dilation[0], j * self.dilation[1] * channels]
                taps.append(tf.reduce_sum(tf.slice(rows, begin, x.shape) * x, [0, 1]))
        return tf.reduce_sum(tf.reshape(tf.stack(taps), [-1, width, channels]), 1)

    def strided_taps(self, x: Any, dy: Any) -> Any:
        """The gradient of each cell of a depthwise filter, ``[cells, c]``."""
        padded = self.pad_for_steps(x)
        (kh, kw), (sh, sw), (dh, dw) = self.filter, self.stride, self.dilation
        taps = []
        for i in range(kh):
            rows = every(padded, i * dh, dy.shape[1], sh, 1)
            for j in range(kw):
                seen = every(rows, j * dw, dy.shape[2], sw, 2)
                taps.append(tf.reduce_sum(seen * dy, [0, 1, 2]))
        return tf.stack(taps)

    def strided_depthwise(self, dy: Any, w: Any) -> Any:
        """The input's gradient of a depthwise convolution, for a filter ``[h, w, c, 1]``."""
        if self.dilation != (1, 1):
            spread = dilate(dilate(dy, self.stride[0], 1), self.stride[1], 2)
            return tf.nn.depthwise_conv2d(
                self.room(spread), flip(w), [1, 1, 1, 1], "VALID", dilations=list(self.dilation)
            )
        # The padded inputs a stride apart see the same taps of the filter: a convolution of stride
        # 1 for each remainder, interleaved.
        (sh, sw), (n, _, _, channels) = self.stride, dy.shape
        grid = [
            -(-(self.padding[axis][0] + self.size[axis]) // self.stride[axis]) for axis in (0, 1)
        ]
        rows = []
        for a in range(sh):
            parts = [self._depthwise_phase(dy, w, grid, (a, b)) for b in range(sw)]
            wide = tf.reshape(tf.concat(parts, 3), [n, grid[0], grid[1] * sw * channels])
            rows.append(wide)
        full = tf.reshape(tf.concat(rows, 2), [n, grid[0] * sh, grid[1] * sw, channels])
        (top, left), (height, width) = (span[0] for span in self.padding), self.size
        return fit(full, (top, height), (left, width))

    def _depthwise_phase(self, dy: Any, w: Any, grid: list[int], phase: tuple[int, int]) -> Any:
        """What the padded inputs ``phase + stride * grid`` take from ``dy``."""
        taps = [list(range(phase[axis], self.filter[axis], self.stride[axis])) for axis in (0, 1)]
        if not all(taps):
            return tf.zeros([dy.shape[0], *grid, dy.shape[3]])
        shape = [1, 1, *w.shape[2:]]
        turned = [
            tf.concat([tf.slice(w, [i, j, 0, 0], shape) for j in reversed(taps[1])], 1)
            for i in reversed(taps[0])
        ]
        spans = [(1 - len(taps[axis]), grid[axis] + len(taps[axis]) - 1) for axis in (0, 1)]
        return tf.nn.depthwise_conv2d(fit(dy, *spans), tf.concat(turned, 0), [1, 1, 1, 1], "VALID")

    def input_gradient(self, dy: Any, w: Any) -> Any:
        """The gradient by the input of a convolution."""
        grid = tuple(
            -(-(self.padding[axis][0] + self.size[axis]) // self.stride[axis])
            - self.padding[axis][0] // self.stride[axis]
            for axis in (0, 1)
        )
        taps = tuple(-(-self.filter[axis] // self.stride[axis]) for axis in (0, 1))
        many = dy.shape[0] * math.prod(grid) * math.prod(taps) * w.shape[3] > _MOST
        if not many and (self.stride == (1, 1) or self.dilation == (1, 1)):
            return self._input_product(dy, w, grid, taps)
        if self.stride != (1, 1) and self.dilation == (1, 1):
            shape = [dy.shape[0], *self.size, w.shape[2]]
            return tf.nn.conv2d_transpose(dy, w, shape, self.stride, self.name)
        spread = dilate(dilate(dy, self.stride[0], 1), self.stride[1], 2)
        turned = tf.transpose(flip(w), [0, 1, 3, 2])
        return tf.nn.conv2d(self.room(spread), turned, 1, "VALID", dilations=self.dilation)

    def _input_product(self, dy: Any, w: Any, grid: tuple[int, ...], taps: tuple[int, ...]) -> Any:
        """As one matrix product for all inputs of a stride: each has other taps of the filter.

        Grid point ``g`` stands for the padded inputs ``g * stride`` to ``g * stride + stride - 1``;
        tap ``t`` of its window over ``dy`` meets the filter at ``a + stride * (taps - 1 - t)``.
        """
        (sh, sw), (n, filters), channels = self.stride, (dy.shape[0], w.shape[3]), w.shape[2]
        first = [self.padding[axis][0] // self.stride[axis] for axis in (0, 1)]
        before = [(taps[axis] - 1) * self.dilation[axis] for axis in (0, 1)]
        spans = [(first[axis] - before[axis], grid[axis] + before[axis]) for axis in (0, 1)]
        window = (taps[0], taps[1])
        seen = Columns(fit(dy, *spans), window, grid, (1, 1), self.dilation)
        if self.filter == (1, 1) == self.stride:
            flat = tf.reshape(dy, [-1, filters])
            out = product(flat, tf.reshape(w, [channels, filters]), turn_b=True)
            return tf.reshape(out, [n, *self.size, channels])
        at = np.full((*taps, sh, sw), math.prod(self.filter))
        for t, u, a, b in np.ndindex(at.shape):
            i, j = a + sh * (taps[0] - 1 - t), b + sw * (taps[1] - 1 - u)
            if i < self.filter[0] and j < self.filter[1]:
                at[t, u, a, b] = i * self.filter[1] + j
        rows = tf.reshape(tf.transpose(w, [0, 1, 3, 2]), [-1, filters * channels])
        if at.max() == math.prod(self.filter):
            rows = tf.pad(rows, [[0, 1], [0, 0]])
        rows = tf.gather(rows, tf.constant(at.ravel(), tf.int32))
        if sh * sw > 1:
            rows = tf.reshape(rows, [math.prod(taps), sh * sw, filters, channels])
            rows = tf.transpose(rows, [0, 2, 1, 3])
        out = seen.times(tf.reshape(rows, [math.prod(taps) * filters, sh * sw * channels]))
        if sh * sw > 1:
            out = tf.reshape(out, [n * grid[0], grid[1], sh, sw * channels])
            out = tf.transpose(out, [0, 2, 1, 3])
        full = tf.reshape(out, [n, grid[0] * sh, grid[1] * sw, channels])
        top, left = (self.padding[axis][0] - first[axis] * self.stride[axis] for axis in (0, 1))
        return fit(full, (top, self.size[0]), (left, self.size[1]))

    def filter_gradient(self, x: Any, dy: Any) -> Any:
        """The gradient by the filter of a convolution, ``[h, w, in, out]``.

        ``dy`` is the filter of a convolution over the input, its points a stride apart, moved in
        steps of the dilation.
        """
        columns = self.columns(x)
        if columns is not None:
            return tf.reshape(
                columns.filter(tf.reshape(dy, [-1, dy.shape[3]])),
                [*self.filter, x.shape[3], dy.shape[3]],
            )
        height, width = (
            (dy.shape[axis + 1] - 1) * self.stride[axis]
            + (self.filter[axis] - 1) * self.dilation[axis]
            + 1
            for axis in (0, 1)
        )
        top, left = (span[0] for span in self.padding)
        seen = fit(x, (-top, height), (-left, width))
        dw = tf.nn.conv2d(
            tf.transpose(seen, [3, 1, 2, 0]),
            tf.transpose(dy, [1, 2, 0, 3]),
            [1, *self.dilation, 1],
            "VALID",
            dilations=self.stride,
        )
        return tf.transpose(dw, [1, 2, 0, 3])
