"""Gradients of activations."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from fieldtune.server.compiler.gradients.registry import gradient


def positive(y: Any) -> Any:
    """1 where ``y`` is positive, for ``y`` of 0 or more without positive numbers below 1e-38.

    Two operations of XNNPACK take a third of the time of a comparison and a cast, which have no
    kernel there and so also cut the graph in two.
    """
    return tf.minimum(y * 3e38, 1.0)


@gradient("Relu")
def relu(op: Any, dy: Any) -> Any:
    """``dy`` where the output is positive."""
    return dy * positive(op.outputs[0])


@gradient("Relu6")
def relu6(op: Any, dy: Any) -> Any:
    """``dy`` strictly between the two kinks."""
    y = op.outputs[0]
    return dy * (positive(y) * positive(6.0 - y))


@gradient("LeakyRelu")
def leaky_relu(op: Any, dy: Any) -> Any:
    """``dy`` for a positive input, else ``alpha * dy``."""
    alpha = op.get_attr("alpha")
    return dy * (tf.cast(op.inputs[0] > 0.0, dy.dtype) * (1.0 - alpha) + alpha)


@gradient("Elu")
def elu(op: Any, dy: Any) -> Any:
    """``dy`` for a positive output, else ``dy * (y + 1)``, since ``y = e^x - 1`` there."""
    # min(y, 0) + 1 is both cases at once: 1 where y >= 0.
    return dy * (tf.minimum(op.outputs[0], 0.0) + 1.0)


@gradient("Selu")
def selu(op: Any, dy: Any) -> Any:
    """``dy * scale`` for an output of at least 0, else ``dy * (y + scale * alpha)``.

    TensorFlow's own converts, but takes the other side at exactly 0, where zeros often are.
    """
    y = op.outputs[0]
    # Klambauer et al., "Self-Normalizing Neural Networks", NeurIPS 2017, equation 14.
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    return dy * tf.where(y < 0.0, y + scale * alpha, scale)


@gradient("Softsign")
def softsign(op: Any, dy: Any) -> Any:
    """``dy / (1 + |x|)^2``."""
    root = 1.0 + tf.abs(op.inputs[0])
    return dy / (root * root)
