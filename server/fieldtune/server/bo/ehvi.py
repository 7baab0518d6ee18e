"""Expected hypervolume improvement, exact for any mix of known and learned objectives.

What a new point ``Y`` adds to a front is the volume of the points that it dominates and no point
of the front does. That region is cut into boxes, each from ``l`` to ``u``. As the objectives are
independent given what was observed,

    E[improvement] = sum over boxes of prod over objectives i of (G_i(u_i) - G_i(l_i)),

    G_i(t) = E[max(t - Y_i, 0)],

which is ``max(t - y_i, 0)`` where the objective is known (Emmerich et al. 2011; Yang et al. 2019,
"Efficient computation of expected hypervolume improvement", equation 14). All terms are positive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import moocore
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Shortfall = Callable[[Array], Array]
"""Levels ``[j]`` -> expected shortfalls ``[c, j]`` of the candidates' objective."""

_MOST_POINTS = {1: 1, 2: 400, 3: 120, 4: 40}
"""Points of a front that are told apart, by objectives; beyond, those that add least are left."""

MOST_OBJECTIVES = max(_MOST_POINTS)
"""The boxes of more would be too many."""


@dataclass(frozen=True)
class Boxes:
    """The region that no point of a front dominates, up to the reference; ``[b, m]``."""

    lower: Array
    upper: Array

    @cached_property
    def levels(self) -> list[tuple[Array, NDArray[np.intp], NDArray[np.intp]]]:
        """By objective, the levels of the boxes' bounds, and which of them bound each ``[b]``."""
        found = []
        for bounds in np.concatenate([self.lower, self.upper]).T:
            levels, index = np.unique(bounds, return_inverse=True)
            low, high = np.split(index, 2)
            found.append((levels, low, high))
        return found

    @classmethod
    def beyond(cls, front: Array, reference: Array) -> Boxes:
        """Cut up what ``front`` ``[n, m]`` leaves below ``reference`` ``[m]``.

        The front's points come in ascending order of their first objective. Each takes from the
        space of the other objectives what it dominates there: below its first value this part was
        not dominated, above it is.
        """
        front = front[(front < reference).all(axis=1)]
        front = _most_important(front, reference)
        front = front[np.lexsort(front.T[::-1])]
        others = front.shape[1] - 1
        lower = np.full((1, others), -np.inf)
        upper = reference[None, 1:].copy()
        done: list[tuple[Array, Array, float]] = []
        for point in front:
            hit = (upper > point[1:]).all(axis=1)
            if not hit.any():
                continue
            low, high = lower[hit], upper[hit]
            lower, upper = lower[~hit], upper[~hit]
            inner = np.maximum(low, point[1:])
            done.append((inner, high, float(point[0])))
            for axis in range(others):
                # What lies below the point on this axis, and not below it on an earlier one.
                rest = low[:, axis] < point[1 + axis]
                rest_low, rest_high = low[rest].copy(), high[rest].copy()
                rest_low[:, :axis] = inner[rest, :axis]
                rest_high[:, axis] = point[1 + axis]
                lower = np.concatenate([lower, rest_low])
                upper = np.concatenate([upper, rest_high])
        done.append((lower, upper, float(reference[0])))
        return cls(
            np.concatenate(
                [np.insert(low, 0, -np.inf, axis=1) for low, _, _ in done if len(low)] or
                [np.empty((0, others + 1))]
            ),
            np.concatenate(
                [np.insert(high, 0, level, axis=1) for _, high, level in done if len(high)] or
                [np.empty((0, others + 1))]
            ),
        )  # fmt: skip


def expected_improvement(boxes: Boxes, objectives: Sequence[Shortfall]) -> Array:
    """Expected hypervolume improvement ``[c]`` of candidates."""
    total: Array | None = None
    for shortfall, (levels, low, high) in zip(objectives, boxes.levels, strict=True):
        below = np.ascontiguousarray(shortfall(levels).T)  # so that a level is a row
        extent = below[high]
        extent -= below[low]
        total = extent if total is None else np.multiply(total, extent, out=total)
    assert total is not None
    return np.asarray(total.sum(axis=0))


def _most_important(front: Array, reference: Array) -> Array:
    """The points that no other dominates, at most :data:`_MOST_POINTS`."""
    if not len(front):
        return front
    front = front[moocore.is_nondominated(front, keep_weakly=False)]
    most = _MOST_POINTS[front.shape[1]]
    if len(front) > most:
        added = moocore.hv_contributions(front, ref=reference)
        front = front[np.sort(np.argsort(-added, kind="stable")[:most])]
    return front
