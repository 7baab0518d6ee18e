"""What models see of a configuration: its parameters, and what the formulas say of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fieldtune.server.bo.candidates import Candidates
from fieldtune.server.bo.encoding import Encoding

Array = NDArray[np.float64]

_SPREAD = 0.4
"""Standard deviation of a known objective's column over the pool; parameters lie within 0..1."""


class Features:
    """Columns for models: the encoding's, then one for each objective that has a formula.

    What costs more has trained more or is larger, so a cost tells of the error what would take
    many trials to learn of each parameter by itself. An infinite cost, as of a configuration that
    fits no device, counts as the largest finite one of the pool.

    Args:
        encoding: of the parameters.
        pool: configurations all over the space.
    """

    def __init__(self, encoding: Encoding, pool: Candidates) -> None:
        self._encoding = encoding
        told = np.isfinite(pool.objectives)  # a cost is infinite where it fits no device
        self._log = ((pool.objectives > 0) | ~told).all(axis=0) & told.any(axis=0)
        self._most = np.where(told, pool.objectives, -np.inf).max(axis=0, initial=-np.inf)
        costs = self._costs(np.where(told.any(axis=0), pool.objectives, 0.0))
        self._mean, self._deviation = costs.mean(axis=0), costs.std(axis=0)
        self._used = np.flatnonzero(self._deviation > 1e-9 * (1 + np.abs(self._mean)))
        columns = [*encoding.groups, *(f":cost {index}" for index in self._used)]
        self.names = list(dict.fromkeys(columns))
        """Of the groups of columns."""
        self.groups = [self.names.index(name) for name in columns]
        """The group of each column."""

    def of(self, candidates: Candidates) -> Array:
        """Columns ``[c, d]``; a cost that is infinite is as large as the largest of the pool."""
        costs = (self._costs(candidates.objectives) - self._mean)[:, self._used]
        scaled = _SPREAD * np.nan_to_num(costs / self._deviation[self._used])
        return np.concatenate([self._encoding.features(candidates.units), scaled], axis=1)

    def _costs(self, objectives: Array) -> Array:
        costs = np.where(np.isposinf(objectives), self._most, objectives)
        return np.where(self._log, np.log(np.maximum(costs, 1e-300)), costs)
