"""Models of sequences ``[steps, features]``; an image is read row by row."""

from __future__ import annotations

from typing import Any

import keras

from fieldtune.server.compiler.models.shapes import as_sequence

layers = keras.layers


def gru(*, input_shape: tuple[int, ...], classes: int, width: int = 16, depth: int = 1) -> Any:
    """``depth`` unrolled GRU layers of ``width`` units; the last state gives the logits."""
    inputs = keras.Input(input_shape)
    h = as_sequence("gru", inputs)
    for level in range(depth):
        h = layers.GRU(width, return_sequences=level < depth - 1, unroll=True)(h)
    return keras.Model(inputs, layers.Dense(classes)(h), name="gru")


def transformer(
    *,
    input_shape: tuple[int, ...],
    classes: int,
    width: int = 16,
    depth: int = 1,
    heads: int = 2,
    dropout: float = 0.0,
) -> Any:
    """A small pre-norm encoder with learned positions; the mean over the steps gives the logits.

    After Xiong et al., "On Layer Normalization in the Transformer Architecture", ICML 2020.
    """
    inputs = keras.Input(input_shape)
    h = layers.Dense(width)(as_sequence("transformer", inputs))
    h = Positions()(h)
    for _ in range(depth):
        normed = layers.LayerNormalization(epsilon=1e-5)(h)
        attention = layers.MultiHeadAttention(heads, max(width // heads, 1), dropout=dropout)
        h = layers.Add()([h, attention(normed, normed)])
        normed = layers.LayerNormalization(epsilon=1e-5)(h)
        wide = layers.Dense(4 * width, activation="gelu")(normed)
        if dropout:
            wide = layers.Dropout(dropout)(wide)
        h = layers.Add()([h, layers.Dense(width)(wide)])
    h = layers.GlobalAveragePooling1D()(layers.LayerNormalization(epsilon=1e-5)(h))
    return keras.Model(inputs, layers.Dense(classes)(h), name="transformer")


class Positions(keras.layers.Layer):  # type: ignore[misc]  # keras ships no types
    """Adds a learned vector to each step."""

    def build(self, input_shape: Any) -> None:
        """Create the vectors, ``[steps, width]``."""
        self.positions = self.add_weight(
            shape=tuple(input_shape[1:]), initializer="truncated_normal", name="positions"
        )

    def call(self, inputs: Any) -> Any:
        """``inputs + positions``."""
        return inputs + self.positions
