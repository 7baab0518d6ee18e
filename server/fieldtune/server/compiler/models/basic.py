"""Small models for small data."""

from __future__ import annotations

from typing import Any

import keras

from fieldtune.profiles.common.errors import CompileError
from fieldtune.server.compiler.models.shapes import as_sequence, flat, need_image

layers = keras.layers


def logistic(*, input_shape: tuple[int, ...], classes: int, l2: float = 0.0) -> Any:
    """Multinomial logistic regression."""
    inputs = keras.Input(input_shape)
    regularizer = keras.regularizers.L2(l2) if l2 else None
    outputs = layers.Dense(classes, kernel_regularizer=regularizer)(flat(inputs))
    return keras.Model(inputs, outputs, name="logistic")


def mlp(
    *,
    input_shape: tuple[int, ...],
    classes: int,
    width: int = 32,
    depth: int = 1,
    dropout: float = 0.0,
) -> Any:
    """``depth`` dense layers of ``width`` units with ReLU, each followed by dropout."""
    inputs = keras.Input(input_shape)
    h = flat(inputs)
    for _ in range(depth):
        h = layers.Dense(width, activation="relu")(h)
        if dropout:
            h = layers.Dropout(dropout)(h)
    return keras.Model(inputs, layers.Dense(classes)(h), name="mlp")


def cnn(
    *,
    input_shape: tuple[int, ...],
    classes: int,
    width: int = 8,
    depth: int = 2,
    dropout: float = 0.0,
) -> Any:
    """``depth`` times a 3x3 convolution with ReLU and a 2x2 max pool, the width doubling."""
    need_image("cnn", input_shape)
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
    h = layers.Flatten()(h)
    if dropout:
        h = layers.Dropout(dropout)(h)
    return keras.Model(inputs, layers.Dense(classes)(h), name="cnn")


def cnn1d(
    *, input_shape: tuple[int, ...], classes: int, width: int = 16, depth: int = 2, kernel: int = 5
) -> Any:
    """``depth`` times a convolution over time with ReLU and a max pool, then the mean over time."""
    inputs = keras.Input(input_shape)
    h = as_sequence("cnn1d", inputs)
    for level in range(depth):
        h = layers.Conv1D(width * 2**level, kernel, padding="same", activation="relu")(h)
        if h.shape[1] > 1:
            h = layers.MaxPooling1D(2)(h)
    h = layers.GlobalAveragePooling1D()(h)
    return keras.Model(inputs, layers.Dense(classes)(h), name="cnn1d")
