"""An Optuna study that shows samplers the trials with current known objectives and constraints.

A trial's stored costs and constraints are those predicted when it was told, with the calibration
and limits of that time. If a sampler compared them with current predictions, it would learn the
change instead of the objective. So at each ask all trained trials have current values.

Samplers do not see the values of finished trials in the storage either: those are re-evaluated for
other programs.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from fieldtune.server.bo.known import Formulas
from fieldtune.server.tuner.study_db import trials_after

CONSTRAINTS = "constraints"
"""The system attribute that Optuna Dashboard reads; by key, constraints begin with it too."""


@dataclass(frozen=True)
class Told:
    """What a finished trial was told.

    Attributes:
        values: of the objectives, in the study's own directions; None where it has none.
        constraints: by name; feasible at or below 0.
    """

    values: Sequence[float] | None
    constraints: Mapping[str, float]


class RestatedStudy(optuna.Study):
    """A study whose trained trials have current known objectives and constraints.

    Everything else is as told. An infeasible trial stays so: it was not trained, and there is
    nothing to learn from it.

    Reading trials takes several queries, and samplers read them again and again. So what was read
    is kept until :meth:`changed` is called.

    Args:
        study_name: of a study in the storage.
        storage: where it is.
        told: what finished trials were told, by number; more are added as they are told.
    """

    def __init__(self, study_name: str, storage: RDBStorage, told: Mapping[int, Told]) -> None:
        super().__init__(study_name, storage)
        self._database = storage
        self._told = told
        self._known: Formulas | None = None
        self._seen: dict[int, FrozenTrial] = {}
        self._first = list[FrozenTrial]()
        """The first trials as they are shown, all of them told."""
        self._all: list[FrozenTrial] | None = None
        """All trials as they are shown; None until they are read again."""

    def know(self, known: Formulas) -> None:
        """Use these known objectives and constraints from now on."""
        self._known, self._seen, self._first, self._all = known, {}, [], None

    def forget(self, number: int) -> None:
        """Show a finished trial anew, which was told anew."""
        self._seen.pop(number, None)
        self._first, self._all = [], None

    def changed(self) -> None:
        """Trials were created, or written to: read them again."""
        self._all = None

    # Private in Optuna, where samplers call it as often as the public ``get_trials`` above it.
    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        """All trials of these states, on which every reading method of a study is based."""
        if self._all is None:
            self._all = self._read()
        trials = self._all
        if states is not None:
            trials = [trial for trial in trials if trial.state in states]
        return copy.deepcopy(trials) if deepcopy else list(trials)

    def _read(self) -> list[FrozenTrial]:
        """All trials; what does not change any more is not looked at again."""
        trials, leading = list(self._first), True
        if self._first:
            further = trials_after(self._database, self._study_id, self._first[-1]._trial_id)
        else:
            further = super()._get_trials(deepcopy=False)
        for trial in further:
            trials.append(self._as_known(trial))
            leading = leading and trial.state.is_finished() and trial.number in self._told
            if leading:
                self._first.append(trials[-1])
        return trials

    def _as_known(self, trial: FrozenTrial) -> FrozenTrial:
        if trial.number not in self._told or not trial.state.is_finished():
            return trial
        if trial.number not in self._seen:
            self._seen[trial.number] = self._restated(trial)
        return self._seen[trial.number]

    def _restated(self, stored: FrozenTrial) -> FrozenTrial:
        told = self._told[stored.number]
        values = None if told.values is None else list(told.values)
        constraints = told.constraints
        trained = stored.state in (TrialState.COMPLETE, TrialState.PRUNED)
        known = self._known(stored.params) if self._known and trained else None
        if known is not None:
            constraints = known.constraints
            for index, value in known.objectives.items():
                if values and math.isfinite(value):  # it is not where no device fits any more
                    values[index] = value
        trial = copy.copy(stored)
        trial.values = values
        # Optuna would count the list for Dashboard as further constraints, named by their places.
        trial.system_attrs = {
            name: each
            for name, each in stored.system_attrs.items()
            if name.partition(":")[0] != CONSTRAINTS
        }
        # In one order: Optuna's GPSampler pairs the constraints of trials by it.
        for name in sorted(constraints):
            trial.set_constraint(name, constraints[name])
        return trial
