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
    many trials to learn of each parameter by itself.

    Args:
        encoding: of the parameters.
        pool: configurations all over the space.
    """

    def __init__(self, encoding: Encoding, pool: Candidates) -> None:
        self._encoding = encoding
        known = pool.objectives
        self._log = (known > 0).all(axis=0)
        costs = self._costs(known)
        self._mean, self._deviation = costs.mean(axis=0), costs.std(axis=0)
        self._used = np.flatnonzero(self._deviation > 1e-9 * (1 + np.abs(self._mean)))
        columns = [*encoding.groups, *(f":cost {index}" for index in self._used)]
        self.names = list(dict.fromkeys(columns))
        """Of the groups of columns."""
        self.groups = [self.names.index(name) for name in columns]
        """The group of each column."""

    def of(self, candidates: Candidates) -> Array:
        """Columns ``[c, d]``."""
        costs = (self._costs(candidates.objectives) - self._mean)[:, self._used]
        scaled = _SPREAD * costs / self._deviation[self._used]
        return np.concatenate([self._encoding.features(candidates.units), scaled], axis=1)

    def _costs(self, objectives: Array) -> Array:
        return np.where(self._log, np.log(np.maximum(objectives, 1e-300)), objectives)
