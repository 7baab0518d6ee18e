"""A box around the best configuration, for what a model explains badly.

With one objective of many parameters and few trials, expected improvement is largest where nothing
is known, which is in the corners: almost all of a space is far from every trial. Searching near the
best configuration as well is what finds better ones there (Eriksson et al. 2019, "Scalable global
optimization via local Bayesian optimization", section 2 and supplement B).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fieldtune.server.bo.encoding import Encoding
from fieldtune.server.bo.surrogate import Surrogate
from fieldtune.server.bo.trial_points import TrialPoints

Array = NDArray[np.float64]

_FEWEST_PARAMETERS = 8
_TRIALS_A_PARAMETER = 3
"""With fewer trials, what a model explains is not known yet, and exploring teaches it."""
_EXPLAINED = 0.5
"""A model that explains this share of the variance is to be trusted everywhere."""

_SIDE, _LEAST_SIDE, _LARGEST_SIDE = 0.2, 0.5**6, 1.6
"""Of the box, as shares of a range: the first one, where it begins anew, and the largest."""
_SUCCESSES, _FAILURES = 2, 5
"""So many in a row double the side, or halve it."""
_DRAWN, _MOVED = 512, 0.5
"""Configurations drawn from a box, and the share of the parameters in which they differ."""


@dataclass(frozen=True)
class TrustRegion:
    """A box of the unit cube.

    Attributes:
        centre: the best configuration ``[p]``.
        lower, upper: its bounds ``[p]``.
    """

    centre: Array
    lower: Array
    upper: Array

    @classmethod
    def needed(
        cls, encoding: Encoding, points: TrialPoints, surrogate: Surrogate, startup: int
    ) -> TrustRegion | None:
        """The box around the best trial; None where the model is to be trusted everywhere.

        Sides are in proportion to the length scales, and grow or shrink as later trials do or do
        not improve on the best before them.
        """
        rows, axes = surrogate.measured, encoding.axes
        few = len(axes) < _FEWEST_PARAMETERS or len(rows) < _TRIALS_A_PARAMETER * len(axes)
        if few or encoding.conditional or len(surrogate.models) > 1:
            return None
        (objective,) = surrogate.models
        feasible = surrogate.feasible_rows()[: len(rows)]
        if objective.known or objective.unexplained <= 1 - _EXPLAINED or not feasible.any():
            return None
        values = np.where(feasible, surrogate.values_of_trials[: len(rows), 0], np.inf)
        centre = points.units([rows[int(np.argmin(values))]])[0]
        told = [row.values[0] if row.feasible else np.inf for row in rows]
        kernel = surrogate.kernels["objective 0"]
        lengths = np.array([kernel.get(name, 0.0) for name in axes])
        half = side(told, startup) / 2 * np.exp(lengths - lengths.mean())
        unordered = np.array([not axis.ordered for axis in axes.values()])
        lower, upper = np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)
        return cls(centre, np.where(unordered, 0.0, lower), np.where(unordered, 1.0, upper))

    def draw(self, rng: np.random.Generator) -> Array:
        """Places ``[c, p]`` in the box, each differing from the centre in some parameters."""
        shape = _DRAWN, len(self.centre)
        moved = rng.random(shape) < _MOVED
        moved[np.arange(_DRAWN), rng.integers(len(self.centre), size=_DRAWN)] = True
        return np.where(moved, rng.uniform(self.lower, self.upper, shape), self.centre)

    def clip(self, units: Array) -> Array:
        """The nearest places ``[n, p]`` within the box."""
        return np.clip(units, self.lower, self.upper)


def side(values: Sequence[float], startup: int) -> float:
    """The side of the box after trials with these results, to be minimised.

    Args:
        values: one each trial, in their order; infinite where a limit was missed.
        startup: so many of them were spread evenly.
    """
    found, successes, failures = _SIDE, 0, 0
    best = min(values[:startup], default=np.inf)
    for value in values[startup:]:
        successes, failures = (successes + 1, 0) if value < best else (0, failures + 1)
        best = min(best, value)
        if successes >= _SUCCESSES:
            found, successes = min(2 * found, _LARGEST_SIDE), 0
        if failures >= _FAILURES:
            found, failures = found / 2, 0
        if found < _LEAST_SIDE:
            found = _SIDE
    return found
