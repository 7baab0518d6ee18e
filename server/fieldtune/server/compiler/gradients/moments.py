"""Mean and variance, and normalising by them, with gradients of few operations on the data.

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


def batch_norm(
    x: Any, mean: Any, variance: Any, offset: Any | None, scale: Any | None, epsilon: float
) -> Any:
    """``x`` normalised by its own moments over all axes but the last, which x's gradient includes.

    Ioffe and Szegedy, "Batch Normalization", ICML 2015: the equations of section 3, gathered so
    that ``dx = dy * a + (x * b + c)`` with vectors ``a``, ``b`` and ``c``.

    Args:
        x: ``[..., c]``.
        mean: ``[c]``, of ``x``.
        variance: ``[c]``, of ``x``.
        offset: ``[c]`` or none.
        scale: ``[c]`` or none.
        epsilon: added to the variance.
    """
    axes = list(range(len(x.shape) - 1))
    count = math.prod(x.shape[:-1])
    mean, variance = tf.stop_gradient(mean), tf.stop_gradient(variance)
    given = [t for t in (offset, scale) if t is not None]

    @tf.custom_gradient  # type: ignore[untyped-decorator]  # TensorFlow ships no types
    def normalise(x: Any, *given: Any) -> Any:
        root = tf.math.rsqrt(variance + epsilon)
        factor = root if scale is None else root * given[-1]
        shift = -mean * factor if offset is None else given[0] - mean * factor

        def gradient(dy: Any) -> Any:
            d_offset = tf.reduce_sum(dy, axes)
            d_scale = (tf.reduce_sum(dy * x, axes) - mean * d_offset) * root
            share = factor * (-1.0 / count)
            b = share * root * d_scale
            c = share * d_offset - b * mean
            d_given = [d for d, t in ((d_offset, offset), (d_scale, scale)) if t is not None]
            return dy * factor + (x * b + c), *d_given

        return x * factor + shift, gradient

    return normalise(x, *given)
