"""Gradients of convolutions, as convolutions.

With ``dy`` spread out by the stride, the filter's gradient is the correlation of the input with it,
the batch taking the place of the channels, and the input's gradient is its convolution with the
filter turned by 180 degrees.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from fieldtune.server.compiler.gradients.geometry import dilate, fit, flip, window_padding
from fieldtune.server.compiler.gradients.registry import gradient


@gradient("Conv2D")
def conv2d(op: Any, dy: Any) -> tuple[Any, Any]:
    """Gradients of ``Conv2D`` with any stride and padding (NHWC)."""
    x, w = op.inputs
    (_, sh, sw, _) = op.get_attr("strides")
    kh, kw = w.shape[0], w.shape[1]
    height, width = x.shape[1], x.shape[2]
    top, _ = window_padding(op, 1, height, kh, sh)
    left, _ = window_padding(op, 2, width, kw, sw)
    spread = dilate(dilate(dy, sh, 1), sw, 2)
    seen = fit(x, (-top, kh + spread.shape[1] - 1), (-left, kw + spread.shape[2] - 1))
    dw = tf.nn.conv2d(
        tf.transpose(seen, [3, 1, 2, 0]), tf.transpose(spread, [1, 2, 0, 3]), 1, "VALID"
    )
    dw = tf.transpose(dw, [1, 2, 0, 3])
    turned = tf.transpose(flip(w), [0, 1, 3, 2])
    room = fit(spread, (1 - kh + top, height + kh - 1), (1 - kw + left, width + kw - 1))
    return tf.nn.conv2d(room, turned, 1, "VALID"), dw


@gradient("DepthwiseConv2dNative")
def depthwise(op: Any, dy: Any) -> tuple[Any, Any]:
    """Gradients of ``DepthwiseConv2dNative`` with depth multiplier 1."""
    x, w = op.inputs
    (_, sh, sw, _) = op.get_attr("strides")
    kh, kw = w.shape[0], w.shape[1]
    height, width = x.shape[1], x.shape[2]
    top, _ = window_padding(op, 1, height, kh, sh)
    left, _ = window_padding(op, 2, width, kw, sw)
    spread = dilate(dilate(dy, sh, 1), sw, 2)
    rows, columns = spread.shape[1], spread.shape[2]
    taps = [
        tf.reduce_sum(fit(x, (i - top, rows), (j - left, columns)) * spread, [0, 1, 2])
        for i in range(kh)
        for j in range(kw)
    ]
    dw = tf.reshape(tf.stack(taps), w.shape)
    room = fit(spread, (1 - kh + top, height + kh - 1), (1 - kw + left, width + kw - 1))
    return tf.nn.depthwise_conv2d(room, flip(w), [1, 1, 1, 1], "VALID"), dw

