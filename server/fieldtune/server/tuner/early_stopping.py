"""Multi-objective early stopping: after certain rounds (rungs) the worse trials are ended.

Asynchronous successive halving (Li et al. 2020, arXiv 1810.05934), ranked as in MO-ASHA (Schmucker
et al. 2021, arXiv 2106.12639): the results at a rung are sorted by fronts, those of one front by
the hypervolume that each adds, and the best ``1 / reduction`` continue. No device waits at a rung:
a trial is compared with those whose outcome was known when it was proposed, which follows from the
trials' numbers and not from the speed of clients (``docs/decisions/0008``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import moocore
import numpy as np
from numpy.typing import NDArray

from fieldtune.server.outcomes.trial import (
    Completed,
    Forecast,
    Outcome,
    Stopped,
    Trained,
    objective_values,
)
from fieldtune.server.study.config import StudyConfig

Array = NDArray[np.float64]


class Rungs:
    """A study's rungs.

    Args:
        study: its objectives, rounds and ``[tuner]`` section.

    Attributes:
        rounds: after which trials are compared, ascending.
    """

    def __init__(self, study: StudyConfig) -> None:
        self.rounds: tuple[int, ...] = study.rungs
        self._reduction = study.tuner.reduction
        self._objectives = study.study.objectives

    def goes_on(
        self,
        rounds: int,
        forecast: Forecast,
        measures: Mapping[str, float],
        others: Iterable[Outcome],
    ) -> bool:
        """Whether a trial continues after a rung.

        Args:
            rounds: of the rung.
            forecast: of the trial: what a whole one costs.
            measures: of the trial at the rung.
            others: outcomes to compare it with, re-evaluated with the same calibration.
        """
        own = self._values(forecast, measures)
        if not np.isfinite(own).all():
            return False
        seen = [
            self._values(outcome.forecast, there)
            for outcome in others
            if isinstance(outcome, Trained) and (there := at_rung(outcome, rounds)) is not None
        ]
        return among_best(own, np.array([v for v in seen if np.isfinite(v).all()]), self._reduction)

    def _values(self, forecast: Forecast, measures: Mapping[str, float]) -> Array:
        """Objectives to be minimised ``[m]``."""
        values = objective_values(self._objectives, measures, forecast)
        return np.array([each.sign * values[each.name] for each in self._objectives])


def at_rung(outcome: Completed | Stopped, rounds: int) -> Mapping[str, float] | None:
    """The measures of a trial at a rung; None where it has none.

    For a training that diverged before the rung they are its final measures.
    """
    there = outcome.learned.curve.get(rounds)
    if there is None and isinstance(outcome, Completed) and outcome.learned.rounds < rounds:
        return outcome.learned.measures
    return there


def among_best(own: Array, others: Array, reduction: float) -> bool:
    """Whether objectives ``[m]`` rank among the best ``1 / reduction`` of all ``[n + 1, m]``.

    True with fewer than ``reduction`` others.
    """
    if len(others) < reduction:
        return True
    everyone = np.concatenate([others, own[None]])
    return ranked(everyone).index(len(others)) < math.ceil(len(everyone) / reduction)


def ranked(objectives: Array) -> Sequence[int]:
    """Indices of objectives ``[n, m]`` to be minimised, best first.

    By front, then by hypervolume contribution within the front, with each objective scaled to 0..1
    and the reference point at 1.1; at a tie, the earlier first.
    """
    if objectives.shape[1] == 1:
        return [int(index) for index in objectives[:, 0].argsort(kind="stable")]
    ideal, worst = objectives.min(axis=0), objectives.max(axis=0)
    scaled = (objectives - ideal) / np.where(worst > ideal, worst - ideal, 1.0)
    fronts = np.asarray(moocore.pareto_rank(scaled))
    added = np.zeros(len(scaled))
    for front in np.unique(fronts):
        members = np.flatnonzero(fronts == front)
        added[members] = moocore.hv_contributions(
            scaled[members], ref=np.full(scaled.shape[1], 1.1)
        )
    return [int(index) for index in np.lexsort((np.arange(len(scaled)), -added, fronts))]
