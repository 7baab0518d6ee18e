"""YOLOX, without the decoding of boxes (Ge et al., "YOLOX: exceeding YOLO series in 2021")."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from published_layers import Net, conv, depthwise

YOLOX = {
    "nano": (0.33, 0.25, True), "tiny": (0.33, 0.375, False), "s": (0.33, 0.5, False),
    "m": (0.67, 0.75, False), "l": (1.0, 1.0, False),
}  # fmt: skip
"""Depth, width, and whether convolutions of 3 x 3 are depthwise ones."""
_POOLS = (5, 9, 13)


def yolox(depth: float, width: float, separable: bool, classes: int) -> Net:
    """The backbone, the pyramid and the heads of three levels."""

    def channels(number: int) -> int:
        return int(number * width)

    def window(x: Any, filters: int, stride: int = 1) -> Any:
        if separable:
            return conv(depthwise(x, 3, stride, "silu"), filters, act="silu")
        return conv(x, filters, 3, stride, "silu")

    def stage(x: Any, filters: int, count: int, *, shortcut: bool = True) -> Any:
        filters = channels(filters)
        half = filters // 2
        y, rest = conv(x, half, act="silu"), conv(x, half, act="silu")
        for _ in range(max(round(count * depth), 1)):
            z = window(conv(y, half, act="silu"), half)
            y = y + z if shortcut else z
        return conv(tf.concat([y, rest], -1), filters, act="silu")

    def grow(x: Any) -> Any:
        size = [2 * side for side in x.shape[1:3]]
        return tf.compat.v1.image.resize_nearest_neighbor(x, size)

    def head(x: Any) -> Any:
        wide = channels(256)
        x = conv(x, wide, act="silu")
        kinds, boxes = (window(window(x, wide), wide) for _ in range(2))
        found = [conv(boxes, 4), tf.sigmoid(conv(boxes, 1)), tf.sigmoid(conv(kinds, classes))]
        return tf.reshape(tf.concat(found, -1), [1, -1, 5 + classes])

    def net(x: Any) -> Any:
        parts = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        x = conv(tf.concat(parts, -1), channels(64), 3, act="silu")
        x = stage(window(x, channels(128), 2), 128, 3)
        third = stage(window(x, channels(256), 2), 256, 9)
        fourth = stage(window(third, channels(512), 2), 512, 9)
        x = conv(window(fourth, channels(1024), 2), channels(512), act="silu")
        pools = [tf.nn.max_pool2d(x, size, 1, "SAME") for size in _POOLS]
        x = conv(tf.concat([x, *pools], -1), channels(1024), act="silu")
        fifth = conv(stage(x, 1024, 3, shortcut=False), channels(512), act="silu")
        down = stage(tf.concat([grow(fifth), fourth], -1), 512, 3, shortcut=False)
        down = conv(down, channels(256), act="silu")
        low = stage(tf.concat([grow(down), third], -1), 256, 3, shortcut=False)
        up = tf.concat([window(low, channels(256), 2), down], -1)
        middle = stage(up, 512, 3, shortcut=False)
        up = tf.concat([window(middle, channels(512), 2), fifth], -1)
        return tf.concat([head(x) for x in (low, middle, stage(up, 1024, 3, shortcut=False))], 1)

    return net
