"""Input and output of the compiler as plain values, without TensorFlow."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from fieldtune.profiles.common.errors import CompileError

SCHEMA_VERSION = 1

Loss = Literal[
    "sparse_categorical_crossentropy",
    "mse",
    "mae",
    "huber",
]
Optimizer = Literal["sgd", "adam", "adamw", "rmsprop", "adagrad"]
Extra = Literal["weight_decay", "clip_norm", "proximal"]
Variant = Literal["fp32", "fp16", "dynamic", "int8"]

HYPERPARAMETERS: Mapping[str, tuple[str, ...]] = {
    "sgd": ("learning_rate", "momentum"),
    "adam": ("learning_rate", "beta_1", "beta_2", "epsilon"),
    "adamw": ("learning_rate", "beta_1", "beta_2", "epsilon", "weight_decay"),
    "rmsprop": ("learning_rate", "rho", "epsilon"),
    "adagrad": ("learning_rate", "epsilon"),
}
"""The inputs that each optimizer takes; ``CompileOptions.extras`` come after them."""

DEFAULTS: Mapping[str, float] = {
    "learning_rate": 0.01,
    "momentum": 0.0,
    "beta_1": 0.9,
    "beta_2": 0.999,
    "epsilon": 1e-7,
    "rho": 0.9,
    "weight_decay": 0.0,
    "clip_norm": 0.0,
    "proximal": 0.0,
    "seed": 0.0,
}
"""Values of hyperparameters that a study does not set (Keras's defaults)."""


MODELS = (
    "autoencoder",
    "cnn",
    "cnn1d",
    "ds_cnn",
    "gru",
    "logistic",
    "mlp",
    "mobilenet",
    "resnet8",
    "transformer",
)
"""Names of the built-in models."""


class WeightSpec(BaseModel):
    """One weight of the model; its place in the flat vector follows from the order."""

    model_config = ConfigDict(frozen=True)
    name: str
    shape: tuple[int, ...]
    dtype: str
    trainable: bool

    @property
    def size(self) -> int:
        """Its number of elements."""
        return math.prod(self.shape)


class Manifest(BaseModel):
    """What an artefact is and what it costs.

    ``work`` holds the work of ``train`` and ``evaluate`` and, as ``infer``, of the deployable
    float variant at batch 1; ``flops_per_step`` is one call of ``train``. ``model_bytes`` is the
    size of that variant. ``train_arena_bytes`` and ``infer_arena_bytes`` are the memory that the
    runtime allocates for training and for inference, workspaces and op tables included, measured
    and rounded up to 16 KiB.
    ``hyperparameters`` are the float32 ``[1]`` inputs of ``train``; ``seed`` is among them when
    the model draws random numbers (dropout): any number, different for each client and round.
    """

    model_config = ConfigDict(frozen=True)
    schema_version: int = SCHEMA_VERSION
    artefact_sha256: str
    input_shape: tuple[int, ...]
    classes: int
    micro_batch: int
    hyperparameters: tuple[str, ...]
    weights: tuple[WeightSpec, ...]
    parameters: int
    flops_per_step: float
    work: dict[str, Any]
    train_arena_bytes: int
    infer_arena_bytes: int
    artefact_bytes: int
    model_bytes: int


@dataclass(frozen=True)
class Artefact:
    """A trainable ``.tflite`` and the weights to start from.

    ``initial_weights`` is float32 ``[manifest.parameters]``: every weight in manifest order, each
    flattened in C order.
    """

    model: bytes
    initial_weights: NDArray[np.float32]
    manifest: Manifest

    def __post_init__(self) -> None:
        if hashlib.sha256(self.model).hexdigest() != self.manifest.artefact_sha256:
            raise ValueError("the artefact's bytes do not match its manifest")
        if self.initial_weights.shape != (self.manifest.parameters,):
            raise ValueError("the initial weights do not match the manifest")


@dataclass(frozen=True)
class CompileOptions:
    """How to compile a model.

    Args:
        micro_batch: samples per call of ``train``; larger effective batches accumulate.
        loss: one of :data:`Loss`.
        optimizer: one of :data:`Optimizer`.
        seed: of the initial weights.
        label_smoothing: of the cross-entropy, 0 to 1.
        nesterov: Nesterov momentum (sgd only).
        extras: further inputs of ``train``, left out by default because each costs time at every
            step: ``weight_decay`` (decoupled), ``clip_norm`` (global gradient norm, 0 = off) and
            ``proximal`` (FedProx's mu; the anchor is what ``load`` was given).

    Raises:
        CompileError: a value is out of range or unknown.
    """

    micro_batch: int = 8
    loss: Loss = "sparse_categorical_crossentropy"
    optimizer: Optimizer = "sgd"
    seed: int = 0
    label_smoothing: float = 0.0
    nesterov: bool = False
    extras: tuple[Extra, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.micro_batch <= 1024:
            raise CompileError(f"micro_batch = {self.micro_batch}: choose 1 to 1024")
        if not 0 <= self.label_smoothing < 1:
            raise CompileError(f"label_smoothing = {self.label_smoothing}: choose 0 up to 1")
        if not 0 <= self.seed < 2**32:
            raise CompileError(f"seed = {self.seed}: choose 0 to 4294967295")
        _one_of("loss", self.loss, get_args(Loss))
        _one_of("optimizer", self.optimizer, get_args(Optimizer))
        for extra in self.extras:
            _one_of("extras", extra, get_args(Extra))
        # One order and no repeats, so that equal options have equal cache keys.
        object.__setattr__(self, "extras", tuple(sorted(set(self.extras))))
        if self.nesterov and self.optimizer != "sgd":
            raise CompileError(f"nesterov = true needs optimizer = 'sgd', not {self.optimizer!r}")

    @property
    def hyperparameters(self) -> tuple[str, ...]:
        """The optimizer's inputs in order, extras included, without ``seed``."""
        own = HYPERPARAMETERS[self.optimizer]
        return own + tuple(extra for extra in self.extras if extra not in own)


@dataclass(frozen=True)
class ModelSpec:
    """A model to compile.

    Args:
        model: a built-in model's name or ``"package.module:function"``.
        knobs: keyword arguments of the builder.
        input_shape: of one sample.
        classes: number of classes (logits).
        options: how to compile it.
    """

    model: str
    knobs: Mapping[str, int | float | str | bool]
    input_shape: tuple[int, ...]
    classes: int
    options: CompileOptions = field(default_factory=CompileOptions)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON header or a cache key."""
        return {
            "model": self.model,
            "knobs": dict(sorted(self.knobs.items())),
            "input_shape": list(self.input_shape),
            "classes": self.classes,
            "options": asdict(self.options),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ModelSpec:
        """The spec that :meth:`to_json` was called on."""
        options = dict(data["options"])
        options["extras"] = tuple(options["extras"])
        return cls(
            model=data["model"],
            knobs=data["knobs"],
            input_shape=tuple(data["input_shape"]),
            classes=data["classes"],
            options=CompileOptions(**options),
        )


def unflatten(
    weights: tuple[WeightSpec, ...], flat: NDArray[np.float32]
) -> Iterator[NDArray[np.float32]]:
    """Each weight of a flat vector in its own shape, in manifest order."""
    at = 0
    for spec in weights:
        yield flat[at : at + spec.size].reshape(spec.shape)
        at += spec.size


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise CompileError(f"{name} = {value!r}: choose one of {', '.join(choices)}")
