"""Layers of which the architectures of published latency tables consist."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import numpy as np
import tensorflow as tf

Net = Callable[[Any], Any]
RNG = np.random.default_rng(0)


def weights(*shape: int) -> Any:
    """Random numbers; a latency depends on their shape alone."""
    return tf.constant(RNG.standard_normal(shape, dtype=np.float32) * 0.05)


def _active(x: Any, name: str | None) -> Any:
    if name == "hard_swish":
        return x * tf.nn.relu6(x + 3.0) * (1 / 6.0)
    return x if name is None else getattr(tf.nn, name)(x)


def conv(x: Any, filters: int, size: int = 1, stride: int = 1, act: str | None = None,
          padding: str = "SAME") -> Any:  # fmt: skip
    """A convolution with bias, and its activation."""
    y = tf.nn.conv2d(x, weights(size, size, x.shape[-1], filters), stride, padding)
    return _active(tf.nn.bias_add(y, weights(filters)), act)


def depthwise(x: Any, size: int = 3, stride: int = 1, act: str | None = None) -> Any:
    """A depthwise convolution with bias, and its activation."""
    kernel = weights(size, size, x.shape[-1], 1)
    y = tf.nn.depthwise_conv2d(x, kernel, [1, stride, stride, 1], "SAME")
    return _active(tf.nn.bias_add(y, weights(x.shape[-1])), act)


def classify(x: Any, classes: int, *, softmax: bool = True) -> Any:
    """Mean of all pixels, a dense layer, probabilities."""
    x = tf.reduce_mean(x, [1, 2])
    x = tf.matmul(x, weights(x.shape[-1], classes)) + weights(classes)
    return tf.nn.softmax(x) if softmax else x


def classify_by_conv(x: Any) -> Any:
    """The same by pooling and a convolution, as MobileNet v1 and v2 do it."""
    x = conv(tf.nn.avg_pool2d(x, x.shape[1], 1, "VALID"), 1001)
    return tf.nn.softmax(tf.reshape(x, [1, 1001]))


def divisible(value: float, by: int = 8) -> int:
    """A number of channels, as MobileNets round it."""
    near = max(by, int(value + by / 2) // by * by)
    return near + by if near < 0.9 * value else near


def inverted(x: Any, expand: float, filters: int, size: int, stride: int, act: str = "relu6",
              *, residual: bool = True) -> Any:  # fmt: skip
    """An inverted residual of MobileNet v2."""
    y = x
    if expand > 1:
        y = conv(y, int(y.shape[-1] * expand), act=act)
    y = conv(depthwise(y, size, stride, act), filters)
    return x + y if residual and stride == 1 and x.shape[-1] == filters else y
