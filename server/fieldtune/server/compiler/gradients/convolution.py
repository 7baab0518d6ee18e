"""Gradients of convolutions, as convolutions or matrix products.

The filter's gradient is the correlation of the input with ``dy``, the batch taking the place of the
channels; the input's gradient is the convolution of ``dy``, spread out by the stride, with the
filter turned by 180 degrees. With many channels both are faster as matrix products: the runtimes
have quick kernels for convolutions with constant filters only (a third of the time for 32 channels
of 16x16, measured by ``simulations/benchmarks/train_step.py``).
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from fieldtune.server.compiler.gradients.geometry import (
    dilate,
    every,
    fit,
    flip,
    window_padding,
)
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

        if window.is_dense() and (x.shape[3] >= _MANY or window.filter == (1, 1)):
            # The plain op is left without a user, and the converter drops it.
            return _as_product(window.pad(x), w, plain.shape), gradients
        return plain, gradients

    return convolve(x, w)


def _as_product(padded: Any, w: Any, shape: Any) -> Any:
    """A convolution of stride 1, ``[n, h, w, out]``: every window's numbers times the filter."""
    kh, kw, channels, filters = w.shape
    rows, columns = shape[1], shape[2]
    cells = [
        tf.slice(padded, [0, i, j, 0], [shape[0], rows, columns, channels])
        for i in range(kh)
        for j in range(kw)
    ]
    seen = tf.concat(cells, 3) if len(cells) > 1 else padded
    flat = tf.reshape(seen, [-1, kh * kw * channels])
    return tf.reshape(tf.matmul(flat, tf.reshape(w, [-1, filters])), shape)


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
    (kh, kw), (sh, sw), (dh, dw) = window.filter, window.stride, window.dilation
    channels, multiplier = w.shape[2], w.shape[3]
    spread = dilate(dilate(dy, sh, 1), sw, 2)
    rows, columns = dy.shape[1], dy.shape[2]
    # Output channel c * multiplier + m belongs to input channel c.
    seen_x = x if multiplier == 1 else _repeat_channels(x, multiplier)
    padded = window.pad_for_steps(seen_x)
    taps = []
    for i in range(kh):
        for j in range(kw):
            seen = every(every(padded, i * dh, rows, sh, 1), j * dw, columns, sw, 2)
            taps.append(tf.reduce_sum(tf.reshape(seen * dy, [-1, channels * multiplier]), 0))
    filter_gradient = tf.reshape(tf.stack(taps), w.shape)
    room = window.room(spread)
    turned = flip(w)
    if multiplier == 1:
        dx = tf.nn.depthwise_conv2d(room, turned, [1, 1, 1, 1], "VALID", dilations=[dh, dw])
        return dx, filter_gradient
    # Each output channel on its own, then the sum over those of one input channel.
    turned = tf.reshape(turned, [kh, kw, channels * multiplier, 1])
    each = tf.nn.depthwise_conv2d(room, turned, [1, 1, 1, 1], "VALID", dilations=[dh, dw])
    n, height, width = x.shape[:3]
    grouped = tf.reshape(each, [n * height * width, channels, multiplier])
    return tf.reshape(tf.reduce_sum(grouped, 2), x.shape), filter_gradient


def _repeat_channels(x: Any, times: int) -> Any:
    n, height, width, channels = x.shape
    flat = tf.reshape(x, [n * height * width, channels, 1])
    repeated = tf.concat([flat] * times, 2)
    return tf.reshape(repeated, [n, height, width, channels * times])


_MANY = 16
"""Channels from which on a matrix product is faster than a convolution."""


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

    def is_dense(self) -> bool:
        """Whether the window moves in steps of 1 and has no holes."""
        return self.stride == (1, 1) and self.dilation == (1, 1)

    def pad(self, x: Any) -> Any:
        """The input with the zeros that the convolution adds."""
        if not any(sum(pad) for pad in self.padding):
            return x
        return tf.pad(x, [[0, 0], *self.padding, [0, 0]])

    def pad_for_steps(self, x: Any) -> Any:
        """The padded input, cut or continued to what ``every`` needs for each cell."""
        spans = []
        for axis in (0, 1):
            stride, reach = self.stride[axis], self.reach[axis]
            positions = (sum(self.padding[axis]) + self.size[axis] - reach) // stride + 1
            needed = ((reach - 1) // stride + positions) * stride
            spans.append((-self.padding[axis][0], needed))
        return fit(x, spans[0], spans[1])

    def room(self, spread: Any) -> Any:
        """``dy``, spread out, with room so that a VALID convolution ends in the input's size."""
        spans = [
            (1 - self.reach[axis] + self.padding[axis][0], self.size[axis] + self.reach[axis] - 1)
            for axis in (0, 1)
        ]
        return fit(spread, spans[0], spans[1])

    def input_gradient(self, dy: Any, w: Any) -> Any:
        """The gradient by the input of a convolution."""
        if self.stride != (1, 1) and self.dilation == (1, 1):
            shape = [dy.shape[0], *self.size, w.shape[2]]
            return tf.nn.conv2d_transpose(dy, w, shape, self.stride, self.name)
        spread = dilate(dilate(dy, self.stride[0], 1), self.stride[1], 2)
        turned = tf.transpose(flip(w), [0, 1, 3, 2])
        if self.is_dense() and w.shape[3] >= _MANY:
            shape = [dy.shape[0], *self.size, w.shape[2]]
            return _as_product(self.room(spread), turned, shape)
        return tf.nn.conv2d(self.room(spread), turned, 1, "VALID", dilations=self.dilation)

    def filter_gradient(self, x: Any, dy: Any) -> Any:
        """The gradient by the filter of a convolution, ``[h, w, in, out]``.

        ``dy`` is the filter of a convolution over the input, its points a stride apart, moved in
        steps of the dilation.
        """
        rows, columns = (
            (dy.shape[axis + 1] - 1) * self.stride[axis]
            + (self.filter[axis] - 1) * self.dilation[axis]
            + 1
            for axis in (0, 1)
        )
        top, left = (pad[0] for pad in self.padding)
        seen = fit(x, (-top, rows), (-left, columns))
        if self.is_dense() and (x.shape[3] >= _MANY or self.filter == (1, 1)):
            return self._filter_product(seen, dy)
        dw = tf.nn.conv2d(
            tf.transpose(seen, [3, 1, 2, 0]),
            tf.transpose(dy, [1, 2, 0, 3]),
            [1, *self.dilation, 1],
            "VALID",
            dilations=self.stride,
        )
        return tf.transpose(dw, [1, 2, 0, 3])

    def _filter_product(self, seen: Any, dy: Any) -> Any:
        (kh, kw), channels, filters = self.filter, seen.shape[3], dy.shape[3]
        flat = tf.reshape(dy, [-1, filters])
        taps = []
        for i in range(kh):
            for j in range(kw):
                size = [dy.shape[0], dy.shape[1], dy.shape[2], channels]
                cell = tf.reshape(tf.slice(seen, [0, i, j, 0], size), [-1, channels])
                taps.append(tf.matmul(cell, flat, transpose_a=True))
        return tf.reshape(tf.stack(taps) if len(taps) > 1 else taps[0], [kh, kw, channels, filters])
