"""The messages between coordinator and client: requests to a device and its reports.

Messages hold plain values only. Only the two app modules convert them to Flower's records: the
``scalars()`` of a message and, separately, the flat weight vector. All received messages are
validated here, because the coordinator does not trust devices and devices do not trust the network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from fieldtune.profiles.common.text import printable

Weights = NDArray[np.float32]
"""All weights of a model as one vector: the tensors in the artefact's order, each in C order."""

METRICS = ("accuracy", "macro_f1", "precision", "recall", "auc")
"""Built-in metrics; each lies in 0..1 and is better when larger."""

RECONSTRUCTION = ("mse", "mae", "huber")
"""Losses of models that reconstruct their input; all other losses are for classifiers."""

Failure = Literal[
    "artefact_missing",  # the device does not have the artefact: send it with the request
    "bad_artefact",  # the artefact does not match its hash or the runtime refuses it
    "out_of_memory",
    "deadline",  # the device exceeded the time limit of the round
    "diverged",  # the trained weights are not finite
    "bad_data",  # the device's data does not fit the model
    "error",  # anything else; ``detail`` says what
    "no_reply",  # the device did not answer in time (set by the coordinator)
    "implausible",  # its report is malformed or has an impossible value (set by the coordinator)
    "sits_out",  # it was not asked, after reports that were refused (set by the coordinator)
]


Text = Annotated[str, AfterValidator(printable)]
"""A text to show: one line without control characters."""

_GROUP = re.compile(r"trial(\d{1,9})-r(\d{1,9})")


def group_of(trial: int, round: int) -> str:
    """The group id of a request, which Flower transmits in the message's metadata."""
    return f"trial{trial}-r{round}"


def numbers_of(group: str) -> tuple[int, int] | None:
    """Trial and round of a group id; None if it is not that of a request."""
    found = _GROUP.fullmatch(group)
    return (int(found[1]), int(found[2])) if found else None


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    def scalars(self) -> dict[str, Any]:
        """All fields except weights, as scalars, lists and bytes; without fields that are None."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in self.__dict__.items()
            if name != "weights" and value is not None
        }

    @classmethod
    def parse(cls, scalars: Mapping[str, Any], weights: Weights | None = None) -> Self:
        """Build a message from scalars; raises pydantic's ValidationError if they are invalid."""
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
    """The artefact itself; None if the coordinator has sent it to this device before."""
    seed: int = Field(ge=0)
    batch_size: int = Field(ge=1)
    local_epochs: int = Field(ge=1)
    hyperparameter_names: tuple[str, ...]
    hyperparameter_values: tuple[float, ...]
    """Inputs of the artefact's train signature, constant for the whole round."""

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
    """Evaluate a deployable model variant on the device's own test data."""

    trial: int = Field(ge=0)
    round: int = Field(ge=0)
    """The number of the variant within its trial."""
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
    detail: Text = Field(default="", max_length=500)
    simulated: bool = False
    """Whether the measurements below are predicted from a profile, not measured on a device."""
    wall_s: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    cpu_s: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    peak_memory_mib: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    energy_j: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    call_p50_ms: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Percentiles of the duration of one call of the model, after warm-up, in milliseconds."""
    call_p90_ms: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    call_p99_ms: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    temperature_before_c: float | None = Field(default=None, ge=-273, allow_inf_nan=False)
    temperature_after_c: float | None = Field(default=None, ge=-273, allow_inf_nan=False)
    throttled: bool | None = None
    """Whether the device throttled (heat or voltage) during the work; None if not available."""
    swapping: bool | None = None
    """Whether memory was swapped during the work; None if not available."""
    host_cpu_s: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """CPU seconds of the machine that actually ran it (for the study's CPU time statistics)."""

    @property
    def is_sound(self) -> bool:
        """Whether the measurements are valid: no known throttling or swapping."""
        return not self.throttled and not self.swapping


class TrainReport(_Report):
    """The reply to a :class:`TrainRequest`. If ``failure`` is set, other fields may be absent."""

    weights: _Checked | None = None
    samples: int = Field(default=0, ge=0)
    steps: int = Field(default=0, ge=0)
    loss: float | None = None
    """Mean loss of the last local epoch."""


class EvaluateReport(_Report):
    """The reply to an :class:`EvaluateRequest`: counts that can be summed over clients.

    For each class, ``hits`` counts the samples correctly predicted as it, ``predicted`` all samples
    predicted as it, and ``actual`` all samples that belong to it. Empty if the model reconstructs
    its input.
    """

    samples: int = Field(default=0, ge=0)
    loss_sum: float = 0.0
    hits: tuple[int, ...] = ()
    predicted: tuple[int, ...] = ()
    actual: tuple[int, ...] = ()
    value: float | None = None
    """The metric on this client's data, if it cannot be computed from the counts."""
    weight: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    inference_ms: float | None = Field(default=None, ge=0, allow_inf_nan=False)


class Description(_Message):
    """A device's description of itself, sent on request: sizes of its data, but no data."""

    client: int = Field(ge=0)
    """The device's number in a simulated fleet; a real fleet identifies devices by ``name``."""
    name: Text = Field(default="", max_length=63)
    """The name under which the device was enrolled; empty in a simulated fleet."""
    profile: Text = Field(max_length=100)
    """Name of a profile in the catalogue; empty if unknown."""
    train_samples: int = Field(default=0, ge=0)
    test_samples: int = Field(default=0, ge=0)
    input_shape: tuple[int, ...] = ()
    classes: int = Field(default=0, ge=0)
    runtime: Text = Field(max_length=200)
    """Name and version of its TFLite runtime."""
    problem: Text = Field(default="", max_length=500)
    """Why the device cannot take part, as readable text; the sizes are then absent."""
    board: Text | None = Field(default=None, max_length=200)
    """Model name from its firmware."""
    cores: int | None = Field(default=None, ge=1)
    memory_mib: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Total memory of the system, not free memory."""
