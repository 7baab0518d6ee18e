"""``pareto.json``: the front, the recommendations and what they rest on, for any program."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from fieldtune.profiles.common.estimate import Estimate
from fieldtune.server.compiler.manifest import Variant
from fieldtune.server.study.changes import Changes
from fieldtune.server.study.objectives import StoredObjective
from fieldtune.server.study.space import Value

SCHEMA_VERSION = 1


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class OnDevice(_Model):
    """A point as one device type sees it."""

    clients: int
    fitting: int
    costs: dict[str, Estimate | None]
    """Predicted from the device's profile, corrected by what the fleet reported; None is what the
    profile does not tell."""
    slack: dict[str, float]
    """Limit -> used / cap - 1."""

    @property
    def fits(self) -> bool:
        """Whether it fits on some client, or on the type as predicted where none is of it."""
        if self.clients:
            return self.fitting > 0
        return max(self.slack.values(), default=-1.0) <= 0


class VariantFile(_Model):
    """A deployable conversion of a point's model, measured again after it was converted."""

    bytes: int
    sha256: str
    measures: dict[str, float]
    """Over the clients' test samples, by the converted file itself."""
    test_samples: int
    inference_ms: dict[str, float] = {}
    """Device type -> median over its clients of what each measured; those that were throttled or
    swapping are left out. Simulated where the study is."""


class Point(_Model):
    """One trained trial."""

    trial: int
    variant: Variant = "fp32"
    configuration: dict[str, Value]
    objectives: dict[str, Estimate]
    """Over the fleet: learned measures as the model of all trials predicts them (of few trials: as
    observed), costs of the worst-off device type or, for energy and bytes, the clients' mean."""
    measures: dict[str, float]
    """Everything learned, objective or not, as observed over all test samples."""
    test_samples: int
    runs: int = 1
    """Trials of this configuration, over which ``measures`` are the mean."""
    devices: dict[str, OnDevice]
    variants: dict[str, VariantFile] = {}
    """What there is to deploy; filled when the study ends."""


class Reported(_Model):
    """A quantity that the clients of a device type reported, against what was predicted."""

    quantity: Literal["training", "inference", "memory", "power"]
    """A call of ``train`` (ms), a forward pass of a micro-batch (ms), the peak of training (MiB),
    the device's power meanwhile (W); absent where no device measured it."""
    predicted: float
    """By the profile alone; median over the trials."""
    reported: float
    """By the clients; median over the trials."""
    factor: Estimate
    """What predictions are multiplied by; near 1 while reports are few."""
    trials: int
    reports: int
    left_out: int
    """Reports that were not used because the device was throttled or swapping."""
    simulated: bool
    """Whether simulated clients reported it."""


class Spent(_Model):
    """What a study took of all devices of one type, over trials of every kind."""

    device_s: float
    """Seconds that they were busy with training and evaluating."""
    energy_j: float | None
    """Joules meanwhile, as measured, else by the profile's power; None where neither tells."""
    sent_bytes: float


class Share(_Model):
    """One budget of the study."""

    budget: str
    """Its key in the study file."""
    used: float
    of: float


class Against(_Model):
    """One objective of a recommendation beside the study's defaults."""

    objective: str
    value: float
    default: float
    better: bool


class Recommendation(_Model):
    """The point to deploy on a device type."""

    trial: int
    why: str
    against_defaults: list[Against]


class Attempt(_Model):
    """One line of the study's history, for the report's pictures of the whole."""

    trial: int
    state: Literal["completed", "stopped", "infeasible", "failed"]
    configuration: dict[str, Value]
    objectives: dict[str, float]
    """Of a stopped trial, learned ones as at the rung that ended it."""
    constraints: dict[str, float]
    reason: str = ""
    rounds: int = 0
    """That were trained."""
    phase: str = ""
    """What the trial was for: explore, refine, tune, validate."""
    spent: dict[str, float] = {}
    """On all devices together: ``device_s``, ``energy_j`` and ``sent_bytes``, where known."""


class Summary(_Model):
    """``pareto.json``: the front, the recommendations, and what they rest on."""

    schema_version: int = SCHEMA_VERSION
    study: str
    seed: int
    objectives: tuple[StoredObjective, ...]
    """In the file by name; a leading ``-`` says that it is maximised."""
    metric: str
    devices: dict[str, int]
    """Device type -> clients of the fleet; 0 where none was there, and all is predicted."""
    simulated: bool
    """Whether costs are simulated from profiles rather than measured on devices."""
    trials: int
    infeasible: int
    failed: int
    stopped: int = 0
    """Trials that a rung ended."""
    front: list[Point]
    recommended: dict[str, Recommendation]
    defaults: Point | None
    """The study file's own defaults, where they could be trained."""
    attempts: list[Attempt]
    reported: dict[str, list[Reported]] = {}
    """Device type -> what it reported against what was predicted."""
    spent: dict[str, Spent] = {}
    """Device type -> what the study took of its devices."""
    budget: list[Share] = []
    """What the study may spend, and how much of it is used."""
    failures: dict[str, int] = {}
    """Kind of failure -> how many messages to clients ended in it, over all trials."""
    refused: dict[str, dict[str, int]] = {}
    """Device -> reason -> how many of its reports were refused, or its updates scaled down."""
    changes: list[Changes] = []
    """What a person changed in the study while it ran."""
    importance: dict[str, dict[str, float]] = {}
    """Objective -> hyperparameter -> its share of the importance; empty for few trials."""
    state: Literal["running", "interrupted", "finished"] = "finished"
    """Of the study when this was written."""


def to_json(summary: Summary) -> str:
    """The file's text."""
    return summary.model_dump_json(indent=1) + "\n"
