"""How the front grew: its hypervolume after each trial."""

from __future__ import annotations

from dataclasses import dataclass

import moocore
import numpy as np

from fieldtune.server.report.view import completed, objectives, within_limits
from fieldtune.server.results.schema import Summary

MARGIN = 0.1
"""How far beyond the worst completed values the reference point lies, as a share of the extent."""


@dataclass(frozen=True)
class Step:
    """The front after a trial."""

    trial: int
    share: float
    """Of the box between the best and the reference values, how much the front dominates: 0..1."""
    grew: bool


def growth(summary: Summary) -> list[Step]:
    """Hypervolume of the feasible front after each completed trial, as a share of its box.

    The box spans from the best value of each objective among the completed trials to the reference
    point, which lies ``MARGIN`` of the extent beyond the worst; maximised objectives count with
    their sign turned. Trials outside the limits add nothing (Zitzler and Thiele 1999; computed by
    moocore).
    """
    attempts = sorted(completed(summary), key=lambda attempt: attempt.trial)
    if not attempts:
        return []
    goals = objectives(summary)
    values = np.array([[goal.sign * a.objectives[goal.name] for goal in goals] for a in attempts])
    extent = np.ptp(values, axis=0)
    extent[extent == 0] = 1.0
    scaled = (values - values.min(axis=0)) / extent
    reference = np.full(len(goals), 1.0 + MARGIN)
    inside = np.array([within_limits(attempt) for attempt in attempts])
    steps: list[Step] = []
    before = 0.0
    for position, attempt in enumerate(attempts):
        chosen = scaled[: position + 1][inside[: position + 1]]
        volume = float(moocore.hypervolume(chosen, ref=reference)) if len(chosen) else 0.0
        share = volume / float(reference.prod())
        steps.append(Step(attempt.trial, share, share > before + 1e-12))
        before = share
    return steps
