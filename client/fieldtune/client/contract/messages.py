"""The contract between coordinator and client: what is asked of a device and what it answers.

Plain values only. Flower's records stop at the two app modules, which carry a message as its
``scalars()`` and, beside them, the flat weight vector. Everything that arrives is validated here,
because the coordinator trusts no device and a device trusts no network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Weights = NDArray[np.float32]
"""All weights of a model as one vector, concatenated in the artefact's order, C order."""

METRICS = ("accuracy", "macro_f1", "precision", "recall", "auc")
"""Built-in metrics; each lies in 0..1 and is better when larger."""

RECONSTRUCTION = ("mse", "mae", "huber")
"""Losses of a model that is to give its input again; every other one is a classifier's."""

Failure = Literal[
    "artefact_missing",  # the device does not hold the artefact: send it along
    "bad_artefact",  # the artefact does not match its hash or the runtime refuses it
    "out_of_memory",
    "deadline",  # the device needed longer than the round allows
    "diverged",  # training ended in numbers that are not finite
    "bad_data",  # the device's data does not fit the model
    "error",  # anything else; ``detail`` says what
    "no_reply",  # the device did not answer in time (set by the coordinator)
    "implausible",  # its report holds a number that cannot be true (set by the coordinator)
]


_GROUP = re.compile(r"trial(\d{1,9})-r(\d{1,9})")


def group_of(trial: int, round: int) -> str:
    """The group of a request's message: of all that travels, what its head says of it."""
    return f"trial{trial}-r{round}"


def numbers_of(group: str) -> tuple[int, int] | None:
    """Trial and round of a group; None where it is no request's."""
    found = _GROUP.fullmatch(group)
    return (int(found[1]), int(found[2])) if found else None


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    def scalars(self) -> dict[str, Any]:
        """Every field but the weights, as scalars, lists and bytes; absent where not measured."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in self.__dict__.items()
            if name != "weights" and value is not None
        }

    @classmethod
    def parse(cls, scalars: Mapping[str, Any], weights: Weights | None = None) -> Self:
        """The message of these scalars; pydantic's ValidationError where they are not one."""
        return cls.model_validate(
            dict(scalars) if weights is None else {**scalars, "weights": weights}
        )


def _flat_float32(value: object) -> Weights:
    if not isinstance(value, np.ndarray) or value.dtype != np.float32 or value.ndim != 1:
        raise ValueError("weights must be one flat float32 vector")
    return value


_Checked = Annotated[Weights, BeforeValidator(_flat_float32)]


class _WithWeights(_Message):
    weights: _Checked


class TrainRequest(_WithWeights):
    """Train these weights for some epochs on the device's own data."""

    trial: int = Field(ge=0)
    round: int = Field(ge=0)
    artefact: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the artefact, in hexadecimal."""
    model: bytes | None = None
    """The artefact itself, where the coordinator has not sent it to this device before."""
    seed: int = Field(ge=0)
    batch_size: int = Field(ge=1)
    local_epochs: int = Field(ge=1)
    hyperparameter_names: tuple[str, ...]
    hyperparameter_values: tuple[float, ...]
    """Inputs of the artefact's train signature, each held for the whole round."""

    @property
    def hyperparameters(self) -> dict[str, float]:
        """Name -> value."""
        return dict(zip(self.hyperparameter_names, self.hyperparameter_values, strict=True))


class EvaluateRequest(_WithWeights):
    """Evaluate these weights on the device's own test data."""

    trial: int = Field(ge=0)
    round: int = Field(ge=0)
    artefact: str = Field(pattern=r"^[0-9a-f]{64}$")
    model: bytes | None = None
    metric: str
    """Name of the metric, or ``package.module:function``."""


class VariantRequest(_Message):
    """Evaluate a deployable model, as it would be deployed, on the device's own test data."""

    trial: int = Field(ge=0)
    round: int = Field(ge=0)
    """Tells the variants of a trial apart."""
    artefact: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the variant."""
    model: bytes | None = None
    metric: str
    loss: str
    """Name of the loss that the model was trained for."""


class _Report(_Message):
    trial: int = Field(ge=0)
    round: int = Field(ge=0)
    failure: Failure | None = None
    detail: str = Field(default="", max_length=500)
    simulated: bool = False
    """Whether the measurements below are a profile's prediction rather than a device's own."""
    wall_s: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    cpu_s: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    peak_memory_mib: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    energy_j: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    call_p50_ms: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Percentiles of the single calls of the model, after warm-up, in milliseconds."""
    call_p90_ms: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    call_p99_ms: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    temperature_before_c: float | None = Field(default=None, ge=-273, allow_inf_nan=False)
    temperature_after_c: float | None = Field(default=None, ge=-273, allow_inf_nan=False)
    throttled: bool | None = None
    """Whether the device was slowed for heat or voltage meanwhile; None where it does not tell."""
    swapping: bool | None = None
    """Whether memory was swapped meanwhile; None where the device does not tell."""
    host_cpu_s: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """CPU seconds spent by the machine that really ran it, to say where a study's time went."""

    @property
    def is_sound(self) -> bool:
        """Whether nothing is known to have spoiled its measurements."""
        return not self.throttled and not self.swapping


class TrainReport(_Report):
    """What came of a :class:`TrainRequest`. Where ``failure`` is set, the rest may be absent."""

    weights: _Checked | None = None
    samples: int = Field(default=0, ge=0)
    steps: int = Field(default=0, ge=0)
    loss: float | None = None
    """Mean loss of the last local epoch."""


class EvaluateReport(_Report):
    """What came of an :class:`EvaluateRequest`: counts that add up over clients.

    ``hits``, ``predicted`` and ``actual`` count, for each class, the samples that were rightly
    put in it, put in it, and that belong to it; empty where the model reconstructs its input.
    """

    samples: int = Field(default=0, ge=0)
    loss_sum: float = 0.0
    hits: tuple[int, ...] = ()
    predicted: tuple[int, ...] = ()
    actual: tuple[int, ...] = ()
    value: float | None = None
    """The metric on this client alone, where it is not a function of the counts."""
    weight: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    inference_ms: float | None = Field(default=None, ge=0, allow_inf_nan=False)


class Description(_Message):
    """What a device says of itself when the coordinator asks who is there: no data, only sizes."""

    client: int = Field(ge=0)
    """The device's number within a simulated fleet; a real fleet knows a device by its ``name``."""
    name: str = Field(default="", max_length=63)
    """What the device was enrolled as; empty in a simulated fleet."""
    profile: str
    """Of the catalogue; empty where the device does not know."""
    train_samples: int = Field(default=0, ge=0)
    test_samples: int = Field(default=0, ge=0)
    input_shape: tuple[int, ...] = ()
    classes: int = Field(default=0, ge=0)
    runtime: str
    """The TFLite runtime it trains with, name and version."""
    problem: str = Field(default="", max_length=500)
    """Why the device cannot take part, for a person to read; then the sizes are absent."""
    board: str | None = Field(default=None, max_length=200)
    """What its firmware calls it."""
    cores: int | None = Field(default=None, ge=1)
    memory_mib: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """What the system has, not what is free."""
