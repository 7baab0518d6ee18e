"""The Pareto front: trials that no other dominates."""

from __future__ import annotations

from collections.abc import Sequence

import moocore
import numpy as np
from numpy.typing import NDArray

from fieldtune.server.outcomes.trial import Completed
from fieldtune.server.study.config import StudyConfig


def minimised(study: StudyConfig, outcome: Completed) -> NDArray[np.float64]:
    """The objectives of an outcome ``[m]``, with the sign with which each is minimised."""
    return np.array([each.sign * outcome.objectives[each.name] for each in study.study.objectives])


def non_dominated(study: StudyConfig, outcomes: Sequence[Completed]) -> list[Completed]:
    """The outcomes that no other dominates, sorted by the first objective, best first.

    Of outcomes with the same values, the earliest is kept.
    """
    if not outcomes:
        return []
    values = np.array([minimised(study, outcome) for outcome in outcomes])
    keep = moocore.is_nondominated(values, keep_weakly=False)
    order = sorted(np.flatnonzero(keep).tolist(), key=lambda index: tuple(values[index]))
    return [outcomes[index] for index in order]
