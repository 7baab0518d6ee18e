"""Windows over an image: padding, dilation and flips in ops that every runtime gets right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf


def window_padding(op: Any, axis: int, size: int, window: int, stride: int) -> tuple[int, int]:
    """Zeros that a convolution or pooling op adds before and after one axis.

    Args:
        op: has the attribute ``padding``: SAME, VALID or EXPLICIT.
        axis: 1 (height) or 2 (width).
        size: of the input along the axis.
        window: size of the (dilated) window.
        stride: of the window.
    """
    padding = op.get_attr("padding").decode()
    if padding == "VALID":
        return 0, 0
    if padding == "EXPLICIT":
        explicit = op.get_attr("explicit_paddings")
        return explicit[2 * axis], explicit[2 * axis + 1]
    positions = -(-size // stride)
    total = max((positions - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def pad(t: Any, pads: Sequence[Sequence[int]], value: float = 0.0) -> Any:
    """``tf.pad`` with a constant, the axes merged first that need no padding of their own.

    XNNPACK copies a padded row of few numbers twenty times as slowly as one of many.
    """
    shape = t.shape.as_list()
    if not any(before or after for before, after in pads):
        return t
    sizes: list[int] = []
    merged: list[list[int]] = []
    for size, (before, after) in zip(shape, pads, strict=True):
        if sizes and not (before or after):
            # Neighbours along this axis stay neighbours: padding moves in whole blocks.
            sizes[-1] *= size
            merged[-1] = [merged[-1][0] * size, merged[-1][1] * size]
        else:
            sizes.append(size)
            merged.append([before, after])
    padded = tf.pad(tf.reshape(t, sizes), merged, constant_values=value)
    full = [size + sum(pair) for size, pair in zip(shape, pads, strict=True)]
    return tf.reshape(padded, full)


def dilate(t: Any, step: int, axis: int) -> Any:
    """Put ``step - 1`` zeros between neighbours: a length ``n`` becomes ``(n - 1) * step + 1``."""
    if step == 1 or t.shape[axis] == 1:
        return t
    shape = t.shape.as_list()
    count = shape[axis]
    widened = tf.expand_dims(t, axis + 1)
    pads = [[0, 0]] * len(widened.shape)
    pads[axis + 1] = [0, step - 1]
    shape[axis] = count * step
    spread = tf.reshape(pad(widened, pads), shape)
    shape[axis] = (count - 1) * step + 1
    return tf.slice(spread, [0] * len(shape), shape)


def every(t: Any, start: int, count: int, step: int, axis: int) -> Any:
    """The ``count`` entries from ``start`` on along one axis, ``step`` apart.

    In slices of whole blocks: STRIDED_SLICE takes ten times as long. The axis must reach to
    ``(start // step + count) * step``.
    """
    shape = t.shape.as_list()
    begin, remainder = [0] * len(shape), start % step
    begin[axis] = start - remainder
    block = [*shape[:axis], count * step, *shape[axis + 1 :]]
    if step == 1 or block != shape:
        t = tf.slice(t, begin, block)
    if step == 1:
        return t
    before, after = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    steps = tf.reshape(t, [before * count, step * after])
    if after == 1:
        # Single numbers are slow to pick out one by one, but quick to transpose.
        first = tf.slice(tf.transpose(steps), [remainder, 0], [1, before * count])
    else:
        first = tf.slice(steps, [0, remainder * after], [before * count, after])
    return tf.reshape(first, [*shape[:axis], count, *shape[axis + 1 :]])


def flip(w: Any) -> Any:
    """A filter ``[h, w, ...]`` turned by 180 degrees.

    One axis at a time: reversing two at once is wrong in tflite-runtime 2.14.
    """
    if w.shape[0] > 1:
        w = tf.reverse(w, [0])
    if w.shape[1] > 1:
        w = tf.reverse(w, [1])
    return w


def fit(t: Any, rows: tuple[int, int], columns: tuple[int, int]) -> Any:
    """Cut or zero-pad axes 1 and 2 of ``[n, h, w, c]``: (first row, number of rows) and so on.

    The first row may be negative and the last beyond the end: what is outside is zero.
    """
    pads = [[0, 0]]
    begin = [0]
    for axis, (first, count) in ((1, rows), (2, columns)):
        size = t.shape[axis]
        pads.append([max(-first, 0), max(first + count - size, 0)])
        begin.append(max(first, 0))
    t = pad(t, [*pads, [0, 0]])
    shape = [t.shape[0], rows[1], columns[1], t.shape[3]]
    if t.shape.as_list() == shape:
        return t
    return tf.slice(t, [*begin, 0], shape)
