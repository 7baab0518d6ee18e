"""Proposals and their outcomes: one type for each state that a trial can end in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fieldtune.profiles.common.estimate import Estimate
from fieldtune.profiles.costmodel.cost import Cost
from fieldtune.server.study.objectives import Objective
from fieldtune.server.study.space import Configuration, Value


@dataclass(frozen=True)
class Proposal:
    """A configuration that the tuner proposes as a trial."""

    number: int
    configuration: Configuration
    phase: str = ""
    """In which it was proposed; see :data:`~fieldtune.server.study.tuner_options.Phase`."""


@dataclass(frozen=True)
class DeviceForecast:
    """Predicted costs of a configuration on one device type, and how many clients it fits on."""

    clients: int
    """Clients of this type."""
    fitting: int
    """Those on which the configuration stays within all limits."""
    cost: Cost
    """Predicted from the device's profile and calibrated with what devices had reported."""
    slack: Mapping[str, float]
    """Limit -> used / cap - 1, calibrated, for the client of this type that needs most."""


@dataclass(frozen=True)
class Forecast:
    """Predicted costs of a configuration on the fleet, before any training."""

    devices: Mapping[str, DeviceForecast]
    participants: tuple[int, ...]
    """Clients on which the configuration stays within all limits."""
    constraints: Mapping[str, float]
    """Name -> violation; feasible where none is above 0."""
    measures: Mapping[str, float] = field(default_factory=dict)
    """Costs of the whole fleet: the maximum over the device types or the mean over the clients
    (:attr:`Objective.worst_of_fleet`); infinite where no client can take part."""

    @property
    def feasible(self) -> bool:
        """Whether every constraint holds."""
        return all(value <= 0 for value in self.constraints.values())


def objective_values(
    objectives: Sequence[Objective], measures: Mapping[str, float], forecast: Forecast
) -> dict[str, float]:
    """Each objective by name: learned ones as measured, costs as forecast."""
    return {
        each.name: measures[each.name] if each.learned else forecast.measures[each.name]
        for each in objectives
    }


@dataclass(frozen=True)
class Choice:
    """Client configurations that shared a training, and FedEx's final distribution over them."""

    configurations: tuple[Mapping[str, Value], ...]
    """Values of ``[space.client]``; the first are the proposed ones."""
    probabilities: tuple[float, ...]
    """They sum to 1."""

    @property
    def mode(self) -> int:
        """Index of the most probable one; at a tie, the first."""
        return self.probabilities.index(max(self.probabilities))

    @property
    def entropy(self) -> float:
        """In nats: 0 where one configuration has probability 1, ``ln k`` where ``k`` are equal."""
        return sum(each * math.log(1 / each) for each in self.probabilities if each > 0)

    def __str__(self) -> str:
        count = len(self.probabilities)
        return (
            f"{100 * max(self.probabilities):.0f} % for this of {count} configurations, entropy "
            f"{self.entropy:.2f} of {math.log(count):.2f}"
        )


@dataclass(frozen=True)
class Timing:
    """The time of a training: simulated on a virtual clock, or measured."""

    time_s: float
    """Seconds from its start to its last update; evaluations are not counted."""
    idle_s: float
    """Device seconds in which a client that was asked did not work: it was away, or had finished
    while others had not."""
    wasted_s: float
    """Device seconds of work and transfers whose result was not used."""


@dataclass(frozen=True)
class Learned:
    """The result of a training, measured on the test samples of all participants."""

    measures: Mapping[str, float]
    """``accuracy``, ``error``, ... by name."""
    samples: int
    """Number of test samples behind them."""
    device_s: float
    """Seconds that all participants together spent on training."""
    failures: Mapping[str, int]
    """Kind of failure -> number of requests that failed so."""
    simulated: bool
    rounds: int = 0
    """Completed rounds: fewer than planned where training diverged or was stopped."""
    curve: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    """Completed rounds at each rung that was reached -> the measures there."""
    stopped: bool = False
    """Whether early stopping ended it."""
    choice: Choice | None = None
    """With FedEx: the configurations that shared the training; the outcome is that of the mode."""
    losses: tuple[float, ...] = ()
    """Of each round, the median client's mean training loss in its last local epoch."""
    timing: Timing | None = None
    """None in studies of earlier versions."""


@dataclass(frozen=True)
class Observation:
    """Predicted and reported value of one quantity, for one device type in one trial."""

    predicted: Estimate
    """From the device's profile without calibration, for the type's median client."""
    reported: float
    """The predicted value times the median ratio of reported to predicted over all reports."""
    reports: int
    simulated: bool
    """Whether simulated clients reported it."""
    devices: int = 0
    """Clients of the type in the fleet; 0 where that is not known."""


@dataclass(frozen=True)
class Observed:
    """What the clients of one device type reported in one trial."""

    quantities: Mapping[str, Observation]
    """By name: ``training``, ``inference``, ``memory``, ``power``."""
    left_out: int
    """Number of reports that were ignored because the device was throttled or swapping."""


@dataclass(frozen=True)
class Expense:
    """Time, energy and traffic that a trial used on all devices of one type together."""

    device_s: float
    """Seconds that they spent on training and evaluating."""
    energy_j: float | None
    """Joules used for it; None where neither a device nor its profile gives the power."""
    sent_bytes: float
    """Bytes that they sent."""


@dataclass(frozen=True)
class DeviceRecord:
    """What one real device did in one trial."""

    updates: int = 0
    """Number of its updates that were compared with those of the other devices."""
    log2_norms: float = 0.0
    """Sum over these of the binary logarithm of the update's norm, as a multiple of the median."""
    failures: Mapping[str, int] = field(default_factory=dict)
    """Kind of failure -> how many requests ended in it."""


@dataclass(frozen=True)
class Completed:
    """A trial that was trained to its end."""

    proposal: Proposal
    forecast: Forecast
    learned: Learned
    objectives: Mapping[str, float]
    """As told to the tuner: learned ones as measured, costs as predicted."""
    seed: int
    observed: Mapping[str, Observed] = field(default_factory=dict)
    """By device type."""
    expense: Mapping[str, Expense] = field(default_factory=dict)
    """By device type."""
    refused: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Device -> reason -> how many of its reports were refused, or scaled down."""
    weights_sha256: str = ""
    """Of the file with the trained weights, in hexadecimal; empty in studies of 0.1.0."""
    devices: Mapping[str, DeviceRecord] = field(default_factory=dict)
    """Real device -> what it did; empty for simulated clients."""


@dataclass(frozen=True)
class Stopped:
    """A trial that early stopping ended: its final objectives are not known."""

    proposal: Proposal
    forecast: Forecast
    learned: Learned
    """After the rounds that were done."""
    objectives: Mapping[str, float]
    """Learned ones as measured at that rung; costs are those of a whole trial."""
    seed: int
    stopped_after: int
    """Rounds."""
    observed: Mapping[str, Observed] = field(default_factory=dict)
    expense: Mapping[str, Expense] = field(default_factory=dict)
    refused: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    devices: Mapping[str, DeviceRecord] = field(default_factory=dict)


@dataclass(frozen=True)
class Infeasible:
    """A configuration that the limits rule out; it was not sent to any device."""

    proposal: Proposal
    forecast: Forecast


@dataclass(frozen=True)
class Failed:
    """A configuration that could not be trained, and why."""

    proposal: Proposal
    reason: str
    failures: Mapping[str, int] = field(default_factory=dict)
    sent: bool = True
    """Whether it was sent to devices; False where it could not be compiled."""
    expense: Mapping[str, Expense] = field(default_factory=dict)
    refused: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    devices: Mapping[str, DeviceRecord] = field(default_factory=dict)


Trained = Completed | Stopped
"""Trained on devices, with a result."""
Outcome = Completed | Stopped | Infeasible | Failed


def worst_constraint(constraints: Mapping[str, float]) -> str:
    """The limit that is violated most (coverage only if no other is); empty where all hold."""
    missed = {name: value for name, value in constraints.items() if value > 0}
    single = {name: value for name, value in missed.items() if name != "coverage"} or missed
    return max(single, key=lambda name: single[name]) if single else ""
