"""``pareto.json``: the front, the recommendations and what they rest on, for any program."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict

from fieldtune.profiles.common.estimate import Estimate
from fieldtune.server.compiler.manifest import Variant
from fieldtune.server.results.stored_choices import DecisionRule, Recommendation
from fieldtune.server.results.stored_files import VariantFile
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
    needs: dict[str, tuple[float, float, float]] = {}
    """Limit -> what a client needs of it: a constant, per call of ``train`` in a round, and per
    training sample of the client; by it narrower limits are judged. Empty in files of versions that
    did not tell, and of device types to which the study was retargeted."""

    used: dict[str, list[float]] = {}
    """Limit -> what a client needs of it with each number of samples in :attr:`Summary.samples`, in
    the place of ``needs``: of an algorithm that has work of its own, beyond calls of ``train``."""

    @property
    def fits(self) -> bool:
        """Whether it fits on some client, or on the type as predicted where none is of it."""
        if self.clients:
            return self.fitting > 0
        return max(self.slack.values(), default=-1.0) <= 0


class DeviceSeen(_Model):
    """What one real device did in the trials of a study."""

    updates: int
    """Number of its updates that were compared with those of the others."""
    update_norm: float | None
    """Geometric mean of these updates' norms, each as a multiple of the median norm of the updates
    of that training; None without any."""
    failures: dict[str, int]
    """Kind of failure -> how many requests to it ended in it."""


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
    calls: tuple[int, int, int] | None = None
    """Batch size, local epochs, and samples that a call of ``train`` takes at most: from them
    follows how often a client calls it in a round."""
    variants: dict[str, VariantFile] = {}
    """What there is to deploy; filled when the study ends."""


def personal_steps(points: Iterable[Point]) -> str:
    """What errors after personal steps say of a file, as sentences; empty where there are none."""
    steps = sorted({int(point.configuration.get("personal_steps", 0)) for point in points})
    if not any(steps):
        return ""
    count = f"{steps[0]}" if len(steps) == 1 else f"{steps[0]} to {steps[-1]}"
    return (
        f"Learned figures are after {count} personal steps: before it is evaluated, each client "
        "trains the global weights for that many steps on its own samples. The files hold the "
        "global model, without these steps, and their figures are its own. Only a device that "
        "trains on has the personal model; deploying a file does not make it."
    )


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


class PrivacySpent(_Model):
    """Epsilon for a device that could take part in everything, with updates averaged with noise."""

    delta: float
    largest: float
    """Of the trial that spent most."""
    study: float
    """Of all trials so far together, of those too that were stopped or failed."""
    trials: int
    """That were sent to devices."""


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
    timing: dict[str, float] = {}
    """``time_s``, ``idle_s`` and ``wasted_s``, as in
    :class:`~fieldtune.server.outcomes.trial.Timing`; empty where they are not known."""


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
    labels: tuple[str, ...] = ()
    """Names of the classes in the order of their numbers; empty where none are known."""
    partition: str = ""
    """How simulated clients' samples were distributed, in words; empty on devices, and in files of
    versions that did not tell."""
    samples: dict[str, list[tuple[int, int]]] = {}
    """Device type -> numbers of training samples, each with how many of its clients have so many;
    empty in files of versions that did not tell."""
    coverage: float = 1.0
    """Share of the fleet that must be able to take part in a trial."""
    simulated: bool
    """Whether costs are simulated from profiles rather than measured on devices."""
    trials: int
    infeasible: int
    failed: int
    stopped: int = 0
    """Trials that a rung ended."""
    front: list[Point]
    dominated: list[Point] = []
    """Trials that the front dominates, and which narrower limits may bring onto it. Of more than
    200, only those for which no other trial is at least as good in everything and needs no more of
    any limit. Empty in files of versions that did not tell, and of device types to which the study
    was retargeted."""
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
    seen: dict[str, DeviceSeen] = {}
    """Device of a real fleet -> what it did; empty where clients are simulated."""
    privacy: PrivacySpent | None = None
    """None where updates are averaged without noise."""
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
    def exported(self) -> list[Point]:
        """The points whose files a study writes: the recommended ones, and the defaults."""
        trials = {chosen.trial for chosen in self.recommended.values()}
        if self.defaults is not None:
            trials.add(self.defaults.trial)
        return [point for point in self.stored if point.trial in trials]

    @property
    def deployable(self) -> list[Point]:
        """The front, and the defaults if not on it."""
        on_front = {point.trial for point in self.front}
        extra = self.defaults is not None and self.defaults.trial not in on_front
        return [*self.front, *([self.defaults] if self.defaults and extra else [])]

    @property
    def stored(self) -> list[Point]:
        """All trials of which there is a point."""
        return [*self.deployable, *self.dominated]

    def point(self, trial: int) -> Point:
        """A trial of the front, the defaults, or a dominated trial that is stored.

        Raises:
            KeyError: it is none of them.
        """
        found = next((each for each in self.stored if each.trial == trial), None)
        if found is None:
            raise KeyError(trial)
        return found


def to_json(summary: Summary) -> str:
    """The file's text."""
    return summary.model_dump_json(indent=1) + "\n"
