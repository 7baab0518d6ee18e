"""How the front grew: its hypervolume after each trial, and what had been spent by then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import moocore
import numpy as np
from numpy.typing import NDArray

from fieldtune.server.report.trials_view import completed, within_limits
from fieldtune.server.report.view import objectives
from fieldtune.server.results.schema import Attempt, Summary
from fieldtune.server.study.objectives import Objective

MARGIN = 0.1
"""How far beyond the worst completed values the reference point lies, as a share of the extent."""

_SPENT = {
    "device_s": "seconds that devices were busy",
    "energy_j": "joules on devices",
    "sent_bytes": "bytes sent by devices",
}


@dataclass(frozen=True)
class Box:
    """The box in which the front's hypervolume is measured, in objectives to be minimised."""

    objectives: tuple[Objective, ...]
    best: NDArray[np.float64]
    extent: NDArray[np.float64]

    def place(self, attempt: Attempt) -> NDArray[np.float64]:
        """Where a completed trial lies: 0 is the best value of an objective, 1 the worst."""
        values = [goal.sign * attempt.objectives[goal.name] for goal in self.objectives]
        return np.asarray((values - self.best) / self.extent)


@dataclass(frozen=True)
class Step:
    """The front after a trial."""

    trial: int
    share: float
    """Of the box between the best and the reference values, how much the front dominates: 0..1."""
    grew: bool
    spent: Mapping[str, float]
    """By all trials so far, failed and stopped ones too: ``device_s``, ``energy_j``, and so on."""


def box_of(attempts: Sequence[Attempt], goals: Sequence[Objective]) -> Box:
    """The box around completed trials, of which there is at least one."""
    values = np.array([[goal.sign * a.objectives[goal.name] for goal in goals] for a in attempts])
    extent = np.ptp(values, axis=0)
    extent[extent == 0] = 1.0
    return Box(tuple(goals), values.min(axis=0), extent)


def growth(summary: Summary, box: Box | None = None) -> list[Step]:
    """Hypervolume of the feasible front after each completed trial, as a share of its box.

    The box spans from the best value of each objective among the completed trials to the reference
    point, which lies ``MARGIN`` of the extent beyond the worst; maximised objectives count with
    their sign turned. Trials outside the limits add nothing (Zitzler and Thiele 1999; computed by
    moocore). ``box`` replaces that of the study's own trials, to compare studies.
    """
    attempts = sorted(completed(summary), key=lambda attempt: attempt.trial)
    if not attempts:
        return []
    box = box or box_of(attempts, objectives(summary))
    reference = np.full(len(box.objectives), 1.0 + MARGIN)
    spent = _spent_by(summary)
    steps: list[Step] = []
    front: NDArray[np.float64] = np.empty((0, len(box.objectives)))
    share = 0.0
    for attempt in attempts:
        at = box.place(attempt)
        dominated = bool((front <= at).all(axis=1).any())
        grew = within_limits(attempt) and not dominated
        if grew:  # only then has the hypervolume changed
            front = np.vstack([front[~(front >= at).all(axis=1)], at])
            share = float(moocore.hypervolume(front, ref=reference)) / float(reference.prod())
        steps.append(Step(attempt.trial, share, grew, spent[attempt.trial]))
    return steps


def growth_of_random(
    draws: Sequence[tuple[float, ...] | None], box: Box, trials: int, repeats: int = 20
) -> list[float]:
    """Expected share after 0, 1, ... ``trials`` random configurations.

    Args:
        draws: objectives of random configurations, to be minimised; None is infeasible.
        box: in which the share is measured.
        trials: how far to go.
        repeats: random orders of the draws, over which the mean is taken.
    """
    rng = np.random.default_rng(0)
    reference = np.full(len(box.objectives), 1.0 + MARGIN)
    whole = float(reference.prod())
    total = np.zeros(trials + 1)
    for _ in range(repeats):
        chosen = rng.choice(len(draws), size=trials, replace=len(draws) < trials)
        front: NDArray[np.float64] = np.empty((0, len(reference)))
        share = 0.0
        for n, index in enumerate(chosen, start=1):
            draw = draws[int(index)]
            if draw is not None:
                at = (np.array(draw) - box.best) / box.extent
                # The box ends at the best trial that was trained: beyond it nothing is promised.
                at = np.maximum(at, 0.0)
                if (at < reference).all() and not (front <= at).all(axis=1).any():
                    front = np.vstack([front[~(front >= at).all(axis=1)], at])
                    share = float(moocore.hypervolume(front, ref=reference)) / whole
            total[n] += share
    return [float(value) for value in total / repeats]


def spendings(summary: Summary) -> dict[str, str]:
    """What progress can be shown against: trials, and whatever every trial says it has spent."""
    known = [
        name
        for name in _SPENT
        if any(attempt.spent for attempt in summary.attempts)
        and all(name in attempt.spent for attempt in summary.attempts if attempt.rounds)
    ]
    return {"trial": "trial", **{name: _SPENT[name] for name in known}}


def _spent_by(summary: Summary) -> dict[int, dict[str, float]]:
    """Trial -> what it and all trials before it have spent."""
    names = [name for name in spendings(summary) if name != "trial"]
    total = dict.fromkeys(names, 0.0)
    found = {}
    for attempt in sorted(summary.attempts, key=lambda attempt: attempt.trial):
        total = {name: spent + attempt.spent.get(name, 0.0) for name, spent in total.items()}
        found[attempt.trial] = total
    return found
