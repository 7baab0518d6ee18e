"""Trials as points of the unit cube, with their known objectives and constraints."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fieldtune.server.bo.candidates import Candidates, FormulaEvaluator
from fieldtune.server.bo.encoding import Encoding
from fieldtune.server.bo.structure import Conditions, Structures
from fieldtune.server.bo.trial_rows import TrialRow

Array = NDArray[np.float64]

_DIGITS = 9
"""Points that agree to so many decimals are the same configuration."""


class TrialPoints:
    """Points of trials, and their known objectives and constraints; each computed once."""

    def __init__(
        self, encoding: Encoding, evaluator: FormulaEvaluator, conditions: Conditions | None = None
    ) -> None:
        self.encoding, self.evaluator = encoding, evaluator
        self.structures = Structures(encoding, conditions)
        self._units: dict[int, Array] = {}
        self._keys: dict[int, bytes] = {}
        self._known: dict[int, Candidates] = {}

    def units(self, rows: Sequence[TrialRow]) -> Array:
        """Places ``[n, p]`` of trials."""
        points = []
        for row in rows:
            place = self._units.get(row.number)
            if place is None:
                # Snapped, so that it equals the candidate that it was.
                place = self.encoding.snap(self.encoding.unit(row.params)[None])[0]
                if row.state != "pending":  # one in flight may not have all of its parameters yet
                    self._units[row.number] = place
            points.append(place)
        return np.array(points).reshape(len(rows), len(self.encoding.axes))

    def keys(self, rows: Sequence[TrialRow]) -> set[bytes]:
        """What tells trials' points apart, as :func:`point_keys`."""
        found = set()
        for row in rows:
            key = self._keys.get(row.number)
            if key is None:
                (key,) = point_keys(self.units([row]))
                if row.state != "pending":
                    self._keys[row.number] = key
            found.add(key)
        return found

    def known(self, rows: Sequence[TrialRow]) -> Candidates:
        """Trials with what is known of them."""
        found = [self.evaluator.of(np.empty((0, len(self.encoding.axes))))]
        for row, unit in zip(rows, self.units(rows), strict=True):
            known = self._known.get(row.number) or self.evaluator.of(unit[None])
            if row.state != "pending":
                self._known[row.number] = known
            found.append(known)
        return Candidates.join(found)

    def learn_structures(self, rows: Sequence[TrialRow]) -> None:
        """Learn which parameters configurations have from trials that had them all.

        Others, such as failed ones, may have ended before they had all of their parameters.
        """
        whole = [row for row in rows if row.state in ("measured", "stopped", "infeasible")]
        self.structures.learn(self.units(whole))


def point_keys(units: Array) -> list[bytes]:
    """Of each of these points ``[n, p]``, bytes that are equal for the same configuration."""
    return [unit.tobytes() for unit in np.round(units, _DIGITS)]
