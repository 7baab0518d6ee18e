"""What becomes of a configuration: a state is a type, and each type holds just what it has."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fieldtune.profiles.common.estimate import Estimate
from fieldtune.profiles.costmodel.calibration import NONE, Corrections
from fieldtune.profiles.costmodel.cost import Cost
from fieldtune.server.study.objectives import Objective
from fieldtune.server.study.space import Configuration, Value


@dataclass(frozen=True)
class Proposal:
    """A configuration that the tuner wants tried."""

    number: int
    configuration: Configuration
    phase: str = ""
    """That it was asked for in; see :data:`~fieldtune.server.study.tuner_options.Phase`."""


@dataclass(frozen=True)
class DeviceForecast:
    """What a configuration costs on one device type of the fleet, and whether it fits."""

    clients: int
    """Clients of this type."""
    fitting: int
    """Those on which the configuration fits."""
    cost: Cost
    """Predicted by the device's profile and calibrated by what devices had reported."""
    slack: Mapping[str, float]
    """Limit -> used / cap - 1, for the client of this type that it asks most of, corrected."""
    corrections: Corrections = NONE
    """By which costs and slack are calibrated."""


@dataclass(frozen=True)
class Forecast:
    """What a configuration would cost, before any device is asked."""

    devices: Mapping[str, DeviceForecast]
    participants: tuple[int, ...]
    """Clients that can take part."""
    constraints: Mapping[str, float]
    """Name -> violation; feasible where none is above 0."""
    measures: Mapping[str, float] = field(default_factory=dict)
    """Costs of the whole fleet: of the device type that is worst off, or the mean over its clients;
    infinite where no client can take part."""

    @property
    def feasible(self) -> bool:
        """Whether every constraint holds."""
        return all(value <= 0 for value in self.constraints.values())


def objective_values(
    objectives: Sequence[Objective], measures: Mapping[str, float], forecast: Forecast
) -> dict[str, float]:
    """Each objective by name: learned ones as measured, costs of the fleet as forecast."""
    return {
        each.name: measures[each.name] if each.learned else forecast.measures[each.name]
        for each in objectives
    }


@dataclass(frozen=True)
class Choice:
    """Client configurations that shared one training, and how sure it is of them in the end."""

    configurations: tuple[Mapping[str, Value], ...]
    """Values of ``[space.client]``; the first are those that were asked for."""
    probabilities: tuple[float, ...]
    """They sum to 1."""

    @property
    def mode(self) -> int:
        """Index of the most probable one, of equals the first."""
        return self.probabilities.index(max(self.probabilities))

    @property
    def entropy(self) -> float:
        """In nats: 0 where it is sure, ``ln k`` where it knows nothing of ``k``."""
        return sum(each * math.log(1 / each) for each in self.probabilities if each > 0)

    def __str__(self) -> str:
        count = len(self.probabilities)
        return (
            f"{100 * max(self.probabilities):.0f} % for this of {count} configurations, entropy "
            f"{self.entropy:.2f} of {math.log(count):.2f}"
        )


@dataclass(frozen=True)
class Learned:
    """What training a configuration taught, over the test samples of all participants."""

    measures: Mapping[str, float]
    """``accuracy``, ``error``, ... by name."""
    samples: int
    """Test samples behind them."""
    device_s: float
    """Seconds that all participants together were busy with training."""
    failures: Mapping[str, int]
    """Kind of failure -> how many messages ended in it."""
    simulated: bool
    rounds: int = 0
    """That were done: fewer than asked for where training diverged or was stopped."""
    curve: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    """Rounds -> what was measured after so many, at each rung that was reached."""
    stopped: bool = False
    """Whether a rung ended it."""
    choice: Choice | None = None
    """Where several client configurations shared the training; its trial is that of the mode."""


@dataclass(frozen=True)
class Observation:
    """One quantity of one device type in one trial."""

    predicted: Estimate
    """By the catalogue, for the type's middle client."""
    reported: float
    """Predicted, times the median ratio of reported to predicted over all reports."""
    reports: int
    simulated: bool
    """Whether it was reported by simulated clients."""


@dataclass(frozen=True)
class Observed:
    """What the clients of one device type reported in one trial."""

    quantities: Mapping[str, Observation]
    """By name: ``training``, ``inference``, ``memory``, ``power``."""
    left_out: int
    """Reports of devices that were throttled or swapping meanwhile."""


@dataclass(frozen=True)
class Expense:
    """What a trial took of the devices of one type, all together."""

    device_s: float
    """Seconds that they were busy with training and evaluating."""
    energy_j: float | None
    """Joules meanwhile; None where neither device nor profile tells."""
    sent_bytes: float
    """Bytes that they sent."""


@dataclass(frozen=True)
class Completed:
    """A trial that was trained to its end."""

    proposal: Proposal
    forecast: Forecast
    learned: Learned
    objectives: Mapping[str, float]
    """As the optimizer is told them: costs as the profiles predict them, so that trials compare."""
    seed: int
    observed: Mapping[str, Observed] = field(default_factory=dict)
    """Device type -> what its clients reported."""
    expense: Mapping[str, Expense] = field(default_factory=dict)
    """Device type -> what was taken of it."""


@dataclass(frozen=True)
class Stopped:
    """A trial that a rung ended: what it would have come to is not known."""

    proposal: Proposal
    forecast: Forecast
    learned: Learned
    """After the rounds that were done."""
    objectives: Mapping[str, float]
    """As at that rung; costs are those of a whole trial."""
    seed: int
    stopped_after: int
    """Rounds."""
    observed: Mapping[str, Observed] = field(default_factory=dict)
    expense: Mapping[str, Expense] = field(default_factory=dict)


@dataclass(frozen=True)
class Infeasible:
    """A configuration that the limits rule out; no device was asked."""

    proposal: Proposal
    forecast: Forecast


@dataclass(frozen=True)
class Failed:
    """A configuration that could not be trained, and why."""

    proposal: Proposal
    reason: str
    failures: Mapping[str, int] = field(default_factory=dict)
    sent: bool = True
    """Whether devices were asked."""
    expense: Mapping[str, Expense] = field(default_factory=dict)


Trained = Completed | Stopped
"""Devices have trained it, and it taught something."""
Outcome = Completed | Stopped | Infeasible | Failed


def worst_constraint(constraints: Mapping[str, float]) -> str:
    """The limit that is missed by most, coverage only where it alone is missed."""
    missed = {name: value for name, value in constraints.items() if value > 0}
    single = {name: value for name, value in missed.items() if name != "coverage"} or missed
    return max(single, key=lambda name: single[name]) if single else ""
