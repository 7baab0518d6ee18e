"""Where to look for the next configuration: candidates, and what is known of each."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from fieldtune.server.bo.encoding import Encoding
from fieldtune.server.bo.known import Formulas, Known

Array = NDArray[np.float64]

ENOUGH = 768
"""Feasible configurations that a pool holds, where there are as many."""

_MOST_DRAWN = 8192
_LISTED = 4096
"""A space of at most so many configurations is listed whole."""
_CLOSEST = 64
"""Of infeasible ones, so many that come nearest to being feasible are kept."""


@dataclass(frozen=True)
class Candidates:
    """Configurations and what is known of them.

    Attributes:
        units: their places ``[c, p]``.
        objectives: known values, to be minimised, ``[c, m]``; NaN where learned.
        constraints: known constraints ``[c, k]``.
    """

    units: Array
    objectives: Array
    constraints: Array

    def __len__(self) -> int:
        return len(self.units)

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_] | slice) -> Candidates:
        """Some of them."""
        return Candidates(self.units[index], self.objectives[index], self.constraints[index])

    @staticmethod
    def join(parts: Sequence[Candidates]) -> Candidates:
        """All of them."""
        return Candidates(
            np.concatenate([part.units for part in parts]),
            np.concatenate([part.objectives for part in parts]),
            np.concatenate([part.constraints for part in parts]),
        )


class Judge:
    """Asks the formulas, in the study's directions, and lines up what they say.

    Args:
        encoding: of the space.
        formulas: what is known; None is nothing.
        signs: -1 for an objective that is maximised, else 1, ``[m]``.
    """

    def __init__(
        self, encoding: Encoding, formulas: Formulas | None, signs: Sequence[float]
    ) -> None:
        self._encoding, self._formulas, self._signs = encoding, formulas, signs
        self.names: tuple[str, ...] | None = None
        """Names of the known constraints; None before the first was asked for."""

    def of(self, units: Array) -> Candidates:
        """Candidates at these places."""
        objectives = np.full((len(units), len(self._signs)), np.nan)
        rows: list[list[float]] = []
        values = self._encoding.values(units) if self._formulas else [{} for _ in units]
        for row, each in enumerate(values):
            known = self._formulas(each) if self._formulas else Known()
            if self.names is None:
                self.names = tuple(sorted(known.constraints))
            # What is no number is no promise: such a configuration counts as ruled out.
            rows.append([_number(known.constraints.get(name, np.inf)) for name in self.names])
            for index, value in known.objectives.items():
                objectives[row, index] = _number(self._signs[index] * value)
        constraints = np.array(rows).reshape(len(units), len(self.names or ()))
        return Candidates(units, objectives, constraints)


def _number(value: float) -> float:
    return np.inf if value != value else float(value)


def violation(constraints: Array) -> Array:
    """The worst constraint of each candidate, ``[c]``; -inf where there is none."""
    return np.asarray(constraints.max(axis=1, initial=-np.inf))


def fill_pool(encoding: Encoding, judge: Judge, seed: int) -> Candidates:
    """Feasible configurations all over the space, in an order of which each start is even.

    They come from a scrambled Sobol sequence (Owen 1998), or are all that there are. Where few are
    feasible, more are bred from those that come nearest to it.
    """
    rng = np.random.default_rng([seed, 0x9001])
    if encoding.count is not None and encoding.count <= _LISTED:
        return judge.of(rng.permutation(_every(encoding)))
    sobol = qmc.Sobol(len(encoding.axes), scramble=True, rng=rng)
    parts: list[Candidates] = []
    feasible = drawn = 0
    while feasible < ENOUGH and drawn < _MOST_DRAWN:
        part = judge.of(encoding.snap(encoding.widened(sobol.random(1024))))
        parts.append(part)
        drawn += len(part)
        feasible += int((violation(part.constraints) <= 0).sum())
    pool = _distinct(Candidates.join(parts))
    for scale in (0.3, 0.1, 0.1, 0.03, 0.03, 0.01):
        if feasible >= _CLOSEST:
            break
        order = np.argsort(violation(pool.constraints), kind="stable")
        children = perturb(encoding, pool.units[order[:_CLOSEST]], 256, scale, rng)
        pool = _distinct(Candidates.join([pool, judge.of(children)]))
        feasible = int((violation(pool.constraints) <= 0).sum())
    ruled_out = violation(pool.constraints) > 0
    near = np.argsort(violation(pool.constraints[ruled_out]), kind="stable")[:_CLOSEST]
    return Candidates.join(
        [
            pool.take(np.flatnonzero(~ruled_out)[:ENOUGH]),
            pool.take(np.flatnonzero(ruled_out)[near]),
        ]
    )


def perturb(
    encoding: Encoding, parents: Array, count: int, scale: float, rng: np.random.Generator
) -> Array:
    """Configurations ``[count, p]`` near some, each differing in at least one parameter.

    A parameter with few values moves by at least one of them; one whose choices have no order is
    drawn anew.
    """
    axes = list(encoding.axes.values())
    chosen = parents[rng.integers(len(parents), size=count)]
    moved = rng.random(chosen.shape) < max(1.5 / len(axes), 0.2)
    moved[np.arange(count), rng.integers(len(axes), size=count)] = True
    steps = rng.normal(0.0, scale, chosen.shape)
    anew = rng.random(chosen.shape)
    for i, axis in enumerate(axes):
        if axis.count is not None and axis.count > 1:
            steps[:, i] += np.copysign(1.0 / axis.count, steps[:, i])
        if not axis.ordered:
            steps[:, i] = anew[:, i] - np.nan_to_num(chosen[:, i], nan=0.5)
    # An absent parameter starts in the middle: whether it is absent is decided later.
    children = np.nan_to_num(chosen, nan=0.5) + np.where(moved, steps, 0.0)
    # Reflected at the ends.
    return encoding.confined(encoding.snap(1.0 - np.abs(1.0 - np.abs(children))))


def distinct_rows(units: Array) -> NDArray[np.intp]:
    """Indices of the first of each group of equal rows, in order."""
    _, first = np.unique(np.nan_to_num(units, nan=-1.0), axis=0, return_index=True)
    return np.sort(first)


def _distinct(candidates: Candidates) -> Candidates:
    return candidates.take(distinct_rows(candidates.units))


def _every(encoding: Encoding) -> Array:
    counts: list[int] = [axis.count or 1 for axis in encoding.allowed]
    places = [(np.arange(count) + 0.5) / count for count in counts]
    grid = np.array(list(itertools.product(*places)), dtype=float)
    return encoding.snap(encoding.widened(grid.reshape(-1, len(places))))
