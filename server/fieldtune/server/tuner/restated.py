"""An Optuna study whose trials cost, and keep to limits, as the formulas have it today.

What a trial was told at its time goes by what was known then: by the limits of that day, and by the
device types that it seemed to fit. Were a sampler to compare that with what formulas say now, it
would learn the difference instead of the error. So each ask sees all trained trials by one rule.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Container

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from fieldtune.server.bo.known import Formulas

_CONSTRAINTS = "constraints"
"""The system attribute that Optuna Dashboard reads; by key, constraints begin with it too."""


class RestatedStudy(optuna.Study):
    """A study that gives known values of its trained trials by formulas, however it is read.

    The storage keeps what was told. A trial that was ruled out stays so: it was not trained, and
    feasible or not there is nothing to learn of it.
    """

    def __init__(self, study_name: str, storage: BaseStorage) -> None:
        super().__init__(study_name, storage)
        self._known: Formulas | None = None
        self._seen: dict[int, FrozenTrial] = {}

    def know(self, known: Formulas) -> None:
        """Give trials by these formulas from now on."""
        self._known, self._seen = known, {}

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        """All trials of these states, on which every reading method of a study is based."""
        trials = [
            self._as_known(trial)
            for trial in self._storage.get_all_trials(self._study_id, deepcopy=False)
            if states is None or trial.state in states
        ]
        return copy.deepcopy(trials) if deepcopy else trials

    def _as_known(self, trial: FrozenTrial) -> FrozenTrial:
        if not trial.state.is_finished():
            return trial
        if trial.number not in self._seen:
            self._seen[trial.number] = self._restated(trial)
        return self._seen[trial.number]

    def _restated(self, told: FrozenTrial) -> FrozenTrial:
        # Optuna would count the list for Dashboard as further constraints, named by their places.
        attributes = {k: v for k, v in told.system_attrs.items() if k != _CONSTRAINTS}
        values = None if told.values is None else list(told.values)
        trained = told.state in (TrialState.COMPLETE, TrialState.PRUNED)
        known = self._known(told.params) if self._known and trained else None
        if known is not None:
            attributes = {
                name: each
                for name, each in attributes.items()
                if not name.startswith(f"{_CONSTRAINTS}:")
            }
            for index, value in known.objectives.items():
                if values and math.isfinite(value):  # it is not where no device fits any more
                    values[index] = value
        trial = FrozenTrial(
            number=told.number,
            state=told.state,
            value=None,
            values=values,
            datetime_start=told.datetime_start,
            datetime_complete=told.datetime_complete,
            params=told.params,
            distributions=told.distributions,
            user_attrs=told.user_attrs,
            system_attrs=attributes,
            intermediate_values=told.intermediate_values,
            trial_id=told._trial_id,
        )
        if known is not None:
            # In one order: Optuna's GPSampler pairs the constraints of trials by it.
            for name in sorted(known.constraints):
                trial.set_constraint(name, known.constraints[name])
        return trial
