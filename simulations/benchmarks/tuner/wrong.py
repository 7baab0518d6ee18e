"""Problems whose formulas are wrong, while what is measured is true.

``low``: every cost is predicted 30 % too low, so that what just fits does not: use is predicted as
``true / 1.3``. ``scattered``: each configuration's costs are off by a factor of its own, even in
the logarithm between ``1 / 1.3`` and ``1.3``; the same for the same configuration.
"""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from fieldtune.server.bo.known import Known
from tuner.problem import Changed, Problem, Values

Error = Literal["low", "scattered"]
BY = 1.3


class Wrong(Changed):
    """A problem with formulas off by 30 %."""

    def __init__(self, problem: Problem, error: Error) -> None:
        super().__init__(problem)
        self._error = error

    def known(self, values: Values) -> Known:
        """What the formulas say, wrongly."""
        known, factor = self._problem.known(values), self._factor(values)
        return Known(
            {index: factor * value for index, value in known.objectives.items()},
            {name: factor * (value + 1) - 1 for name, value in known.constraints.items()},
        )

    def _factor(self, values: Values) -> float:
        if self._error == "low":
            return 1 / BY
        text = json.dumps(dict(values), sort_keys=True).encode()
        uniform = int.from_bytes(hashlib.sha256(text).digest()[:8], "big") / 2**64
        return float(BY ** (2 * uniform - 1))
