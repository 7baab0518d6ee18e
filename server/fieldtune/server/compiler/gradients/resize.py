"""Gradients of resizing and repeating.

Resizing is linear and separable: a constant matrix along each axis, applied transposed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

from fieldtune.server.compiler.gradients.registry import gradient


@gradient("ResizeBilinear")
def bilinear(op: Any, dy: Any) -> tuple[Any, None]:
    """The transposed interpolation matrices."""
    return _resized(op, dy, tf.raw_ops.ResizeBilinear), None


@gradient("ResizeNearestNeighbor")
def nearest(op: Any, dy: Any) -> tuple[Any, None]:
    """The transposed selection matrices."""
    return _resized(op, dy, tf.raw_ops.ResizeNearestNeighbor), None


def _resized(op: Any, dy: Any, resize: Any) -> Any:
    n, height, width, channels = op.inputs[0].shape
    flags = {name: op.get_attr(name) for name in ("align_corners", "half_pixel_centers")}
    by_row = _matrix(resize, flags, height, dy.shape[1])
    by_column = _matrix(resize, flags, width, dy.shape[2])
    # [n, H, W * c]: the rows by a matrix from the left, then the columns the same way.
    g = tf.matmul(by_row, tf.reshape(dy, [n, dy.shape[1], -1]))
    g = tf.reshape(g, [n * height, dy.shape[2], channels])
    return tf.reshape(tf.matmul(by_column, g), [n, height, width, channels])


def _matrix(resize: Any, flags: dict[str, bool], size: int, resized: int) -> Any:
    """``[size, resized]``: what resizing makes of each unit vector."""
    with tf.init_scope():
        units = tf.constant(np.eye(size, dtype=np.float32)[:, :, None, None])
        columns = resize(images=units, size=[resized, 1], **flags)
        return columns.numpy().reshape(size, resized)


@gradient("Tile")
def tile(op: Any, dy: Any) -> tuple[Any, None]:
    """The sum of the copies, one axis at a time (XNNPACK refuses sums of five axes and more)."""
    for axis, size in enumerate(op.inputs[0].shape.as_list()):
        wide = dy.shape.as_list()
        if wide[axis] != size:
            before, after = math.prod(wide[:axis]), math.prod(wide[axis + 1 :])
            copies = tf.reshape(dy, [before, wide[axis] // size, size * after])
            dy = tf.reshape(tf.reduce_sum(copies, 1), [*wide[:axis], size, *wide[axis + 1 :]])
    return dy, None
