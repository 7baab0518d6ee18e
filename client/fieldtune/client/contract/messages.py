"""The messages between coordinator and client: requests to a device and its reports.

Messages hold plain values only. Only the two app modules convert them to Flower's records: the
``scalars()`` of a message and, separately, the flat weight vector. All received messages are
validated here, because the coordinator does not trust devices and devices do not trust the network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator

from fieldtune.client.contract.encoding import Encoding
from fieldtune.client.contract.wire import Count, Number, Text, WireMessage

Weights = NDArray[np.float32]
"""All weights of a model as one vector: the tensors in the artefact's order, each in C order."""

METRICS = ("accuracy", "macro_f1", "precision", "recall", "auc")
"""Built-in metrics; each lies in 0..1 and is better when larger."""

MOST_LABELS = 10_000
"""Names of classes in a message."""

MOST_CONFUSED = 50
"""Most classes of which a confusion matrix is reported: it has their square of numbers."""

MOST_PERSONAL_STEPS = 100_000
"""Steps of local fine-tuning before an evaluation."""

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
    "late",  # it was not waited for any more (set by the coordinator)
    "dropout",  # the device stopped in the middle of its work (set in simulations)
    "lost_upload",  # its result did not arrive (set in simulations)
]


_GROUP = re.compile(r"trial(\d{1,9})-r(\d{1,9})")


def group_of(trial: int, round: int) -> str:
    """The group id of a request, which Flower transmits in the message's metadata."""
    return f"trial{trial}-r{round}"


def numbers_of(group: str) -> tuple[int, int] | None:
    """Trial and round of a group id; None if it is not that of a request."""
    found = _GROUP.fullmatch(group)
    return (int(found[1]), int(found[2])) if found else None


def _flat_float32(value: object) -> Weights:
    if not isinstance(value, np.ndarray) or value.dtype != np.float32 or value.ndim != 1:
        raise ValueError("weights must be one flat float32 vector")
    return value


_Checked = Annotated[Weights, BeforeValidator(_flat_float32)]


class _WithWeights(WireMessage):
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
    update: Encoding | None = None
    """How the trained weights are to be sent; None: as they are."""
    topk_share: float | None = Field(default=None, gt=0, le=1)
    """Share of the weights that a ``topk`` update sends."""
    download: Literal["float16"] | None = None
    """How the weights travel; they are numbers that this type has. None: float32."""
    correction: _Checked | None = None
    """SCAFFOLD's: after each step, it is subtracted times the learning rate."""
    residual: _Checked | None = None
    """What the client's earlier updates left out. Only in simulations: a device keeps its own."""
    measure_loss: bool | None = None
    """Whether to evaluate the weights on the training samples before the training."""

    @property
    def payload_bytes(self) -> int:
        """Bytes of what travels with the request, the artefact aside."""
        weights = self.weights.nbytes // (2 if self.download == "float16" else 1)
        return weights + (0 if self.correction is None else self.correction.nbytes)

    @property
    def hyperparameters(self) -> dict[str, float]:
        """Name -> value."""
        return dict(zip(self.hyperparameter_names, self.hyperparameter_values, strict=True))


@dataclass(frozen=True)
class PersonalSteps:
    """Training on the client's own samples before an evaluation."""

    steps: int
    seed: int
    batch_size: int
    hyperparameters: Mapping[str, float]


class EvaluateRequest(_WithWeights):
    """Evaluate these weights on the device's own test data.

    With ``personal_steps``, the device first trains them for so many steps on its own training
    samples; the next four fields are then as those of a :class:`TrainRequest`.
    """

    trial: int = Field(ge=0)
    round: int = Field(ge=0)
    artefact: str = Field(pattern=r"^[0-9a-f]{64}$")
    model: bytes | None = None
    metric: str
    """Name of the metric, or ``package.module:function``."""
    personal_steps: int | None = Field(default=None, ge=1, le=MOST_PERSONAL_STEPS)
    seed: int | None = Field(default=None, ge=0)
    batch_size: int | None = Field(default=None, ge=1)
    hyperparameter_names: tuple[str, ...] | None = None
    hyperparameter_values: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        fields = (self.seed, self.batch_size, self.hyperparameter_names, self.hyperparameter_values)
        if self.personal_steps is not None and None in fields:
            raise ValueError("personal steps without seed, batch size or hyperparameters")
        if len(self.hyperparameter_names or ()) != len(self.hyperparameter_values or ()):
            raise ValueError("not as many values as hyperparameters")
        return self

    @property
    def personal(self) -> PersonalSteps | None:
        """The steps before the evaluation; None where there are none."""
        if self.personal_steps is None:
            return None
        names, values = self.hyperparameter_names or (), self.hyperparameter_values or ()
        return PersonalSteps(
            steps=self.personal_steps,
            seed=self.seed or 0,
            batch_size=self.batch_size or 1,
            hyperparameters=dict(zip(names, values, strict=True)),
        )


class VariantRequest(WireMessage):
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


class _Report(WireMessage):
    trial: Count
    round: Count
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
    samples: Count = 0
    steps: Count = 0
    loss: float | None = None
    """Mean loss of the last local epoch."""
    encoded: bytes | None = None
    """The update, where the request asks for an encoding; ``weights`` is then left out."""
    residual: _Checked | None = None
    """What the update leaves out. Only in simulations: a device keeps its own."""
    start_loss: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Mean loss of the given weights on the training samples, where the request asks for it."""

    @property
    def payload_bytes(self) -> int:
        """Bytes of the weights, or of the encoded update."""
        if self.encoded is not None:
            return len(self.encoded)
        return 0 if self.weights is None else self.weights.nbytes


class EvaluateReport(_Report):
    """The reply to an :class:`EvaluateRequest`: counts that can be summed over clients.

    For each class, ``hits`` counts the samples correctly predicted as it, ``predicted`` all samples
    predicted as it, and ``actual`` all samples that belong to it. Empty if the model reconstructs
    its input.
    """

    samples: Count = 0
    loss_sum: float = 0.0
    hits: tuple[Number, ...] = ()
    predicted: tuple[Number, ...] = ()
    actual: tuple[Number, ...] = ()
    confusion: tuple[Number, ...] | None = None
    """Of a file to deploy: samples by class (rows) and by predicted class (columns), row by row.
    None from clients of earlier versions, where the device's owner does not allow it, with more
    than ``MOST_CONFUSED`` classes, and of weights in training."""
    value: float | None = None
    """The metric on this client's data, if it cannot be computed from the counts."""
    weight: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    inference_ms: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    steps: Count | None = None
    """Calls of ``train`` before the evaluation, where the request asks for personal steps."""


class Description(WireMessage):
    """A device's description of itself, sent on request: sizes of its data, but no data."""

    client: Count
    """The device's number in a simulated fleet; a real fleet identifies devices by ``name``."""
    name: Text = Field(default="", max_length=63)
    """The name under which the device was enrolled; empty in a simulated fleet."""
    profile: Text = Field(max_length=100)
    """Name of a profile in the catalogue; empty if unknown."""
    train_samples: Count = 0
    test_samples: Count = 0
    input_shape: tuple[Annotated[int, Field(ge=0, lt=2**31)], ...] = Field(
        default=(), max_length=16
    )
    classes: Count = 0
    runtime: Text = Field(max_length=200)
    """Name and version of its TFLite runtime."""
    contract: int = Field(default=1, ge=1, lt=2**31)
    """Version of the messages that it knows (:mod:`fieldtune.client.contract.version`)."""
    version: Text = Field(default="", max_length=50)
    """Of fieldtune on the device; empty in a simulated fleet, and from fieldtune 0.1."""
    problem: Text = Field(default="", max_length=500)
    """Why the device cannot take part, as readable text; the sizes are then absent."""
    board: Text | None = Field(default=None, max_length=200)
    """Model name from its firmware."""
    cores: int | None = Field(default=None, ge=1, lt=2**31)
    memory_mib: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Total memory of the system, not free memory."""
    labels: tuple[Annotated[Text, Field(max_length=100)], ...] | None = Field(
        default=None, max_length=MOST_LABELS
    )
    """Names of the classes in the order of their numbers; None where its owner gives none."""
    offset: float | None = Field(default=None, allow_inf_nan=False)
    scale: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """A raw value is trained on as ``(value - offset) / scale``; None: as it comes."""
