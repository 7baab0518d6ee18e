"""The front: the feasible trials that no other beats on every objective, and what to deploy.

:func:`summarise` turns a study's outcomes into a :class:`Summary`, which is ``pareto.json`` to the
letter and all that the report draws.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import moocore
import numpy as np
from pydantic import BaseModel, ConfigDict

from fieldtune.profiles.cost import Estimate
from fieldtune.server.compiler.manifest import Variant
from fieldtune.server.space import Value
from fieldtune.server.study import COST_MEASURES, LEARNED_MEASURES, StudyConfig
from fieldtune.server.trials import Completed, Failed, Infeasible, Outcome

SCHEMA_VERSION = 1


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class Interval(_Model):
    """A figure and the 90 % interval around it (error: 95 %, Wilson)."""

    value: float
    low: float
    high: float


class OnDevice(_Model):
    """A point as one device type sees it."""

    clients: int
    fitting: int
    costs: dict[str, Interval]
    """Predicted from the device's profile."""
    slack: dict[str, float]
    """Limit -> used / cap - 1."""


class Point(_Model):
    """One trained trial."""

    trial: int
    variant: Variant = "fp32"
    configuration: dict[str, Value]
    objectives: dict[str, Interval]
    """Over the fleet: learned measures over all test samples, costs of the worst-off device type
    or, for energy and bytes, the mean over clients."""
    measures: dict[str, float]
    """Everything learned, objective or not."""
    test_samples: int
    devices: dict[str, OnDevice]


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
    state: Literal["completed", "infeasible", "failed"]
    configuration: dict[str, Value]
    objectives: dict[str, float]
    constraints: dict[str, float]
    reason: str = ""


class Summary(_Model):
    """``pareto.json``: the front, the recommendations, and what they rest on."""

    schema_version: int = SCHEMA_VERSION
    study: str
    seed: int
    objectives: list[str]
    """As in the study file: a leading ``-`` is maximised."""
    metric: str
    devices: dict[str, int]
    """Device type -> clients of the fleet."""
    simulated: bool
    """Whether costs are simulated from profiles rather than measured on devices."""
    trials: int
    infeasible: int
    failed: int
    front: list[Point]
    recommended: dict[str, Recommendation]
    defaults: Point | None
    """The study file's own defaults, where they could be trained."""
    attempts: list[Attempt]


def summarise(study: StudyConfig, outcomes: Sequence[Outcome]) -> Summary:
    """Front and recommendations of what was tried so far."""
    completed = [outcome for outcome in outcomes if isinstance(outcome, Completed)]
    feasible = [outcome for outcome in completed if outcome.forecast.feasible]
    front = [_point(outcome) for outcome in non_dominated(study, feasible)]
    default_values = study.full_space.defaults().flat()
    defaults = next(
        (_point(o) for o in completed if o.proposal.configuration.flat() == default_values), None
    )
    forecasts = [o.forecast for o in outcomes if not isinstance(o, Failed)]
    devices = {
        name: device.clients
        for forecast in forecasts[:1]
        for name, device in forecast.devices.items()
    }
    names = study.study.objectives
    return Summary(
        study=study.study.name,
        seed=study.study.seed,
        objectives=list(names),
        metric=study.task.metric,
        devices=devices,
        simulated=all(outcome.learned.simulated for outcome in completed),
        trials=sum(not isinstance(outcome, Infeasible) for outcome in outcomes),
        infeasible=sum(isinstance(outcome, Infeasible) for outcome in outcomes),
        failed=sum(isinstance(outcome, Failed) for outcome in outcomes),
        front=front,
        recommended={
            device: chosen
            for device in devices
            if (chosen := recommend(front, defaults, names, device)) is not None
        },
        defaults=defaults,
        attempts=[_attempt(outcome) for outcome in outcomes],
    )


def non_dominated(study: StudyConfig, outcomes: Sequence[Completed]) -> list[Completed]:
    """Those that no other outcome equals or beats on every objective, best first objective first.

    Of outcomes with the same values, the earliest is kept.
    """
    if not outcomes:
        return []
    signs = np.array([-1.0 if name.startswith("-") else 1.0 for name in study.study.objectives])
    values = np.array([list(outcome.objectives.values()) for outcome in outcomes]) * signs
    keep = moocore.is_nondominated(values, keep_weakly=False)
    order = sorted(np.flatnonzero(keep).tolist(), key=lambda index: tuple(values[index]))
    return [outcomes[index] for index in order]


def recommend(
    front: Sequence[Point], defaults: Point | None, objectives: Sequence[str], device: str
) -> Recommendation | None:
    """The point of the front to deploy on a device type; None where none fits it.

    A cheap model that predicts badly is no bargain, so a point must be no worse than the defaults
    on what is learned; only where there is none may any be taken. Of these, the ones that beat the
    defaults on most objectives, as this device sees them, come first, and among them the one with
    the most even gain: the largest smallest gain, each relative to the best that any point has (the
    Chebyshev compromise, Miettinen 1999, section 3.4).
    """
    fitting = [point for point in front if point.devices[device].fitting]
    if not fitting:
        return None
    values = np.array([_as_seen_by(device, point, objectives) for point in fitting])
    reference = (
        np.array(_as_seen_by(device, defaults, objectives)) if defaults else values.max(axis=0)
    )
    gains = reference - values
    learned = [name.removeprefix("-") not in COST_MEASURES for name in objectives]
    no_worse = (gains[:, learned] >= 0).all(axis=1)
    beaten = np.where(no_worse, (gains > 0).sum(axis=1), -1 if no_worse.any() else 0)
    candidates = np.flatnonzero(beaten == beaten.max())
    best = np.maximum(gains.max(axis=0), 1e-300)
    evenness = (gains[candidates] / best).clip(-1, 1)
    order = sorted(
        range(len(candidates)),
        key=lambda i: (-evenness[i].min(), -evenness[i].sum(), candidates[i]),
    )
    index = int(candidates[order[0]])
    against = [
        Against(
            objective=name.removeprefix("-"),
            value=_signed(name, values[index][k]),
            default=_signed(name, reference[k]),
            better=bool(gains[index][k] > 0),
        )
        for k, name in enumerate(objectives)
    ]
    return Recommendation(
        trial=fitting[index].trial,
        why=_why(against, len(candidates), defaults, fitting[index]),
        against_defaults=against if defaults else [],
    )


def wilson(share: float, samples: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % interval of a share observed in so many samples (Wilson 1927)."""
    if samples == 0:
        return 0.0, 1.0
    centre = share + z * z / (2 * samples)
    spread = z * math.sqrt(share * (1 - share) / samples + z * z / (4 * samples**2))
    scale = 1 + z * z / samples
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def _signed(name: str, value: float) -> float:
    return float(-value if name.startswith("-") else value)


def _as_seen_by(device: str, point: Point, objectives: Sequence[str]) -> list[float]:
    """Objective values to minimise: learned ones as they are, costs those of the device."""
    return [
        _signed(
            name,
            point.devices[device].costs[plain].value
            if (plain := name.removeprefix("-")) in COST_MEASURES
            else point.objectives[plain].value,
        )
        for name in objectives
    ]


def _why(against: Sequence[Against], candidates: int, defaults: Point | None, chosen: Point) -> str:
    if defaults is None:
        return f"the most even of {candidates} points; the study's defaults could not be trained"
    if chosen.trial == defaults.trial:
        return "these are the study's defaults: no point that predicts as well beats them"
    won = [a.objective for a in against if a.better]
    lost = [a.objective for a in against if not a.better]
    if not won:
        return (
            f"could not beat the defaults on {_listed(lost)}; the most even of {candidates} points"
        )
    text = f"beats the defaults on {_listed(won)}"
    if lost:
        text += f"; could not beat them on {_listed(lost)}"
    if candidates > 1:
        text += f"; the most even gain of the {candidates} points that do so"
    return text


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _point(outcome: Completed) -> Point:
    samples = outcome.learned.samples
    return Point(
        trial=outcome.proposal.number,
        configuration=outcome.proposal.configuration.flat(),
        objectives={
            name: _interval(name, value, outcome) for name, value in outcome.objectives.items()
        },
        measures=dict(outcome.learned.measures),
        test_samples=samples,
        devices={
            name: OnDevice(
                clients=device.clients,
                fitting=device.fitting,
                costs={measure: _from(getattr(device.cost, measure)) for measure in COST_MEASURES},
                slack=dict(device.slack),
            )
            for name, device in outcome.forecast.devices.items()
        },
    )


def _interval(name: str, value: float, outcome: Completed) -> Interval:
    if name in LEARNED_MEASURES:
        if name == "loss" or not 0 <= value <= 1:  # no share of the samples: a metric of one's own
            return Interval(value=value, low=value, high=value)
        low, high = wilson(value, outcome.learned.samples)
        return Interval(value=value, low=min(low, value), high=max(high, value))
    estimates = [
        getattr(device.cost, name) for device in outcome.forecast.devices.values() if device.fitting
    ]
    # The interval of the fleet's figure, in the proportion of the device type nearest to it.
    nearest = min(estimates, key=lambda estimate: abs(estimate.value - value))
    scale = value / nearest.value if nearest.value else 1.0
    return Interval(value=value, low=nearest.low * scale, high=nearest.high * scale)


def _from(estimate: Estimate) -> Interval:
    return Interval(value=estimate.value, low=estimate.low, high=estimate.high)


def _attempt(outcome: Outcome) -> Attempt:
    common = {
        "trial": outcome.proposal.number,
        "configuration": outcome.proposal.configuration.flat(),
    }
    match outcome:
        case Completed():
            return Attempt(
                **common,
                state="completed",
                objectives=dict(outcome.objectives),
                constraints=dict(outcome.forecast.constraints),
            )
        case Infeasible():
            return Attempt(
                **common,
                state="infeasible",
                objectives={},
                constraints=dict(outcome.forecast.constraints),
                reason=worst_constraint(outcome.forecast.constraints),
            )
        case Failed():
            return Attempt(
                **common, state="failed", objectives={}, constraints={}, reason=outcome.reason
            )


def worst_constraint(constraints: Mapping[str, float]) -> str:
    """The limit that is missed by most, coverage only where it alone is missed."""
    missed = {name: value for name, value in constraints.items() if value > 0}
    single = {name: value for name, value in missed.items() if name != "coverage"} or missed
    return max(single, key=lambda name: single[name]) if single else ""
