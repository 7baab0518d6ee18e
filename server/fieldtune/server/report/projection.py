"""Points of the front on two of their objectives."""

from __future__ import annotations

from collections.abc import Sequence

import moocore
import numpy as np

from fieldtune.profiles.common.estimate import Estimate
from fieldtune.server.report.format import Scale
from fieldtune.server.results.schema import Point
from fieldtune.server.study.objectives import Objective

TRIAL = Objective("trial", "Trial")
"""What stands for the second objective of a study that has one."""


def scaled(point: Point, goal: Objective, units: dict[str, Scale]) -> Estimate:
    """An objective of a point in the unit of its axis."""
    if goal is TRIAL:
        number = float(point.trial)
        return Estimate(number, number, number)
    interval, factor = point.objectives[goal.name], units[goal.name].factor
    return Estimate(interval.value * factor, interval.low * factor, interval.high * factor)


def edge(
    x: Objective, y: Objective, front: Sequence[Point], units: dict[str, Scale]
) -> list[tuple[float, float]]:
    """Points of the front that no other beats in this view, from the best on the horizontal axis.

    Drawn horizontally first, the line bounds what they dominate, whichever way the axes go.
    """
    if x is TRIAL:
        return []
    pairs = [(scaled(p, x, units).value, scaled(p, y, units).value) for p in front]
    signed = np.array(pairs) * np.array([x.sign, y.sign])
    keep = np.flatnonzero(moocore.is_nondominated(signed, keep_weakly=False))
    return [pairs[i] for i in sorted(keep, key=lambda i: signed[i, 0])]
