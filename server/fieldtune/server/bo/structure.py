"""Which parameters a configuration has, where that depends on the values of others.

It is declared, or learned from trials by a decision tree over parameters with few values: at each
node, the one whose values tell most of which parameters the trials had. A value that no trial had
at such a node leads nowhere: what a configuration with it looks like is unknown until one is tried.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.server.bo.encoding import Encoding

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]

Conditions = Mapping[str, Mapping[str, Sequence[Any]]]
"""Name of a conditional parameter -> name of another -> values of that with which it exists."""

_FEW = 16
"""Parameters of more values than this do not decide which others there are."""
_DIGITS = 9


@dataclass
class _Node:
    """Trials that share the values that led here.

    Attributes:
        absent: which parameters most of them lack ``[p]``.
        axis: whose values divide them further; None where they do not differ, or nothing does.
        branches: by value.
    """

    absent: Bools
    axis: int | None = None
    branches: dict[float, _Node] = field(default_factory=dict)


class Structures:
    """Tells which parameters configurations have.

    Args:
        encoding: of all parameters.
        conditions: declared; every parameter that is not named is then always there. Without
            any, they are learned from trials.
    """

    def __init__(self, encoding: Encoding, conditions: Conditions | None = None) -> None:
        self._encoding, self._names = encoding, list(encoding.axes)
        self._conditions = dict(conditions or {})
        self._few = [
            i
            for i, axis in enumerate(encoding.axes.values())
            if axis.count is not None and 1 < axis.count <= _FEW
        ]
        self._tree: _Node | None = None
        self.key = ""
        """Differs where configurations have other parameters than before."""
        self._units = np.empty((0, len(self._names)))

    def learn(self, units: Array) -> None:
        """Learn from the places ``[n, p]`` of trials; NaN where one lacks a parameter."""
        self._units = np.round(units, _DIGITS)
        if self._encoding.conditional and not self._conditions and len(units):
            self._tree = self._grown(self._units)
            self.key = repr(self._tree)

    def restrict(self, units: Array) -> tuple[Array, Bools]:
        """Places ``[c, p]`` without the parameters that they would not have.

        Returns:
            The places, and of each whether this is known ``[c]``. Where it is not, they are as
            those of trials that have the same values as far as there are any.
        """
        if self._conditions:
            return self._declared(units), np.ones(len(units), dtype=bool)
        if self._tree is None:
            return units, np.ones(len(units), dtype=bool)
        restricted, known = units.copy(), np.ones(len(units), dtype=bool)
        self._descend(
            self._tree, np.arange(len(units)), np.round(units, _DIGITS), restricted, known
        )
        return restricted, known

    def untried(self, units: Array, *, jointly: bool) -> Bools:
        """Which places ``[c]`` have a value that no trial had, of a parameter with few values.

        Jointly: or a combination of such values.
        """
        if not self._few:
            return np.zeros(len(units), dtype=bool)
        ours, theirs = (
            np.nan_to_num(np.round(each, _DIGITS), nan=-1.0)[:, self._few]
            for each in (units, self._units)
        )
        if jointly:
            tried = {each.tobytes() for each in theirs}
            return np.array([each.tobytes() not in tried for each in ours], dtype=bool)
        fresh = [~np.isin(ours[:, i], theirs[:, i]) for i in range(len(self._few))]
        return np.asarray(np.any(fresh, axis=0))

    def _declared(self, units: Array) -> Array:
        units, settled = units.copy(), set[str]()

        def settle(name: str) -> None:
            if name in settled:
                return
            settled.add(name)
            there = np.ones(len(units), dtype=bool)
            for other, values in self._conditions.get(name, {}).items():
                settle(other)
                axis = self._encoding.axes[other]
                points = [axis.unit(value) for value in values]
                at = np.round(units[:, self._names.index(other)], _DIGITS)
                there &= np.isin(at, np.round(points, _DIGITS))
            units[~there, self._names.index(name)] = np.nan

        for name in self._conditions:
            settle(name)
        return units

    def _grown(self, units: Array) -> _Node:
        absent = np.isnan(units)
        patterns, kind, counts = np.unique(absent, axis=0, return_inverse=True, return_counts=True)
        node = _Node(patterns[counts.argmax()])
        if len(patterns) == 1:
            return node
        axes = list(self._encoding.axes.values())
        found = []
        for i in self._few:
            values = np.unique(units[:, i])
            if len(values) > 1 and not absent[:, i].any():
                left = sum(_disorder(kind[units[:, i] == value]) for value in values)
                # Of equals: choices without an order, then the fewest values.
                found.append((round(left, _DIGITS), axes[i].ordered, len(values), i))
        node.axis = min(found)[-1] if found else None
        if node.axis is not None:
            at = units[:, node.axis]
            node.branches = {
                float(value): self._grown(units[at == value]) for value in np.unique(at)
            }
        return node

    def _descend(
        self, node: _Node, rows: NDArray[np.intp], units: Array, into: Array, known: Bools
    ) -> None:
        """Make absent in ``into`` what is absent in this node's trials, for some rows."""
        if node.axis is None:
            into[np.ix_(rows, np.flatnonzero(node.absent))] = np.nan
            return
        at, left = units[rows, node.axis], np.ones(len(rows), dtype=bool)
        for value, branch in node.branches.items():
            here = at == value
            left &= ~here
            if here.any():
                self._descend(branch, rows[here], units, into, known)
        into[np.ix_(rows[left], np.flatnonzero(node.absent))] = np.nan
        known[rows[left]] = False


def _disorder(kinds: NDArray[np.intp]) -> float:
    """Entropy of a sample times its size, in nats."""
    counts = np.bincount(kinds)
    counts = counts[counts > 0]
    return float(-(counts * np.log(counts / counts.sum())).sum())
