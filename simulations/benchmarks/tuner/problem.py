"""What a problem is: a space, what is known of each configuration, and its evaluation.

Anyone's class with these members runs in the benchmark: ``--problem package.module:Class``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from fieldtune.profiles.common.errors import DataError
from fieldtune.server.bo.known import Known
from fieldtune.server.study.space import Parameter, Value

Values = Mapping[str, Value]
"""A configuration: parameter -> value."""

WORST = 1.1
"""Reference point of a score: ideal 0, nadir 1, and a tenth beyond."""

_REFERENCES = Path(__file__).with_name("references.toml")


@dataclass(frozen=True)
class Evaluation:
    """What trying a configuration taught."""

    objectives: tuple[float, ...]
    """All minimised."""
    constraints: Mapping[str, float]
    """As measured: limit -> used / cap - 1, always the same limits in the same order."""
    device_s: float
    """Seconds that devices were busy, all together."""

    @property
    def feasible(self) -> bool:
        """Whether every limit held."""
        return all(value <= 0 for value in self.constraints.values())


@dataclass(frozen=True)
class Reference:
    """The frozen scale of a problem's scores.

    Args:
        ideal: the best value of each objective on the best front known.
        nadir: the worst value of each objective on it.
        hypervolume: of that front, normalised so that ideal is 0 and nadir 1, up to 1.1.
        source: how they were found.
    """

    ideal: tuple[float, ...]
    nadir: tuple[float, ...]
    hypervolume: float
    source: str


class Problem(Protocol):
    """A tuning task."""

    @property
    def name(self) -> str:
        """What tables call it."""

    @property
    def space(self) -> Mapping[str, Parameter]:
        """Parameter -> what it may be."""

    @property
    def objectives(self) -> tuple[str, ...]:
        """Names; all are minimised."""

    @property
    def shares(self) -> frozenset[int]:
        """Objectives that are shares in 0..1, such as an error: models take their logit."""

    @property
    def rounds(self) -> int:
        """Rounds of a full evaluation; 1 where there are no partial ones."""

    @property
    def trials(self) -> int:
        """Budget, in full evaluations."""

    @property
    def reference(self) -> Reference:
        """The scale of scores."""

    def known(self, values: Values) -> Known:
        """What formulas say, at no cost."""

    def evaluate(self, values: Values, rounds: int, seed: int) -> Evaluation:
        """Try a configuration for so many rounds; the same arguments give the same answer."""

    def truth(self, values: Values) -> Evaluation:
        """What the configuration is really worth: without noise, or over fresh seeds.

        Only the judge asks.
        """


class Changed:
    """A problem like another one; subclasses change something of it."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self.name: str = problem.name
        self.space: Mapping[str, Parameter] = problem.space
        self.objectives: tuple[str, ...] = problem.objectives
        self.shares: frozenset[int] = problem.shares
        self.rounds: int = problem.rounds
        self.trials: int = problem.trials

    @property
    def reference(self) -> Reference:
        """The problem's."""
        return self._problem.reference

    def known(self, values: Values) -> Known:
        """The problem's."""
        return self._problem.known(values)

    def evaluate(self, values: Values, rounds: int, seed: int) -> Evaluation:
        """As measured."""
        return self._problem.evaluate(values, rounds, seed)

    def truth(self, values: Values) -> Evaluation:
        """The problem's."""
        return self._problem.truth(values)


def frozen_reference(name: str) -> Reference:
    """The scale that the repository holds for a problem of its own.

    Raises:
        DataError: there is none.
    """
    table = _references()
    if name not in table:
        raise DataError(
            f"{_REFERENCES.name} has no scale for {name!r}: run freeze.py, or give the problem a "
            "reference of its own"
        )
    found = table[name]
    return Reference(
        tuple(found["ideal"]), tuple(found["nadir"]), found["hypervolume"], found["source"]
    )


@cache
def _references() -> Mapping[str, Any]:
    return tomllib.loads(_REFERENCES.read_text())


def ruled_out(known: Known) -> bool:
    """Whether formulas say that a limit is missed."""
    return any(value > 0 for value in known.constraints.values())


def learned(problem: Problem, known: Known) -> list[int]:
    """Indices of the objectives that no formula gives."""
    return [index for index in range(len(problem.objectives)) if index not in known.objectives]
