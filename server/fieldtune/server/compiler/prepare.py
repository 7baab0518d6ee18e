"""Prepares a model for tracing, without changing its weights or results.

Recurrent layers are unrolled: a loop in the graph has no gradient in built-in ops.
"""

from __future__ import annotations

from typing import Any

import keras

from fieldtune.profiles.common.errors import CompileError

MAX_STEPS = 256
"""Longest sequence that is unrolled: each step is a copy of the cell, forward and backward."""


def prepare(model: Any) -> None:
    """Make every recurrent layer of a model unroll its steps.

    Raises:
        CompileError: a sequence is too long or of unknown length.
    """
    for layer in model._flatten_layers():
        for node in layer._inbound_nodes if _recurrent(layer) else ():
            shape = node.input_tensors[0].shape
            steps = shape[1] if len(shape) > 1 else None
            if steps is None or steps > MAX_STEPS:
                raise CompileError(
                    f"layer {layer.name!r} runs over {steps or 'an unknown number of'} steps, at "
                    f"most {MAX_STEPS} can be unrolled: shorten the sequence first, for example "
                    "with a strided Conv1D"
                )
        if isinstance(layer, keras.layers.RNN):
            layer.unroll = True


def _recurrent(layer: Any) -> bool:
    return isinstance(layer, keras.layers.RNN | keras.layers.Bidirectional)
