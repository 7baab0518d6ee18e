"""Gradients of pooling."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from fieldtune.server.compiler.gradients.geometry import window_padding
from fieldtune.server.compiler.gradients.registry import gradient, unsupported


@gradient("MaxPool")
def max_pool(op: Any, dy: Any) -> Any:
    """The first maximum of a window, in row-major order, takes its gradient, as in TensorFlow."""
    x, y = op.inputs[0], op.outputs[0]
    _, kh, kw, _ = op.get_attr("ksize")
    if [1, kh, kw, 1] != list(op.get_attr("strides")):
        raise unsupported(op, "overlapping max pooling", "make its strides equal to its window")
    n, h, w, c = y.shape
    height, width = x.shape[1], x.shape[2]
    ph, pw = max(h * kh - height, 0), max(w * kw - width, 0)
    top, _ = window_padding(op, 1, height, kh, kh)
    left, _ = window_padding(op, 2, width, kw, kw)
    if ph or pw:
        pads = [[0, 0], [top, ph - top], [left, pw - left], [0, 0]]
        x = tf.pad(x, pads, constant_values=x.dtype.min)
    free = tf.ones_like(y)
    rows = []
    for i in range(kh):
        cells = []
        for j in range(kw):
            seen = x[:, i : i + (h - 1) * kh + 1 : kh, j : j + (w - 1) * kw + 1 : kw, :]
            hit = tf.cast(tf.equal(seen, y), dy.dtype) * free
            free = free - hit
            cells.append(hit * dy)
        rows.append(tf.reshape(tf.stack(cells, 3), [n, h, w * kw, c]))
    g = tf.reshape(tf.stack(rows, 2), [n, h * kh, w * kw, c])
    g = tf.slice(g, [0, top, left, 0], [n, min(height, h * kh), min(width, w * kw), c])
    return tf.pad(g, [[0, 0], [0, max(height - h * kh, 0)], [0, max(width - w * kw, 0)], [0, 0]])


@gradient("AvgPool")
def average_pool(op: Any, dy: Any) -> Any:
    """Each cell of a window takes an equal share."""
    x = op.inputs[0]
    _, kh, kw, _ = op.get_attr("ksize")
    n, h, w, c = op.outputs[0].shape
    height, width = x.shape[1], x.shape[2]
    if [1, kh, kw, 1] != list(op.get_attr("strides")) or h * kh > height or w * kw > width:
        raise unsupported(
            op, "overlapping or padded average pooling", "make its strides equal to its window"
        )
    g = dy / float(kh * kw)
    g = tf.reshape(tf.stack([g] * kw, 3), [n, h, w * kw, c])
    g = tf.reshape(tf.stack([g] * kh, 2), [n, h * kh, w * kw, c])
    return tf.pad(g, [[0, 0], [0, height - h * kh], [0, width - w * kw], [0, 0]])
