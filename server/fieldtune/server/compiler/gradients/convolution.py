"""Gradients of convolutions, as convolutions.

With ``dy`` spread out by the stride, the filter's gradient is the correlation of the input with it,
the batch taking the place of the channels, and the input's gradient is its convolution with the
filter turned by 180 degrees.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from fieldtune.server.compiler.gradients.geometry import dilate, fit, flip, window_padding
from fieldtune.server.compiler.gradients.registry import gradient, unsupported


@gradient("Conv2D")
def conv2d(op: Any, dy: Any) -> tuple[Any, Any]:
    """Gradients of ``Conv2D`` with any stride, dilation and padding (NHWC)."""
    x, w = op.inputs
    window = _Window(op, x, w)
    return window.input_gradient(dy, w), window.filter_gradient(x, dy)


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
    padded = window.pad(seen_x)
    taps = []
    for i in range(kh):
        for j in range(kw):
            top, left = i * dh, j * dw
            seen = padded[
                :,
                top : top + (rows - 1) * sh + 1 : sh,
                left : left + (columns - 1) * sw + 1 : sw,
                :,
            ]
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


class _Window:
    """The geometry of one convolution from ``x`` ``[n, h, w, c]`` with filter ``w``."""

    def __init__(self, op: Any, x: Any, w: Any) -> None:
        if op.get_attr("data_format") != b"NHWC":
            raise unsupported(op, "channels-first data", "use data_format='channels_last'")
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

    def pad(self, x: Any) -> Any:
        """The input with the zeros that the convolution adds."""
        if not any(sum(pad) for pad in self.padding):
            return x
        return tf.pad(x, [[0, 0], *self.padding, [0, 0]])

    def room(self, spread: Any) -> Any:
        """``dy``, spread out, with room so that a VALID convolution ends in the input's size."""
        spans = [
            (1 - self.reach[axis] + self.padding[axis][0], self.size[axis] + self.reach[axis] - 1)
            for axis in (0, 1)
        ]
        return fit(spread, spans[0], spans[1])

    def input_gradient(self, dy: Any, w: Any) -> Any:
        """The gradient by the input of a convolution."""
        spread = dilate(dilate(dy, self.stride[0], 1), self.stride[1], 2)
        turned = tf.transpose(flip(w), [0, 1, 3, 2])
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
        dw = tf.nn.conv2d(
            tf.transpose(seen, [3, 1, 2, 0]),
            tf.transpose(dy, [1, 2, 0, 3]),
            [1, *self.dilation, 1],
            "VALID",
            dilations=self.stride,
        )
        return tf.transpose(dw, [1, 2, 0, 3])
