"""Gradients of activations."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from fieldtune.server.compiler.gradients.registry import gradient


@gradient("Relu")
def relu(op: Any, dy: Any) -> Any:
    """``dy`` where the output is positive."""
    return dy * tf.cast(op.outputs[0] > 0.0, dy.dtype)


@gradient("Relu6")
def relu6(op: Any, dy: Any) -> Any:
    """``dy`` strictly between the two kinks."""
    y = op.outputs[0]
    return dy * tf.cast((y > 0.0) & (y < 6.0), dy.dtype)


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


@gradient("Softsign")
def softsign(op: Any, dy: Any) -> Any:
    """``dy / (1 + |x|)^2``."""
    root = 1.0 + tf.abs(op.inputs[0])
    return dy / (root * root)
