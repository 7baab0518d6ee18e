"""The trials of a study as rows of numbers, read once each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

PARTIAL_KEY = "fieldtune:partial"
"""User attribute of a trial stopped early: ``{"share": of its rounds, "values": [...]}``."""

CURVE_KEY = "fieldtune:curve"
"""User attribute of a trial trained to its end: a list of what ``fieldtune:partial`` is, a rung
each."""

State = Literal["measured", "pending", "stopped", "failed", "infeasible"]


@dataclass(frozen=True)
class TrialRow:
    """A trial, with objectives to be minimised."""

    number: int
    state: State
    params: Mapping[str, Any]
    values: tuple[float, ...]
    """Empty where there are none; NaN where one is missing."""
    constraints: Mapping[str, float]
    """As told; normalised, feasible at or below 0."""
    share: float = 1.0
    """Of its rounds, those after which ``values`` were measured."""
    curve: tuple[tuple[float, tuple[float, ...]], ...] = ()
    """Earlier shares of its rounds, and the values then."""

    @cached_property
    def feasible(self) -> bool:
        """Whether every constraint holds, as told."""
        return all(value <= 0 for value in self.constraints.values())

    @cached_property
    def limits(self) -> frozenset[str]:
        """Names of the constraints that were told."""
        return frozenset(self.constraints)


class History:
    """The rows of one study; finished trials never change, so each is read once."""

    def __init__(self, study: Study) -> None:
        self._signs = [
            -1.0 if direction == StudyDirection.MAXIMIZE else 1.0 for direction in study.directions
        ]
        self._finished: dict[int, TrialRow] = {}
        self._leading, self._read = list[TrialRow](), 0
        """The rows of so many first trials, all of them finished."""
        self._names: dict[str, BaseDistribution] = {}
        self._always: set[str] | None = None

    def update(
        self,
        trials: Sequence[FrozenTrial],
        asking: int,
        proposed: Mapping[int, Mapping[str, Any]] | None = None,
    ) -> list[TrialRow]:
        """The rows of these trials but the one that is asking, by number.

        Args:
            trials: of the study.
            asking: number of the trial for which a proposal is made.
            proposed: by number, what was proposed for trials that may not have stored it yet.
        """
        rows, leading = list(self._leading), True
        for trial in trials[self._read :]:
            row = self._finished.get(trial.number)
            if row is None and trial.number != asking:
                row = self._read_anew(trial, proposed or {})
            if row is not None:
                rows.append(row)
            leading = leading and trial.number != asking and trial.state.is_finished()
            if leading:
                self._read += 1
                self._leading += rows[len(self._leading) :]
        return rows

    def _read_anew(
        self, trial: FrozenTrial, proposed: Mapping[int, Mapping[str, Any]]
    ) -> TrialRow | None:
        """The row of a trial; None if it has not begun, or has no parameters."""
        finished = trial.state.is_finished()
        if not (finished or trial.state == TrialState.RUNNING):
            return None
        params = trial.params
        if not finished:
            params = {**proposed.get(trial.number, {}), **params}
        if not params:
            return None
        row = self._row(trial, params)
        self._names.update(trial.distributions)
        if finished:
            self._finished[trial.number] = row
            if row.state != "failed":  # it may have ended before it had all of its parameters
                present = set(params)
                self._always = present if self._always is None else self._always & present
        return row

    @property
    def space(self) -> dict[str, BaseDistribution]:
        """Every parameter that a trial had, with its latest distribution."""
        return dict(self._names)

    @property
    def conditional(self) -> frozenset[str]:
        """Parameters that some trials had and others had not, failed ones left out."""
        return frozenset(self._names) - (self._always or set(self._names))

    def _row(self, trial: FrozenTrial, params: Mapping[str, Any]) -> TrialRow:
        constraints = trial.constraints
        values, share = self._values(trial)
        state: State
        match trial.state:
            case TrialState.RUNNING:
                state = "pending"
            case TrialState.COMPLETE:
                state = "measured" if values else "failed"
            case TrialState.PRUNED:
                state = "stopped"
            case _:
                violated = any(value > 0 for value in constraints.values())
                state = "infeasible" if violated else "failed"
        curve = tuple(
            (share, there)
            for partial in trial.user_attrs.get(CURVE_KEY, ())
            for there, share in [self._partial(partial)]
            if there
        )
        return TrialRow(trial.number, state, params, values, constraints, share, curve)

    def _values(self, trial: FrozenTrial) -> tuple[tuple[float, ...], float]:
        """Values to be minimised and the share of the rounds behind them; empty if unusable."""
        if trial.state == TrialState.COMPLETE:
            return self._partial({"values": trial.values})
        if trial.state == TrialState.PRUNED:
            return self._partial(trial.user_attrs.get(PARTIAL_KEY) or {})
        return (), 1.0

    def _partial(self, partial: Mapping[str, Any]) -> tuple[tuple[float, ...], float]:
        """What was measured after a share of the rounds, and the share; empty if unusable."""
        told: Sequence[float | None] = partial.get("values", [])
        share = float(partial.get("share", 1.0))
        if len(told) != len(self._signs):
            return (), 1.0
        values = [
            math.nan if value is None else sign * float(value)
            for sign, value in zip(self._signs, told, strict=True)
        ]
        return (tuple(values), share) if np.isfinite(values).any() else ((), 1.0)
