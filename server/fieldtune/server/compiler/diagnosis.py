"""Turns a converter error into a sentence with the layer, the op and an alternative."""

from __future__ import annotations

import re

from fieldtune.profiles.common.errors import CompileError

_OP = re.compile(r"'tf\.(\w+)' op is neither|operation 'tf\.(\w+)' that was explicitly")
_PLACE = '"([^"@]+)@'

_INSTEAD = {
    "Conv3D": "use Conv2D over the time steps or channels",
    "Erf": "use keras.activations.gelu or keras.ops.erf",
    "OptionalGetValue": "use another layer without a condition in it",
    "While": "write the steps out",
    "TensorListReserve": "write the steps out",
    "StatelessRandom": "use keras.random.dropout, uniform or normal",
    "Random": "use keras.random.dropout, uniform or normal",
    "Cumsum": "use a matrix product with a triangular matrix",
    "Unique": "use a fixed vocabulary",
}


def explain(model: str, error: Exception) -> CompileError:
    """The CompileError for what the converter raised.

    Args:
        model: its name.
        error: the converter's exception.
    """
    text = str(error)
    found = _OP.search(text)
    if found is None:
        first = text.strip().splitlines()[0] if text.strip() else type(error).__name__
        return CompileError(f"model {model!r} cannot be converted to TFLite: {first[:300]}")
    op = found.group(1) or found.group(2)
    place = re.search(rf'"{op}:", {_PLACE}', text)
    layer = _layer(place.group(1)) if place else "?"
    return CompileError(
        f"model {model!r}, layer {layer!r}: TFLite has no built-in op for {op}; {_advice(op)}"
    )


def _layer(node: str) -> str:
    """The layer's name from a node such as ``gradients/dense_1/Gelu_grad/Erfc``."""
    parts = [part for part in node.split("/") if part and part != "gradients"]
    scopes = [re.sub(r"_grad$", "", part) for part in parts[:-1]]
    return scopes[0] if scopes else parts[0]


def _advice(op: str) -> str:
    for prefix, advice in _INSTEAD.items():
        if op.startswith(prefix):
            return advice
    return "replace that layer by others that compile (the documentation lists them)"
