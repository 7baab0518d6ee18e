"""Known objectives and constraints of a configuration: those computed without a trial."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True)
class Known:
    """Formulas' values for one configuration.

    ``objectives`` maps the index of an objective to its value, in the study's own direction; an
    objective that is left out is learned. ``constraints`` maps a name to a normalised constraint,
    ``used / cap - 1``: feasible at or below 0.
    """

    objectives: Mapping[int, float] = field(default_factory=dict)
    constraints: Mapping[str, float] = field(default_factory=dict)


Formulas = Callable[[Mapping[str, Any]], Known | None]
"""From parameter values to known objectives and constraints; None where no trial can have these
values together."""


@runtime_checkable
class PreparesMany(Protocol):
    """Formulas that are computed faster for many configurations together."""

    def prepare_many(self, configurations: Sequence[Mapping[str, Any]]) -> None:
        """Is called before the formulas are asked for each of these; a KeyError is ignored."""
