"""The recommended point of the Pareto front for a device type, and the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fieldtune.server.results.schema import Against, Point, Recommendation
from fieldtune.server.study.objectives import Objective

_ALIKE = 0.01
"""Objectives that differ by less than this share count as equal."""


def recommend(
    front: Sequence[Point], defaults: Point | None, objectives: Sequence[Objective], device: str
) -> Recommendation | None:
    """The point of the front to deploy on a device type; None where none fits it.

    A point must be no worse than the defaults on all learned objectives; only if there is none, any
    point may be chosen. Of these, points that beat the defaults on most objectives (costs are those
    of this device) come first, then those that are worse on fewest, and among them the one with the
    largest joint gain: the product over the objectives of ``1 + gain``, each gain relative to the
    defaults. Differences below one per cent count as equal, so that a tiny gain in latency does not
    outweigh a large loss in energy.
    """
    fitting = [point for point in front if point.devices[device].fits]
    if not fitting:
        return None
    values = np.array([_as_seen_by(device, point, objectives) for point in fitting])
    reference = (
        np.array(_as_seen_by(device, defaults, objectives)) if defaults else values.max(axis=0)
    )
    gains = reference - values
    learned = [objective.learned for objective in objectives]
    no_worse = (gains[:, learned] >= 0).all(axis=1)
    allowed = np.flatnonzero(no_worse) if no_worse.any() else np.arange(len(fitting))
    shares = _shares(gains, reference)
    standing = np.where(np.abs(shares) < _ALIKE, 0, np.sign(shares))
    won, lost = (standing > 0).sum(axis=1), (standing < 0).sum(axis=1)
    joint = np.where(shares > 0, 1 + shares, 1 / (1 - np.minimum(shares, 0))).prod(axis=1)
    index = int(min(allowed, key=lambda i: (-won[i], lost[i], -joint[i])))
    alike = sum(bool((standing[i] == standing[index]).all()) for i in allowed)
    against = [
        Against(
            objective=objective.name,
            value=float(objective.sign * values[index][k]),
            default=float(objective.sign * reference[k]),
            better=bool(gains[index][k] > 0),
        )
        for k, objective in enumerate(objectives)
    ]
    names = [objective.name for objective in objectives]
    return Recommendation(
        trial=fitting[index].trial,
        why=_why(dict(zip(names, standing[index], strict=True)), alike, defaults, fitting[index]),
        against_defaults=against if defaults else [],
    )


def _shares(gains: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gains ``[n, m]`` relative to the reference ``[m]``; where that is 0, to the largest gain."""
    extent = np.where(reference != 0, np.abs(reference), np.abs(gains).max(axis=0))
    return np.asarray(gains / np.where(extent > 0, extent, 1.0))


def _as_seen_by(device: str, point: Point, objectives: Sequence[Objective]) -> list[float]:
    """Objectives to be minimised: learned ones of the fleet, costs of the device."""
    values = []
    for each in objectives:
        cost = None if each.learned else point.devices[device].costs[each.name]
        values.append(each.sign * (cost or point.objectives[each.name]).value)
    return values


def _why(standing: Mapping[str, float], alike: int, defaults: Point | None, chosen: Point) -> str:
    """A sentence; ``standing`` is above 0 where an objective is better, below where it is worse."""
    if defaults is None:
        return "the best compromise; the study's defaults were not trained, or fit no device"
    if chosen.trial == defaults.trial:
        return "these are the study's defaults: no point that predicts as well beats them"
    won = [name for name, sign in standing.items() if sign > 0]
    equal = [name for name, sign in standing.items() if sign == 0]
    lost = [name for name, sign in standing.items() if sign < 0]
    if not won:
        return f"could not beat the defaults on {_listed([*equal, *lost])}; the best compromise"
    text = f"beats the defaults on {_listed(won)}"
    if equal:
        text += f", is as good on {_listed(equal)}"
    if lost:
        text += f"; could not beat them on {_listed(lost)}"
    if alike > 1:
        text += f"; the largest joint gain of the {alike} points that do so"
    return text


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
