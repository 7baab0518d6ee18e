"""Where a study's trials lie in its space."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fieldtune.server.bo.candidates import Candidates, Judge
from fieldtune.server.bo.encoding import Encoding
from fieldtune.server.bo.structure import Conditions, Structures
from fieldtune.server.bo.trial_rows import Row

Array = NDArray[np.float64]


class Places:
    """Where trials lie in the space, and what the formulas say of them; each computed once."""

    def __init__(
        self, encoding: Encoding, judge: Judge, conditions: Conditions | None = None
    ) -> None:
        self.encoding, self.judge = encoding, judge
        self.structures = Structures(encoding, conditions)
        self._units: dict[int, Array] = {}
        self._known: dict[int, Candidates] = {}

    def units(self, rows: Sequence[Row]) -> Array:
        """Places ``[n, p]`` of trials."""
        places = []
        for row in rows:
            place = self._units.get(row.number)
            if place is None:
                # Snapped, so that it equals the candidate that it was.
                place = self.encoding.snap(self.encoding.unit(row.params)[None])[0]
                if row.state != "pending":  # one in flight may not have all of its parameters yet
                    self._units[row.number] = place
            places.append(place)
        return np.array(places).reshape(len(rows), len(self.encoding.axes))

    def known(self, rows: Sequence[Row]) -> Candidates:
        """Trials with what is known of them."""
        found = [self.judge.of(np.empty((0, len(self.encoding.axes))))]
        for row, unit in zip(rows, self.units(rows), strict=True):
            known = self._known.get(row.number) or self.judge.of(unit[None])
            if row.state != "pending":
                self._known[row.number] = known
            found.append(known)
        return Candidates.join(found)

    def learn_structures(self, rows: Sequence[Row]) -> None:
        """Learn which parameters configurations have from trials that had them all.

        Others, such as failed ones, may have ended before they had all of their parameters.
        """
        whole = [row for row in rows if row.state in ("measured", "stopped", "ruled out")]
        self.structures.learn(self.units(whole))
