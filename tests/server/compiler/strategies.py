"""Hypothesis strategies that draw models from every supported layer, valid in their shapes.

No TensorFlow here: a drawn case is a :class:`ModelSpec` whose model is built by :mod:`recipes` in
the compile process.
"""

import json
from dataclasses import dataclass, field
from typing import Any, get_args

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from fieldtune.server.compiler.manifest import CompileOptions, Loss, ModelSpec

ACTIVATIONS = [
    "relu",
    "relu6",
    "leaky_relu",
    "elu",
    "selu",
    "sigmoid",
    "tanh",
    "swish",
    "gelu",
    "hard_swish",
    "hard_sigmoid",
    "softplus",
    "softsign",
    "softmax",
    "mish",
]


@dataclass
class _Net:
    """Layers so far and the shape that they end in."""

    shape: tuple[int, ...]
    layers: list[list[Any]] = field(default_factory=list)

    def add(self, name: str, shape: tuple[int, ...] | None = None, **arguments: Any) -> None:
        self.layers.append([name, arguments])
        self.shape = shape or self.shape


@st.composite
def specs(draw: st.DrawFn) -> ModelSpec:
    """A model of up to six layers, with its loss, optimizer and micro-batch."""
    kind = draw(st.sampled_from(["vector", "sequence", "sequence", "image", "image", "tokens"]))
    size = st.integers(4, 9)
    if kind == "tokens":
        net = _Net((draw(size),))
        width = draw(st.integers(1, 5))
        net.add("Embedding", (net.shape[0], width), input_dim=11, output_dim=width)
        input_shape: tuple[int, ...] = net.shape[:1]
    else:
        rank = {"vector": 1, "sequence": 2, "image": 3}[kind]
        spatial = tuple(draw(size) for _ in range(rank - 1))
        input_shape = (*spatial, draw(st.integers(1, 4)))
        net = _Net(input_shape)
    for _ in range(draw(st.integers(1, 6))):
        draw(st.sampled_from(_STEPS[len(net.shape)]))(draw, net)
    options = draw(_options())
    recipe = json.dumps(net.layers)
    classes = draw(st.integers(2, 5))
    return ModelSpec("recipes:model", {"recipe": recipe}, input_shape, classes, options)


def drawn(number: int) -> ModelSpec:
    """The spec that this number stands for: as varied as the strategy, always the same.

    One run of Hypothesis tries variations of one example; here each number is a run of its own, of
    which the first, simplest example is left out.
    """
    found: list[ModelSpec] = []

    @seed(number)
    @settings(
        max_examples=2,
        phases=[Phase.generate],
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(specs())
    def collect(spec: ModelSpec) -> None:
        found.append(spec)

    collect()
    return found[-1]


@st.composite
def _options(draw: st.DrawFn) -> CompileOptions:
    loss = draw(st.sampled_from(get_args(Loss)))
    optimizer = draw(st.sampled_from(["sgd", "sgd", "adam", "adamw", "rmsprop", "adagrad"]))
    return CompileOptions(
        micro_batch=draw(st.integers(1, 5)),
        loss=loss,
        optimizer=optimizer,
        label_smoothing=draw(st.sampled_from([0.0, 0.1])) if "entropy" in loss else 0.0,
        nesterov=optimizer == "sgd" and draw(st.booleans()),
        extras=tuple(draw(st.sets(st.sampled_from(["weight_decay", "clip_norm", "proximal"])))),
        seed=draw(st.integers(0, 99)),
    )


def _activation(draw: Any, net: _Net) -> None:
    name = draw(st.sampled_from([*ACTIVATIONS, "LeakyReLU", "ReLU", "ELU", "PReLU"]))
    if name == "ReLU":
        net.add("ReLU", max_value=draw(st.sampled_from([None, 1.0, 6.0])))
    elif name in ("LeakyReLU", "ELU", "PReLU"):
        net.add(name)
    else:
        net.add("Activation", activation=name)


def _normalisation(draw: Any, net: _Net) -> None:
    groups = [n for n in (1, 2, 3) if net.shape[-1] % n == 0]
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("BatchNormalization", {"momentum": 0.8, "frozen": draw(st.booleans())}),
        ("BatchNormalization", {"scale": False, "epsilon": 0.01}),
        ("LayerNormalization", {}),
        ("GroupNormalization", {"groups": draw(st.sampled_from(groups))}),
    ]
    name, arguments = draw(st.sampled_from(kinds))
    net.add(name, **arguments)


def _noise(draw: Any, net: _Net) -> None:
    kinds = [("Dropout", {"rate": 0.3}), ("GaussianNoise", {"stddev": 0.5})]
    if len(net.shape) > 1:
        kinds.append((f"SpatialDropout{len(net.shape) - 1}D", {"rate": 0.3}))
    name, arguments = draw(st.sampled_from(kinds))
    net.add(name, **arguments)


def _dense(draw: Any, net: _Net) -> None:
    units = draw(st.integers(1, 6))
    net.add("Dense", (*net.shape[:-1], units), units=units, **_weights(draw))


def _weights(draw: Any) -> dict[str, Any]:
    """What any layer with weights may have."""
    more: dict[str, Any] = {}
    if draw(st.booleans()):
        more["activation"] = draw(st.sampled_from(ACTIVATIONS))
    if draw(st.integers(0, 4)) == 0:
        more["use_bias"] = False
    if draw(st.integers(0, 4)) == 0:
        more["kernel_regularizer"] = draw(st.sampled_from(["l1", "l2"]))
    if draw(st.integers(0, 5)) == 0:
        more["frozen"] = True
    return more


def _window(draw: Any, net: _Net, most: int = 4) -> dict[str, Any]:
    """A window that fits, with its strides and padding."""
    spatial = net.shape[:-1]
    padding = draw(st.sampled_from(["same", "valid"]))
    size = [draw(st.integers(1, min(most, n))) for n in spatial]
    strides = [draw(st.integers(1, 3)) for _ in spatial]
    return {"size": size, "strides": strides, "padding": padding}


def _after(net: _Net, window: dict[str, Any], reach: list[int]) -> tuple[int, ...]:
    return tuple(
        -(-n // s) if window["padding"] == "same" else (n - k) // s + 1
        for n, k, s in zip(net.shape, reach, window["strides"], strict=False)
    )


def _convolution(draw: Any, net: _Net) -> None:
    window = _window(draw, net)
    rank = len(net.shape) - 1
    kind = draw(st.sampled_from(["Conv", "Conv", "DepthwiseConv", "SeparableConv", "Transpose"]))
    channels = net.shape[-1]
    filters = draw(st.integers(1, 5))
    arguments: dict[str, Any] = {"padding": window["padding"], "strides": window["strides"]}
    arguments["kernel_size"] = window["size"]
    if kind == "Transpose":
        out = tuple(
            n * s if window["padding"] == "same" else n * s + max(k - s, 0)
            for n, k, s in zip(net.shape, window["size"], window["strides"], strict=False)
        )
        if max(out) <= 16:
            more = _weights(draw)
            net.add(f"Conv{rank}DTranspose", (*out, filters), filters=filters, **arguments, **more)
        return
    reach = window["size"]
    if kind == "Conv" and draw(st.booleans()) and window["padding"] == "same":
        arguments["strides"] = window["strides"] = [1] * rank
        arguments["dilation_rate"] = draw(st.integers(1, 3))
    if kind in ("DepthwiseConv", "SeparableConv"):
        # TensorFlow's depthwise convolutions take one stride for both axes.
        arguments["strides"] = window["strides"] = [window["strides"][0]] * rank
        multiplier = draw(st.integers(1, 2))
        arguments["depth_multiplier"] = multiplier
        if kind == "DepthwiseConv":
            filters = channels * multiplier
            arguments |= {"frozen": draw(st.integers(0, 5)) == 0}
            net.add(f"DepthwiseConv{rank}D", (*_after(net, window, reach), filters), **arguments)
            return
    else:
        arguments |= _weights(draw)
        if channels % 2 == 0 and draw(st.booleans()):
            filters *= 2
            arguments["groups"] = 2
    net.add(f"{kind}{rank}D", (*_after(net, window, reach), filters), filters=filters, **arguments)


def _pooling(draw: Any, net: _Net) -> None:
    window = _window(draw, net, 3)
    rank, kind = len(net.shape) - 1, draw(st.sampled_from(["Max", "Average"]))
    if draw(st.integers(0, 3)) == 0:
        net.add(f"Global{kind}Pooling{rank}D", net.shape[-1:])
        return
    if rank == 1:
        window |= {"size": window["size"][0]}
    reach = window["size"] if isinstance(window["size"], list) else [window["size"]]
    shape = (*_after(net, window, reach), net.shape[-1])
    arguments = {"strides": window["strides"] if rank > 1 else window["strides"][0]}
    net.add(
        f"{kind}Pooling{rank}D",
        shape,
        pool_size=window["size"],
        padding=window["padding"],
        **arguments,
    )


def _resize(draw: Any, net: _Net) -> None:
    rank, channels = len(net.shape) - 1, net.shape[-1]
    kind = draw(st.sampled_from(["UpSampling", "ZeroPadding", "Cropping"]))
    if kind == "UpSampling":
        if max(net.shape[:-1]) > 8:
            return
        factors = [draw(st.integers(1, 2)) for _ in range(rank)]
        shape = tuple(n * f for n, f in zip(net.shape, factors, strict=False))
        net.add(f"UpSampling{rank}D", (*shape, channels), size=factors if rank > 1 else factors[0])
        return
    sides = [[draw(st.integers(0, 1)), draw(st.integers(0, 1))] for _ in range(rank)]
    sign = 1 if kind == "ZeroPadding" else -1
    shape = tuple(n + sign * sum(side) for n, side in zip(net.shape, sides, strict=False))
    if min(shape) > 0:
        name = "padding" if sign > 0 else "cropping"
        net.add(f"{kind}{rank}D", (*shape, channels), **{name: sides if rank > 1 else sides[0]})


def _recurrent(draw: Any, net: _Net) -> None:
    units, keep = draw(st.integers(1, 4)), draw(st.booleans())
    arguments: dict[str, Any] = {"units": units, "return_sequences": keep}
    kind = draw(st.sampled_from(["SimpleRNN", "GRU", "LSTM"]))
    if draw(st.integers(0, 3)) == 0:
        arguments["dropout"] = 0.2
    both = draw(st.integers(0, 3)) == 0
    if not both and draw(st.integers(0, 3)) == 0:
        arguments["go_backwards"] = True
    width = 2 * units if both else units
    shape = (net.shape[0], width) if keep else (width,)
    if both:
        net.add("Bidirectional", shape, layer=[kind, arguments])
    else:
        net.add(kind, shape, **arguments)


def _attention(draw: Any, net: _Net) -> None:
    net.add(
        "attention",
        heads=draw(st.integers(1, 2)),
        size=draw(st.integers(1, 3)),
        dropout=draw(st.sampled_from([0.0, 0.2])),
        causal=draw(st.booleans()),
    )


def _shape(draw: Any, net: _Net) -> None:
    rank = len(net.shape)
    if rank == 3 and draw(st.booleans()):
        net.add("Reshape", (h := net.shape[0], net.shape[1] * net.shape[2]), target_shape=[h, -1])
        return
    axes = draw(st.permutations(range(1, rank + 1)))
    net.add("Permute", tuple(net.shape[axis - 1] for axis in axes), dims=axes)


def _same_shape(draw: Any, net: _Net) -> list[Any]:
    """A layer with weights that keeps the shape."""
    rank, channels = len(net.shape) - 1, net.shape[-1]
    if rank == 0 or draw(st.booleans()):
        return ["Dense", {"units": channels, **_weights(draw)}]
    size = draw(st.integers(1, 3))
    more = {"kernel_size": size, "padding": "same", **_weights(draw)}
    return [f"Conv{rank}D", {"filters": channels, **more}]


def _composite(draw: Any, net: _Net) -> None:
    kind = draw(st.sampled_from(["residual", "nested", "shared"]))
    if kind == "shared":
        net.add("shared", layer=_same_shape(draw, net), times=2)
    elif kind == "nested":
        net.add("nested", inner=[_same_shape(draw, net), ["BatchNormalization", {}]])
    else:
        merge = draw(st.sampled_from(["Add", "Multiply", "Concatenate", "Maximum"]))
        wide = net.shape[-1] * (2 if merge == "Concatenate" else 1)
        inner = [_same_shape(draw, net), _same_shape(draw, net)]
        net.add("residual", (*net.shape[:-1], wide), merge=merge, inner=inner)


_ANY = [_activation, _normalisation, _noise, _dense, _composite]
_SPATIAL = [_convolution, _convolution, _pooling, _resize, _shape]
_STEPS = {1: _ANY, 2: [*_ANY, *_SPATIAL, _recurrent, _attention], 3: [*_ANY, *_SPATIAL]}
