"""Mean and variance with a gradient of two operations on the data.

TensorFlow's goes through a tile and a squared difference: eight operations of the data's size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf


def moments(x: Any, axes: Sequence[int], keepdims: bool) -> tuple[Any, Any]:
    """Mean and (biased) variance over some axes, as ``tf.nn.moments``.

    Args:
        x: float32, of known shape.
        axes: to average over.
        keepdims: whether these axes stay, of size 1.
    """
    rank = len(x.shape)
    over = [axis % rank for axis in axes]
    kept = [1 if axis in over else size for axis, size in enumerate(x.shape.as_list())]
    count = math.prod(x.shape[axis] for axis in over)

    @tf.custom_gradient  # type: ignore[untyped-decorator]  # TensorFlow ships no types
    def both(x: Any) -> Any:
        mean = tf.reduce_mean(x, over, keepdims=True)
        variance = tf.reduce_mean(tf.math.squared_difference(x, mean), over, keepdims=True)

        def gradient(d_mean: Any, d_variance: Any) -> Any:
            # d mean / dx = 1/n and d variance / dx = 2 (x - mean) / n.
            slope = tf.reshape(d_variance, kept) * (2.0 / count)
            return x * slope + (tf.reshape(d_mean, kept) * (1.0 / count) - slope * mean)

        return (mean, variance), gradient

    mean, variance = both(x)
    if keepdims:
        return mean, variance
    left = [size for axis, size in enumerate(x.shape.as_list()) if axis not in over]
    return tf.reshape(mean, left), tf.reshape(variance, left)
