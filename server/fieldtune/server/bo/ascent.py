"""Climbing an acquisition function in the continuous parameters.

By L-BFGS on its logarithm, as expected improvement is nearly 0 over most of a space (Ament et al.
2023, "Unexpected improvements to expected improvement for Bayesian optimization"). Its slope is
taken from differences, as the formulas of known objectives have no derivatives; all neighbours of a
point are evaluated together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_STEPS = 10
_DIFFERENCE = 1e-5
_RULED_OUT = 1e3
"""What counts as the negative logarithm where nothing is allowed."""


def ascend(
    value: Callable[[Array], Array],
    unit: Array,
    free: Sequence[int],
    bounds: tuple[Array, Array] | None = None,
) -> Array:
    """Where an ascent from a point ends.

    Args:
        value: of points ``[c, p]``, above 0 at the start; NaN where a point is not allowed ``[c]``.
        unit: the start ``[p]``.
        free: indices of the parameters that may change.
        bounds: lower and upper bound ``[p]`` of each parameter; by default 0 and 1.

    Returns:
        The end ``[p]``.
    """
    from scipy.optimize import minimize  # slow to import

    if not free:
        return unit

    def descent(at: Array) -> tuple[float, Array]:
        steps = np.where(at > 0.5, -_DIFFERENCE, _DIFFERENCE)
        units = np.repeat(unit[None], len(free) + 1, axis=0)
        units[:, free] = at
        units[np.arange(1, len(units)), free] += steps
        found = value(units)
        if np.isnan(found[0]):
            return _RULED_OUT, np.zeros(len(free))
        logs = -np.log(np.maximum(found, 1e-300))
        return float(logs[0]), np.nan_to_num((logs[1:] - logs[0]) / steps)

    lower, upper = bounds or (np.zeros(len(unit)), np.ones(len(unit)))
    found = minimize(
        descent, unit[list(free)], jac=True, method="L-BFGS-B",
        bounds=[(float(lower[i]), float(upper[i])) for i in free],
        options={"maxiter": _STEPS, "maxfun": 2 * _STEPS},
    )  # fmt: skip
    end = unit.copy()
    end[list(free)] = found.x
    return end
