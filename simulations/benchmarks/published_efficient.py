"""EfficientNet-Lite, and the detectors that are built on it (Tan, Pang and Le, CVPR 2020)."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from published_layers import Net, classify, conv, divisible, inverted, weights

_EFFICIENT = [(1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80),
              (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)]  # fmt: skip
EFFICIENTNETS = {"0": (1.0, 1.0, 224), "1": (1.0, 1.1, 240), "2": (1.1, 1.2, 260),
                  "3": (1.2, 1.4, 280), "4": (1.4, 1.8, 300)}  # fmt: skip


def _backbone(x: Any, width: float, depth: float) -> list[Any]:
    """Results of all stages of an EfficientNet-Lite."""
    x, found = conv(x, 32, 3, 2, "relu6"), []
    for stage, (count, size, stride, expand, filters) in enumerate(_EFFICIENT):
        scaled = count if stage in (0, 6) else int(np.ceil(count * depth))
        for index in range(scaled):
            x = inverted(x, expand, divisible(filters * width), size, 1 if index else stride)
        found.append(x)
    return found


def efficientnet(width: float, depth: float) -> Net:
    """An EfficientNet-Lite."""
    return lambda x: classify(
        conv(_backbone(x, width, depth)[-1], 1280, act="relu6"), 1000
    )  # fmt: skip


EFFICIENTDETS = {
    "0": (1.0, 1.0, 64, 3, 3, 320), "1": (1.0, 1.1, 88, 4, 3, 384), "2": (1.1, 1.2, 112, 5, 3, 448),
    "3": (1.2, 1.4, 160, 6, 4, 512), "3x": (1.2, 1.4, 200, 6, 4, 640),
    "4": (1.4, 1.8, 224, 7, 4, 640),
}  # fmt: skip
"""Width, depth, channels of the pyramid, its cells, layers of the heads, resolution."""


def efficientdet(width: float, depth: float, channels: int, cells: int, layers: int) -> Net:
    """An EfficientDet-Lite, without the non-maximum suppression."""

    def separable(x: Any, filters: int, act: str | None = None) -> Any:
        kernel = weights(3, 3, x.shape[-1], 1)
        return conv(tf.nn.depthwise_conv2d(x, kernel, [1, 1, 1, 1], "SAME"), filters, act=act)

    def fuse(tensors: list[Any]) -> Any:
        return separable(tf.nn.relu6(sum(tensors[1:], tensors[0])), channels)

    def shrink(x: Any) -> Any:
        return tf.nn.max_pool2d(x, 3, 2, "SAME")

    def grow(x: Any, like: Any) -> Any:
        return tf.compat.v1.image.resize_nearest_neighbor(x, like.shape[1:3])

    def same(x: Any) -> Any:
        return conv(x, channels) if x.shape[-1] != channels else x

    def net(x: Any) -> Any:
        stages = _backbone(x, width, depth)
        sixth = shrink(conv(stages[6], channels))
        levels = [stages[2], stages[4], stages[6], sixth, shrink(sixth)]
        for _ in range(cells):
            down = [same(levels[4])]
            for level in (3, 2, 1, 0):
                down.insert(0, fuse([same(levels[level]), grow(down[0], levels[level])]))
            up = [down[0]]
            for level in (1, 2, 3):
                up.append(fuse([same(levels[level]), down[level], shrink(up[-1])]))
            levels = [*up, fuse([same(levels[4]), shrink(up[-1])])]
        heads: dict[int, list[Any]] = {810: [], 36: []}
        for level in levels:
            for outputs, found in heads.items():
                head = level
                for _ in range(layers):
                    head = separable(head, channels, "relu6")
                found.append(tf.reshape(separable(head, outputs), [1, -1, outputs // 9]))
        return tf.sigmoid(tf.concat(heads[810], 1)), tf.concat(heads[36], 1)

    return net
