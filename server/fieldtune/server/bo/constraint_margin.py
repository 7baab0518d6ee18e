"""How much of each known limit a configuration may be predicted to use."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fieldtune.server.bo.trial_rows import TrialRow

Array = NDArray[np.float64]

_SAFE_Z = 2.33
"""Quantile of a normal distribution: 99 %."""


def allowance(
    names: Sequence[str], measured: Sequence[TrialRow], predicted: Array, margin: float | None
) -> Array:
    """What each known constraint may be at most, ``[k]``: 0, or less where formulas are off.

    Of a limit that was measured, the logarithm of measured to predicted use is taken to be normal;
    its upper 99 % end must fit.

    Args:
        names: of the constraints.
        measured: the trials, with constraints as told.
        predicted: by the formulas ``[n, k]``.
        margin: share of a limit that is kept free until the first trial was measured; None trusts
            the formulas.
    """
    allowed = np.zeros(len(names))
    if margin is None:
        return allowed
    told = np.array([[row.constraints.get(name, np.nan) for name in names] for row in measured])
    for i, use in enumerate(1 + told.reshape(len(measured), len(names)).T):
        formula = 1 + predicted[:, i]
        given = (use > 0) & (formula > 0)
        ratios = np.log(use[given] / formula[given])
        if len(ratios) and np.abs(ratios).max() > 1e-6:
            n = len(ratios)
            squares = float(((ratios - ratios.mean()) ** 2).sum()) + 0.1**2
            safe = ratios.mean() + _SAFE_Z * np.sqrt(squares / n * (1 + 1 / n))
            allowed[i] = np.exp(-max(safe, 0.0)) - 1
        elif not measured:
            allowed[i] = 1 / (1 + margin) - 1
    return allowed
