"""Small models for small data."""

from __future__ import annotations

from typing import Any

import keras

from fieldtune.profiles.errors import CompileError

layers = keras.layers


def mlp(*, input_shape: tuple[int, ...], classes: int, width: int = 32, depth: int = 1) -> Any:
    """``depth`` dense layers of ``width`` units with ReLU."""
    inputs = keras.Input(input_shape)
    h = layers.Flatten()(inputs) if len(input_shape) > 1 else inputs
    for _ in range(depth):
        h = layers.Dense(width, activation="relu")(h)
    return keras.Model(inputs, layers.Dense(classes)(h), name="mlp")


def cnn(*, input_shape: tuple[int, ...], classes: int, width: int = 8, depth: int = 2) -> Any:
    """``depth`` times a 3x3 convolution with ReLU and a 2x2 max pool, the width doubling."""
    inputs = keras.Input(input_shape)
    h = inputs
    for level in range(depth):
        if min(h.shape[1:3]) < 2:
            raise CompileError(
                f"model 'cnn': depth = {depth} halves {input_shape[0]}x{input_shape[1]} images to "
                f"nothing: choose depth at most {level}"
            )
        h = layers.Conv2D(width * 2**level, 3, padding="same", activation="relu")(h)
        h = layers.MaxPooling2D(2)(h)
    return keras.Model(inputs, layers.Dense(classes)(layers.Flatten()(h)), name="cnn")
