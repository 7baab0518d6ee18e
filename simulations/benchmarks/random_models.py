"""Random models for :mod:`cost_model`: varied in layer kinds and sizes, the same for a number.

No TensorFlow is imported before :func:`build` is called, which happens in the compile process.
"""

from __future__ import annotations

import json
import math
import random
from typing import Any

from fieldtune.server.compiler.manifest import CompileOptions, ModelSpec

_ACTIVATIONS = ["relu", "relu", "relu6", "swish", "tanh", "sigmoid", "gelu", "elu", "hard_swish"]


def drawn(seed: int, number: int) -> ModelSpec:
    """The spec that a number stands for: one in six a built-in model, the others drawn layers."""
    rng = random.Random(f"{seed}/{number}")
    kind = rng.choice(["builtin", "image", "image", "separable", "vector", "sequence"])
    options = CompileOptions(
        micro_batch=rng.choice([1, 4, 8, 8, 16, 32]),
        optimizer=rng.choice(["sgd", "sgd", "adam", "rmsprop"]),
    )
    if kind == "builtin":
        return _builtin(rng, options)
    shape, layers = {
        "image": _image, "separable": _separable, "vector": _vector, "sequence": _sequence
    }[kind](rng)  # fmt: skip
    knobs = {"recipe": json.dumps(layers)}
    return ModelSpec("random_models:build", knobs, shape, rng.choice([2, 10, 35, 100]), options)


def _builtin(rng: random.Random, options: CompileOptions) -> ModelSpec:
    name = rng.choice(
        ["mlp", "cnn", "ds_cnn", "resnet8", "autoencoder", "mobilenet", "cnn1d", "gru",
         "transformer", "logistic"]
    )  # fmt: skip
    side, channels = rng.choice([12, 16, 28, 32, 48]), rng.choice([1, 3])
    width = rng.choice([8, 12, 16, 24, 32])
    shape: tuple[int, ...] = (side, side, channels)
    knobs: dict[str, Any] = {"width": width, "depth": rng.randint(1, 3)}
    if name == "logistic":
        knobs = {}
    elif name == "mlp":
        knobs = {"width": 4 * width, "depth": rng.randint(1, 4)}
    elif name == "ds_cnn":
        shape, knobs = (49, 10, 1), knobs | {"dropout": 0.0}
    elif name == "autoencoder":
        shape = (rng.choice([64, 256, 640]),)
        options = CompileOptions(options.micro_batch, "mse", options.optimizer)
    elif name == "mobilenet":
        shape = (rng.choice([32, 48, 96]),) * 2 + (3,)
        knobs = {"alpha": rng.choice([0.125, 0.25, 0.5]), "depth": rng.randint(1, 5)}
    elif name == "cnn1d":
        shape = (rng.choice([32, 64, 128, 256]), rng.randint(1, 16))
    elif name == "gru":
        shape, knobs = (rng.choice([8, 16, 28]), rng.randint(2, 28)), {"width": width}
    elif name == "transformer":
        shape = (rng.choice([16, 32, 49, 64]), rng.randint(4, 24))
        knobs = {"width": rng.choice([8, 16, 32, 64]), "depth": rng.randint(1, 2)}
    return ModelSpec(name, knobs, shape, rng.choice([2, 10, 35]), options)


_Drawn = tuple[tuple[int, ...], list[list[Any]]]


def _image(rng: random.Random) -> _Drawn:
    side = rng.choice([8, 12, 16, 20, 28, 32, 40, 48])
    layers: list[list[Any]] = []
    width, left = rng.choice([4, 6, 8, 12, 16, 24, 32]), side
    for _ in range(rng.randint(1, 4)):
        stride = rng.choice([1, 1, 2]) if left >= 8 else 1
        layers.append(
            ["Conv2D", {"filters": width, "kernel_size": rng.choice([1, 3, 3, 3, 5]),
                        "strides": stride, "padding": "same"}]
        )  # fmt: skip
        left = -(-left // stride)
        layers += _norm_and_activation(rng)
        if rng.random() < 0.3:
            layers.append(["residual", {"filters": width, "kernel": rng.choice([1, 3])}])
        if left >= 4 and rng.random() < 0.4:
            layers.append([rng.choice(["MaxPooling2D", "AveragePooling2D"]), {"pool_size": 2}])
            left //= 2
        width = min(int(width * rng.choice([1, 1.5, 2])), 96)
    layers.append([rng.choice(["Flatten", "GlobalAveragePooling2D"]), {}])
    if rng.random() < 0.4:
        layers.append(["Dense", {"units": rng.choice([16, 32, 64]), "activation": "relu"}])
    return (side, side, rng.choice([1, 3])), layers


def _separable(rng: random.Random) -> _Drawn:
    side = rng.choice([16, 24, 32, 40, 48, 64])
    width = rng.choice([8, 12, 16, 24, 32])
    layers: list[list[Any]] = [
        ["Conv2D", {"filters": width, "kernel_size": 3, "strides": 2, "padding": "same"}]
    ]
    layers += _norm_and_activation(rng)
    left = side // 2
    for _ in range(rng.randint(1, 4)):
        stride = rng.choice([1, 2]) if left >= 8 else 1
        left = -(-left // stride)
        layers.append(
            ["DepthwiseConv2D",
             {"kernel_size": rng.choice([3, 3, 5]), "strides": stride, "padding": "same"}]
        )  # fmt: skip
        layers += _norm_and_activation(rng)
        width = min(int(width * rng.choice([1, 1.5, 2])), 128)
        layers.append(["Conv2D", {"filters": width, "kernel_size": 1}])
        layers += _norm_and_activation(rng)
        if rng.random() < 0.2:
            layers.append(["excite", {}])
    layers.append(["GlobalAveragePooling2D", {}])
    return (side, side, 3), layers


def _vector(rng: random.Random) -> _Drawn:
    layers: list[list[Any]] = []
    for _ in range(rng.randint(1, 5)):
        units = rng.choice([8, 16, 24, 32, 48, 64, 100, 128, 200, 256])
        layers.append(["Dense", {"units": units}])
        layers += _norm_and_activation(rng)
    return (rng.choice([8, 13, 32, 64, 100, 256, 512, 784]),), layers


def _sequence(rng: random.Random) -> _Drawn:
    steps, features = rng.choice([8, 12, 16, 24, 32]), rng.choice([2, 4, 6, 12, 16, 24])
    layers: list[list[Any]] = []
    width = rng.choice([8, 16, 24, 32])
    for _ in range(rng.randint(1, 2)):
        kind = rng.choice(["Conv1D", "Conv1D", "GRU", "LSTM", "SimpleRNN", "attention"])
        if kind == "Conv1D":
            more = {"kernel_size": rng.choice([3, 5]), "padding": "same"}
            layers.append([kind, {"filters": width, **more}])
            layers += _norm_and_activation(rng)
        elif kind == "attention":
            layers.append([kind, {"heads": rng.choice([1, 2, 4]), "size": 8}])
            layers.append(["LayerNormalization", {}])
        else:
            layers.append([kind, {"units": width, "return_sequences": True, "unroll": True}])
    layers.append([rng.choice(["Flatten", "GlobalAveragePooling1D"]), {}])
    return (steps, features), layers


def _norm_and_activation(rng: random.Random) -> list[list[Any]]:
    layers: list[list[Any]] = []
    if rng.random() < 0.4:
        layers.append([rng.choice(["BatchNormalization"] * 2 + ["LayerNormalization"]), {}])
    if rng.random() < 0.9:
        layers.append(["Activation", {"activation": rng.choice(_ACTIVATIONS)}])
    return layers


def build(*, recipe: str, input_shape: tuple[int, ...], classes: int) -> Any:
    """The model of a recipe: a JSON list of ``[layer, arguments]``; its last layer gives logits."""
    import keras

    inputs = keras.Input(input_shape)
    h = inputs
    for name, arguments in json.loads(recipe):
        if name == "residual":
            inner = keras.layers.Conv2D(
                arguments["filters"], arguments["kernel"], padding="same", activation="relu"
            )(h)
            h = keras.layers.Add()([h, inner])
        elif name == "excite":
            scale = keras.layers.GlobalAveragePooling2D(keepdims=True)(h)
            scale = keras.layers.Conv2D(h.shape[-1], 1, activation="sigmoid")(scale)
            h = keras.layers.Multiply()([h, scale])
        elif name == "attention":
            h = keras.layers.MultiHeadAttention(arguments["heads"], arguments["size"])(h, h)
        else:
            h = getattr(keras.layers, name)(**arguments)(h)
    if len(h.shape) > 2:
        h = keras.layers.Reshape((math.prod(h.shape[1:]),))(h)
    return keras.Model(inputs, keras.layers.Dense(classes)(h))
