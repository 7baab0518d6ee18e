"""The rule of recommendations on stored trials: a reader's weights, confidence, narrower limits.

It needs ``pareto.json`` alone, and nothing is trained anew. ``report.html`` does the same in its
script (``assets/js/rerank.js``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fieldtune.profiles.common.errors import ProfileError
from fieldtune.profiles.costmodel.limits import DeviceLimits, default_limits
from fieldtune.profiles.device.load import load_profile
from fieldtune.server.outcomes.decision import CONFIRMED, balanced
from fieldtune.server.outcomes.front import undominated
from fieldtune.server.results.needs import need_of
from fieldtune.server.results.schema import Point, Summary
from fieldtune.server.results.stored_choices import Standing
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.objectives import MEASURES, Objective

Caps = Mapping[str, Mapping[str, float]]
"""Device type -> limit -> cap."""

_ROUNDING = 1e-5
"""The page's figures have six digits: a client that needs this share more than a cap keeps it."""


@dataclass(frozen=True)
class _Fit:
    """Whether a trial keeps the limits of a device type, and on how many clients of the fleet."""

    any: bool
    clients: int


def choose(
    summary: Summary,
    weights: Mapping[str, Mapping[str, float]],
    confidence: float,
    limits: Caps | None = None,
    own: Caps | None = None,
) -> dict[str, int]:
    """The trial to use on each device type; a device type that nothing fits is left out.

    Args:
        summary: of the study.
        weights: device type -> objective -> weight of its gain.
        confidence: probability of being no worse than the defaults on what is learned.
        limits: narrower ones than the study's.
        own: the study's limits, and its devices' memory and storage.
    """
    fitting = _fitting_trials(summary, limits, own or {}) if limits else None
    found, least = dict[str, int](), confidence
    if fitting is not None and summary.defaults is not None:
        trial = summary.defaults.trial
        if not any(trial in fitting[name] for name, clients in summary.devices.items() if clients):
            least = math.inf  # defaults that fit nothing are compared with no more
    for device, chosen in summary.recommended.items():
        standings = chosen.standings
        if fitting is not None:
            both = [*standings, *chosen.dominated]
            standings = [each for each in both if each.trial in fitting[device]]
        ranks = {
            trial: (
                -sum(weights[device].get(name, 1.0) * each for name, each in counted.items()),
                -sum(counted.values()),
                trial,
            )
            for trial, counted in _counted(summary, device, standings, least).items()
        }
        if ranks:
            found[device] = min(ranks, key=ranks.__getitem__)
    return found


def caps_of(study: StudyConfig | None, devices: Sequence[str]) -> dict[str, dict[str, float]]:
    """Limits of each device type: the study's, and the device's own memory and storage.

    Args:
        study: None where it is not known: then there are none.
        devices: by name.
    """
    found: dict[str, dict[str, float]] = {}
    if study is None:
        return found
    for name in devices:
        try:
            own = default_limits(load_profile(name))
        except ProfileError:  # a profile that is not on this machine
            own = DeviceLimits()
        found[name] = dict(study.limits.for_device(name, own).items())
    return found


def _counted(
    summary: Summary, device: str, standings: Sequence[Standing], confidence: float
) -> dict[int, Mapping[str, float]]:
    """What counts of each trial that may be recommended."""
    sure = [e for e in standings if e.no_worse is not None and e.no_worse >= confidence]
    if any(each.runs >= CONFIRMED and not each.is_defaults for each in sure):
        sure = [each for each in sure if each.runs >= CONFIRMED or each.is_defaults]
    if sure or not standings:
        return {each.trial: each.counted for each in sure}
    counted: dict[int, dict[str, float]] = {each.trial: {} for each in standings}
    points = {point.trial: point for point in summary.stored}
    for objective in summary.objectives:
        values = [_on_device(points[trial], device, objective) for trial in counted]
        unsure = [each.unsure.get(objective.name, {}) for each in standings]
        shares = balanced(objective, values, unsure)
        for each, share in zip(counted.values(), shares, strict=True):
            each[objective.name] = share
    return dict(counted)


def _on_device(point: Point, device: str, objective: Objective) -> float:
    cost = None if objective.learned else point.devices[device].costs.get(objective.name)
    return (cost or point.objectives[objective.name]).value


def _fitting_trials(summary: Summary, limits: Caps, own: Caps) -> dict[str, set[int]]:
    """Device type -> the trials that may be recommended for it within these limits.

    As in a study that has them: those that fit the device type, of the trials that enough of the
    fleet can train and that no other such trial dominates, and of the defaults.
    """
    size = sum(clients for groups in summary.samples.values() for _, clients in groups)
    needed = math.ceil(summary.coverage * size - 1e-9)
    points = sorted(summary.stored, key=lambda point: point.trial)
    fits = {
        point.trial: {name: _fit(summary, point, name, limits, own) for name in point.devices}
        for point in points
    }
    trained = [
        point
        for point in points
        if sum(fit.clients for fit in fits[point.trial].values()) >= needed
        and any(fit.any for fit in fits[point.trial].values())
    ]
    values = [
        [each.sign * _of_fleet(point, each, fits[point.trial]) for each in summary.objectives]
        for point in trained
    ]
    candidates = {trained[index].trial for index in undominated(np.array(values))}
    if summary.defaults is not None:
        candidates.add(summary.defaults.trial)
    return {
        device: {
            trial
            for trial in candidates
            if (fits[trial][device].clients > 0 if clients else fits[trial][device].any)
        }
        for device, clients in summary.devices.items()
    }


def _fit(summary: Summary, point: Point, device: str, limits: Caps, own: Caps) -> _Fit:
    groups, narrower = summary.samples.get(device, []), limits.get(device, {})
    caps = {**own.get(device, {}), **narrower}
    needs = {name: need_of(point, device, name, groups) for name in caps}
    if not groups or not any(needs.values()):  # results of an earlier version
        kept = all(_of_most(point, device, name, own) <= cap for name, cap in narrower.items())
        return _Fit(kept, point.devices[device].fitting if kept else 0)
    keeping = [
        clients
        for index, (_, clients) in enumerate(groups)
        if all(need[index] <= caps[name] * (1 + _ROUNDING) for name, need in needs.items() if need)
    ]
    return _Fit(bool(keeping), sum(keeping))


def _of_most(point: Point, device: str, limit: str, own: Caps) -> float:
    """What the client that needs most needs of a limit; the mean client if the study has none."""
    seen, cap = point.devices[device], own.get(device, {}).get(limit)
    if cap is not None and limit in seen.slack:
        return (1 + seen.slack[limit]) * cap
    cost = seen.costs.get(limit)
    return cost.value if cost else 0.0


def _of_fleet(point: Point, objective: Objective, fits: Mapping[str, _Fit]) -> float:
    """An objective over the device types with clients that keep the limits."""
    costs = {
        name: cost.value
        for name, seen in point.devices.items()
        if fits[name].clients and (cost := seen.costs.get(objective.name))
    }
    if objective.learned or not MEASURES[objective.name].of_device or not costs:
        return point.objectives[objective.name].value
    if objective.worst_of_fleet:
        return max(costs.values())
    clients = sum(fits[name].clients for name in costs)
    return sum(fits[name].clients * cost for name, cost in costs.items()) / clients
