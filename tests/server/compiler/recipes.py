"""Builds the models that :mod:`strategies` draws; imported by the compile process only.

A recipe is JSON: a list of ``[layer, arguments]``, where a layer is a Keras class or one of the
composites below.
"""

import json
from typing import Any

import keras
import numpy as np

_COMPOSITES = ("residual", "nested", "shared", "attention")


def model(*, recipe: str, input_shape: tuple[int, ...], classes: int) -> Any:
    """The model of a recipe; its last layer gives ``classes`` logits."""
    inputs = keras.Input(input_shape)
    h = inputs
    for name, arguments in json.loads(recipe):
        h = _layer(name, arguments)(h)
    if len(h.shape) > 2:
        h = keras.layers.Flatten()(h)
    return keras.Model(inputs, keras.layers.Dense(classes)(h))


def _layer(name: str, arguments: dict[str, Any]) -> Any:
    if name in _COMPOSITES:
        return globals()[f"_{name}"](**arguments)
    arguments = dict(arguments)
    frozen = arguments.pop("frozen", False)
    if name == "Bidirectional":
        arguments = {"layer": _layer(*arguments["layer"])}
    layer = getattr(keras.layers, name)(**arguments)
    if frozen:
        layer.trainable = False
    return layer


def _residual(merge: str, inner: list[Any]) -> Any:
    """The input merged with what some layers of the same output shape make of it."""

    def call(h: Any) -> Any:
        skip = h
        for name, arguments in inner:
            h = _layer(name, arguments)(h)
        return getattr(keras.layers, merge)()([skip, h])

    return call


def _nested(inner: list[Any]) -> Any:
    """A model within the model."""
    return keras.Sequential([_layer(*one) for one in inner])


def _shared(layer: list[Any], times: int) -> Any:
    """One layer (that keeps the shape) applied several times."""
    one = _layer(*layer)

    def call(h: Any) -> Any:
        for _ in range(times):
            h = one(h)
        return h

    return call


def _attention(heads: int, size: int, dropout: float, causal: bool) -> Any:
    """Self-attention."""
    layer = keras.layers.MultiHeadAttention(heads, size, dropout=dropout)
    return lambda h: layer(h, h, use_causal_mask=causal)


def positional(
    size: int = 1, /, *more: int, width: int = 2, input_shape: tuple[int, ...], classes: int
) -> Any:
    """A parameter that a study cannot give, and one that it can."""
    raise NotImplementedError


class Described(keras.Model):
    """Has a text among its weights."""

    def get_weights(self) -> list[Any]:
        return [*super().get_weights(), np.array(["a text"])]


def zoo(*, input_shape: tuple[int, ...], classes: int, what: str) -> Any:
    """Models that are to be refused, or that show one thing."""
    layers = keras.layers
    inputs = keras.Input(input_shape)
    if what == "conv3d":
        h = layers.Conv3D(2, 2, name="cube")(inputs)
    elif what == "nothing to train":
        h = layers.Flatten()(inputs)
        return keras.Model(inputs, layers.Dense(classes, trainable=False)(h))
    elif what == "two outputs":
        h = layers.Dense(classes)(inputs)
        return keras.Model(inputs, [h, h])
    elif what == "unused weight":
        h = inputs + 0.0 * layers.Dense(input_shape[-1], name="unused")(keras.ops.sign(inputs))
        h = keras.ops.stop_gradient(h)
    elif what == "long sequence":
        h = layers.GRU(2, name="slow")(inputs)
    elif what == "text":
        return Described(inputs, layers.Dense(classes)(inputs))
    elif what == "spectral":
        h = layers.SpectralNormalization(layers.Dense(3), name="spectral")(inputs)
    elif what == "frozen":
        h = layers.Dense(3, name="fixed")(inputs)
        h = layers.BatchNormalization(name="norm", momentum=0.5)(h)
    elif what == "noise":
        # No input gets through: the loss (mse against 0) is the mean square of the noise.
        h = layers.GaussianNoise(1.0)(0.0 * inputs)
        return keras.Model(inputs, h + 0.0 * layers.Dense(classes)(inputs))
    elif what == "dropout":
        # The loss (mae against 0) is the mean of a mask that keeps 1 of 4 units, scaled by 4.
        h = layers.Dropout(0.75)(0.0 * inputs + 1.0)
        return keras.Model(inputs, h + 0.0 * layers.Dense(classes)(inputs))
    else:
        raise ValueError(f"no model {what!r}")
    model = keras.Model(inputs, layers.Dense(classes)(layers.Flatten()(h)))
    if what == "frozen":
        model.get_layer("fixed").trainable = False
    return model
