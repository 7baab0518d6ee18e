"""Where a study's trials lie in its space."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fieldtune.server.bo.candidates import Candidates, Judge
from fieldtune.server.bo.encoding import Encoding
from fieldtune.server.bo.trial_rows import Row

Array = NDArray[np.float64]

_RECENT = 64
"""Trials by which the presence of conditional parameters is judged, of each kind."""


class Places:
    """Where trials lie in the space, and what the formulas say of them; each computed once."""

    def __init__(self, encoding: Encoding, judge: Judge) -> None:
        self.encoding, self.judge = encoding, judge
        self._units: dict[int, Array] = {}
        self._known: dict[int, Candidates] = {}
        self._patterns: tuple[Array, NDArray[np.bool_]] | None = None

    def units(self, rows: Sequence[Row]) -> Array:
        """Places ``[n, p]`` of trials."""
        for row in rows:
            if row.number not in self._units:
                # Snapped, so that it equals the candidate that it was.
                unit = self.encoding.unit(row.params)
                self._units[row.number] = self.encoding.snap(unit[None])[0]
        places = [self._units[row.number] for row in rows]
        return np.array(places).reshape(len(rows), len(self.encoding.axes))

    def known(self, rows: Sequence[Row]) -> Candidates:
        """Trials with what is known of them."""
        for row, unit in zip(rows, self.units(rows), strict=True):
            if row.number not in self._known:
                self._known[row.number] = self.judge.of(unit[None])
        none = self.judge.of(np.empty((0, len(self.encoding.axes))))
        return Candidates.join([none, *(self._known[row.number] for row in rows)])

    def learn_presence(self, rows: Sequence[Row]) -> None:
        """Remember which trials had which conditional parameters."""
        if not self.encoding.conditional:
            return
        kinds: dict[tuple[bool, ...], list[Array]] = {}
        for unit in self.units([row for row in rows if row.state != "pending"])[::-1]:
            kind = kinds.setdefault(tuple(np.isnan(unit).tolist()), [])
            if len(kind) < _RECENT:
                kind.append(unit)
        units = np.array([unit for kind in kinds.values() for unit in kind])
        if len(units):
            self._patterns = units, np.isnan(units)

    def with_absent(self, units: Array) -> Array:
        """Places without the parameters that their nearest trial did not have, ``[c, p]``.

        Near means: in the parameters that every configuration has, above all in their choices.
        """
        if self._patterns is None:
            return units
        always = [i for i, n in enumerate(self.encoding.axes) if n not in self.encoding.conditional]
        axes = list(self.encoding.axes.values())
        distance = np.zeros((len(units), len(self._patterns[0])))
        for i in always:
            mine, theirs = units[:, i, None], self._patterns[0][None, :, i]
            if axes[i].choices is None:
                distance += (mine - theirs) ** 2
            else:
                distance += 100.0 * (np.abs(mine - theirs) > 1e-9)
        absent = self._patterns[1][distance.argmin(axis=1)]
        return np.where(absent, np.nan, units)
