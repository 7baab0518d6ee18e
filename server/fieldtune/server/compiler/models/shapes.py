"""Inputs as the models want them."""

from __future__ import annotations

from typing import Any

import keras

from fieldtune.profiles.common.errors import CompileError


def need_image(model: str, input_shape: tuple[int, ...]) -> None:
    """Refuse what is no ``[height, width, channels]``.

    Raises:
        CompileError: names the shape and a model that takes it.
    """
    if len(input_shape) != 3:
        raise CompileError(
            f"model {model!r} takes images [height, width, channels], the data is "
            f"{list(input_shape)}: use 'cnn1d', 'gru' or 'mlp'"
        )


def as_sequence(model: str, inputs: Any) -> Any:
    """``[batch, steps, features]`` of a sequence, or of an image row by row.

    Raises:
        CompileError: the data has neither shape.
    """
    shape = tuple(inputs.shape[1:])
    if len(shape) == 2:
        return inputs
    if len(shape) == 3:
        return keras.layers.Reshape((shape[0], shape[1] * shape[2]))(inputs)
    raise CompileError(
        f"model {model!r} takes [steps, features] or images, the data is {list(shape)}: use 'mlp'"
    )


def flat(inputs: Any) -> Any:
    """One vector per sample."""
    return keras.layers.Flatten()(inputs) if len(inputs.shape) > 2 else inputs
