"""Which op type has which gradient of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from tensorflow.python.framework import ops

from fieldtune.profiles.common.errors import CompileError

OVERRIDES: dict[str, str] = {}
"""Op type -> name of the gradient registered for it."""

Gradient = TypeVar("Gradient", bound=Callable[..., Any])


def gradient(*op_types: str) -> Callable[[Gradient], Gradient]:
    """Register a function ``(op, *output_gradients) -> input gradients`` for these op types."""

    def register(function: Gradient) -> Gradient:
        for op_type in op_types:
            name = f"Fieldtune{op_type}"
            ops.RegisterGradient(name)(function)
            OVERRIDES[op_type] = name
        return function

    return register


def forget_graphs() -> None:
    """Let go of the gradients that ``tf.custom_gradient`` registered while models were traced.

    TensorFlow keeps each, and with it the whole graph, for the life of the process: 5 MB a model.
    """
    registered = ops.gradient_registry._registry
    for name in [name for name in registered if name.startswith("CustomGradient-")]:
        del registered[name]


def layer_of(op: Any) -> str:
    """The Keras layer that an op belongs to, from its name scope."""
    scopes = [scope for scope in str(op.name).split("/")[:-1] if scope]
    return "/".join(scopes) or str(op.name)


def unsupported(op: Any, what: str, instead: str) -> CompileError:
    """The error for an op that cannot be trained: which layer, what, and what to use instead."""
    return CompileError(f"layer {layer_of(op)!r}: {what} cannot be trained with TFLite; {instead}")
