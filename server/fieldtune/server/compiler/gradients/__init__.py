"""Backward passes written in built-in TFLite ops.

TensorFlow's own gradients use ops such as ``ReluGrad`` or ``Conv2DBackpropFilter`` that no TFLite
wheel contains. A ``tf.Graph`` can be told to use other gradients for an op type, which
``tf.gradients`` honours (``GradientTape`` does not); each module here replaces those of one family.
Whatever is not replaced keeps TensorFlow's gradient, which often is built-in ops already.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from fieldtune.server.compiler.gradients import (
    activations,
    convolution,
    pooling,
    products,
    resize,
    shapes,
)
from fieldtune.server.compiler.gradients.registry import OVERRIDES

__all__ = [
    "OVERRIDES",
    "activations",
    "built_in_gradients",
    "convolution",
    "pooling",
    "products",
    "resize",
    "shapes",
]


def built_in_gradients(graph: Any) -> AbstractContextManager[None]:
    """While ops are added to ``graph``, give them the gradients of this package."""
    override: AbstractContextManager[None] = graph.gradient_override_map(OVERRIDES)
    return override
