"""``pareto.json``: the front, the recommendations and what they rest on, for any program."""

from __future__ import annotations

from collections.abc import Mapping
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


class ClassCounts(_Model):
    """For each class, over the test samples of all clients."""

    hits: list[int]
    """Samples correctly predicted as it."""
    predicted: list[int]
    """Samples predicted as it."""
    actual: list[int]
    """Samples that belong to it."""


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
    inference_mj: dict[str, float] = {}
    """Device type -> millijoules of an inference likewise; absent where no device tells its
    power."""
    client_errors: dict[str, list[float]] = {}
    """Device type -> the error of each of its clients, the smallest first."""
    classes: ClassCounts | None = None
    """None where there are none, and in files of versions that did not count them."""


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
    losses: list[float] = []
    """Of each round of the first of these trials, the median client's training loss."""
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
    devices: int = 0
    """Devices of the type in the fleet; 0 where that is not known. One alone can mislead: its
    correction is bounded more narrowly."""


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


class GainOf(_Model):
    """How much better one objective of a point is than that of another, on one device type."""

    log: float
    """``ln(other / this)``, of a share to be maximised ``ln((1 - other) / (1 - this))``: 0.69 is
    half the error, the energy or the latency; below 0 this point is worse."""
    noise: float
    """A gain of up to this size, either way, may be none: what the model cannot tell of learned
    values, or the cost model of two configurations on one device."""
    counted: float
    """What is left of the gain given its noise, which is what is promised."""
    within_noise: bool


class Alternative(_Model):
    """Another point that a device type could use, and its price against the recommended one."""

    trial: int
    no_worse: float | None
    """Probability of being no worse than the defaults on what is learned; None without defaults."""
    gains: dict[str, GainOf]
    """Objective -> gain over the recommended point; below 0 this one is worse."""
    why_not: str
    """Why it is not recommended."""


class Standing(_Model):
    """A point that fits a device type, and what the decision makes of it.

    The recommended point is the one with the largest sum of ``counted`` times the objectives'
    weights, of those with ``no_worse`` of at least the confidence, or where that is None of all.
    """

    trial: int
    no_worse: float | None
    counted: dict[str, float]


class Recommendation(_Model):
    """The point to deploy on a device type."""

    trial: int
    """Of the front, or that of the defaults."""
    why: str
    against_defaults: list[Against]
    no_worse: float | None = None
    """Probability of being no worse than the defaults on what is learned; None without defaults."""
    gains: dict[str, GainOf] = {}
    """Objective -> gain over the defaults; empty without defaults."""
    alternatives: list[Alternative] = []
    """Three to five where there are so many, the best first."""
    standings: list[Standing] = []
    """All points that fit the device type, the best first; by them other weights choose."""

    def best(self, weights: Mapping[str, float], confidence: float) -> int | None:
        """The trial that other weights and another confidence choose; None where none may be."""
        allowed = [e for e in self.standings if e.no_worse is None or e.no_worse >= confidence]
        found = max(
            allowed,
            key=lambda each: sum(weights.get(n, 1.0) * c for n, c in each.counted.items()),
            default=None,
        )
        return found.trial if found else None


class DecisionRule(_Model):
    """``[decision]`` of the study file, by which points were recommended."""

    weights: dict[str, float]
    """Of each objective."""
    tolerance: float
    confidence: float


class Outlook(_Model):
    """What the surrogate model of all trials expects of other ways to search."""

    random: list[float]
    """Expected share of the objectives' box that the front of 0, 1, 2, ... random configurations
    dominates; the box is that of the report (``server/report/history.py``)."""
    more: list[float]
    """Hypervolume that each of the next trials is expected to add, as a share of the present one;
    it ends where that is less than one per cent."""


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
    curve: dict[int, dict[str, float]] = {}
    """Rounds -> learned objectives then: at each rung that was reached, and at the end."""
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
    outlook: Outlook | None = None
    """None while the study runs, and for few trials."""
    state: Literal["running", "interrupted", "finished"] = "finished"
    """Of the study when this was written."""
    decision: DecisionRule | None = None
    """None in files of versions that had none."""
    known_by: dict[str, Literal["predicted", "simulated", "measured"]] = {}
    """Measure -> how its figures in ``objectives``, ``measures`` and ``costs`` are known: learned
    ones are measured, or simulated where the clients are; costs are predicted from profiles."""

    @property
    def deployable(self) -> list[Point]:
        """The points of which there are files: the front, and the defaults if not on it."""
        on_front = {point.trial for point in self.front}
        extra = self.defaults is not None and self.defaults.trial not in on_front
        return [*self.front, *([self.defaults] if self.defaults and extra else [])]

    def point(self, trial: int) -> Point:
        """A trial of the front, or the defaults.

        Raises:
            KeyError: it is neither.
        """
        found = next((each for each in self.deployable if each.trial == trial), None)
        if found is None:
            raise KeyError(trial)
        return found


def to_json(summary: Summary) -> str:
    """The file's text."""
    return summary.model_dump_json(indent=1) + "\n"
