"""The Pareto front: trials that no other dominates."""

from __future__ import annotations

from collections.abc import Sequence

import moocore
import numpy as np
from numpy.typing import NDArray

from fieldtune.server.outcomes.trial import Completed, Outcome
from fieldtune.server.study.config import StudyConfig


def non_dominated(study: StudyConfig, outcomes: Sequence[Completed]) -> list[Completed]:
    """The outcomes that no other dominates, sorted by the first objective, best first.

    Of outcomes with the same values, the earliest is kept.
    """
    if not outcomes:
        return []
    objectives = study.study.objectives
    # To be minimised.
    values = np.array(
        [[each.sign * outcome.objectives[each.name] for each in objectives] for outcome in outcomes]
    )
    order = sorted(undominated(values), key=lambda index: tuple(values[index]))
    return [outcomes[index] for index in order]


class RunningFront:
    """The front of a growing list of outcomes; each is compared with the front before it.

    Args:
        study: its objectives.
    """

    def __init__(self, study: StudyConfig) -> None:
        self._study = study
        self._seen: list[Outcome] = []
        self._front: list[Completed] = []

    def of(self, outcomes: Sequence[Outcome]) -> list[Completed]:
        """:func:`non_dominated` of the feasible ones.

        It is quick where they continue those of the last call.
        """
        seen = len(self._seen)
        if outcomes[:seen] != self._seen:  # compares by identity first
            seen, self._front = 0, []
        further = [o for o in outcomes[seen:] if isinstance(o, Completed) and o.forecast.feasible]
        self._front = non_dominated(self._study, [*self._front, *further])
        self._seen = list(outcomes)
        return self._front


def undominated(values: NDArray[np.float64]) -> list[int]:
    """Indices of the rows of ``values [n, m]``, to be minimised, that no other row dominates.

    Of equal rows, the first is kept.
    """
    if not len(values):
        return []
    return np.flatnonzero(moocore.is_nondominated(values, keep_weakly=False)).tolist()
