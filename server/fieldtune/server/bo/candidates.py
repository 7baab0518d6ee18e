"""Candidate configurations, with their known objectives and constraints."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.server.bo.encoding import Encoding
from fieldtune.server.bo.known import Formulas, Known, PreparesMany
from fieldtune.server.bo.structure import Structures

Array = NDArray[np.float64]

ENOUGH = 768
"""Feasible configurations that a pool holds, where there are as many."""

_MOST_DRAWN = 8192
_LISTED = 4096
"""A space of at most so many configurations is listed whole."""
_FILLING_SCALES = (0.2, 0.1, 0.05, 0.1, 0.05, 0.1, 0.05)
"""Steps from feasible configurations to further ones, where there are fewer than enough."""
_CLOSEST = 64
"""Of infeasible ones, so many that come nearest to being feasible are kept."""


@dataclass(frozen=True)
class Candidates:
    """Configurations with their known objectives and constraints.

    Attributes:
        units: their places ``[c, p]``.
        objectives: known values, to be minimised, ``[c, m]``; NaN where learned.
        constraints: known constraints ``[c, k]``.
        exists: whether the formulas apply ``[c]``. If not, no trial can have these values together.
    """

    units: Array
    objectives: Array
    constraints: Array
    exists: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.units)

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_] | slice) -> Candidates:
        """Some of them."""
        return Candidates(
            self.units[index],
            self.objectives[index],
            self.constraints[index],
            self.exists[index],
        )

    @staticmethod
    def join(parts: Sequence[Candidates]) -> Candidates:
        """All of them."""
        most = max(part.constraints.shape[1] for part in parts)
        return Candidates(
            np.concatenate([part.units for part in parts]),
            np.concatenate([part.objectives for part in parts]),
            np.concatenate([_padded(part.constraints, most) for part in parts]),
            np.concatenate([part.exists for part in parts]),
        )


class FormulaEvaluator:
    """Evaluates the formulas for many configurations, with objectives to be minimised.

    Args:
        encoding: of the space.
        formulas: of known objectives and constraints; None if there are none.
        signs: -1 for an objective that is maximised, else 1, ``[m]``.
    """

    def __init__(
        self, encoding: Encoding, formulas: Formulas | None, signs: Sequence[float]
    ) -> None:
        self._encoding, self._formulas, self._signs = encoding, formulas, signs
        self.names: tuple[str, ...] | None = None
        """Names of the known constraints; None before the first was asked for."""
        self.refused: KeyError | None = None
        """What the formulas raised last, where a parameter was missing."""

    def of(self, units: Array) -> Candidates:
        """Candidates at these places."""
        if self._formulas is None:
            return Candidates(
                units,
                np.full((len(units), len(self._signs)), np.nan),
                np.empty((len(units), 0)),
                np.ones(len(units), dtype=bool),
            )
        configurations = self._encoding.values(units)
        if isinstance(self._formulas, PreparesMany):
            with suppress(KeyError):
                self._formulas.prepare_many(configurations)
        known = [self._known(values) for values in configurations]
        if self.names is None:
            self.names = next((tuple(sorted(k.constraints)) for k in known if k), None)
        names = self.names or ()
        objectives = np.full((len(units), len(self._signs)), np.nan)
        constraints = np.full((len(units), len(names)), np.nan)
        for row, each in enumerate(known):
            if each is None:
                continue
            # A constraint that is missing or not a number counts as violated.
            constraints[row] = [each.constraints.get(name, np.nan) for name in names]
            for index, value in each.objectives.items():
                objectives[row, index] = _number(self._signs[index] * value)
        exists = np.array([each is not None for each in known], dtype=bool)
        constraints[np.isnan(constraints) & exists[:, None]] = np.inf
        return Candidates(units, objectives, constraints, exists)

    def _known(self, values: Mapping[str, Any]) -> Known | None:
        """Known objectives and constraints; None where the formulas do not apply."""
        assert self._formulas is not None
        try:
            return self._formulas(values)
        except KeyError as missing:
            self.refused = missing
            return None


def _number(value: float) -> float:
    return np.inf if value != value else float(value)


def _padded(constraints: Array, most: int) -> Array:
    """With columns for constraints whose names were not known yet: of what does not exist."""
    missing = most - constraints.shape[1]
    return (
        np.pad(constraints, ((0, 0), (0, missing)), constant_values=np.nan)
        if missing
        else constraints
    )


def violation(candidates: Candidates) -> Array:
    """The largest constraint of each ``[c]``; -inf without any, inf if it cannot exist."""
    worst = candidates.constraints.max(axis=1, initial=-np.inf)
    return np.where(candidates.exists, worst, np.inf)


@dataclass(frozen=True)
class Pool:
    """Candidates with which a search starts.

    Attributes:
        candidates: configurations all over the space, in an order of which each start is even.
        unknown: points ``[s, p]`` of others, whose set of parameters is not known.
    """

    candidates: Candidates
    unknown: Array


def fill_pool(
    encoding: Encoding, evaluator: FormulaEvaluator, seed: int, structures: Structures | None = None
) -> Pool:
    """Feasible configurations from a scrambled Sobol sequence (Owen 1998), or all that there are.

    Where few are feasible, more are bred from those that come nearest to it, and then from these.

    Args:
        encoding: of the space.
        evaluator: of the formulas.
        seed: of all that is random.
        structures: which parameters configurations have; by default the same.
    """
    from scipy.stats import qmc  # slow to import

    structures = structures or Structures(encoding)
    rng = np.random.default_rng([seed, 0x9001])
    if encoding.count is not None and encoding.count <= _LISTED:
        return evaluated(evaluator, structures, rng.permutation(_every(encoding)))
    sobol = qmc.Sobol(len(encoding.axes), scramble=True, rng=rng)
    parts: list[Pool] = []
    feasible = drawn = 0
    while feasible < ENOUGH and drawn < _MOST_DRAWN:
        parts.append(
            evaluated(evaluator, structures, encoding.snap(encoding.widened(sobol.random(1024))))
        )
        drawn += 1024
        feasible += int((violation(parts[-1].candidates) <= 0).sum())
    pool = _distinct(Candidates.join([part.candidates for part in parts]))
    for scale in (0.3, 0.1, 0.1, 0.03, 0.03, 0.01):
        if feasible >= _CLOSEST or not len(pool):
            break
        order = np.argsort(violation(pool), kind="stable")
        children = perturb(encoding, pool.units[order[:_CLOSEST]], 256, scale, rng)
        bred = evaluated(evaluator, structures, children).candidates
        pool = _distinct(Candidates.join([pool, bred]))
        feasible = int((violation(pool) <= 0).sum())
    for scale in _FILLING_SCALES:
        within = np.flatnonzero(violation(pool) <= 0)
        if not 0 < len(within) < ENOUGH:
            break
        children = perturb(encoding, pool.units[within], 1024, scale, rng)
        pool = _distinct(
            Candidates.join([pool, evaluated(evaluator, structures, children).candidates])
        )
    ruled_out = violation(pool) > 0
    near = np.argsort(violation(pool.take(ruled_out)), kind="stable")[:_CLOSEST]
    kept = [
        pool.take(np.flatnonzero(~ruled_out)[:ENOUGH]),
        pool.take(np.flatnonzero(ruled_out)[near]),
    ]
    return Pool(Candidates.join(kept), np.concatenate([part.unknown for part in parts]))


def evaluated(evaluator: FormulaEvaluator, structures: Structures, units: Array) -> Pool:
    """Places without the parameters that they would not have, and what is known of them."""
    units, known = structures.restrict(units)
    found = evaluator.of(units[known])
    unknown = np.concatenate([units[~known], found.units[~found.exists]])
    return Pool(found.take(found.exists), unknown)


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
            steps[:, i] = anew[:, i] - np.nan_to_num(chosen[:, i], nan=0.0)
    # An absent parameter starts anywhere: whether it is absent is decided later.
    children = np.where(np.isnan(chosen), anew, chosen + np.where(moved, steps, 0.0))
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
    points = [(np.arange(count) + 0.5) / count for count in counts]
    grid = np.array(list(itertools.product(*points)), dtype=float)
    return encoding.snap(encoding.widened(grid.reshape(-1, len(points))))
