"""The trial that is asked for next: one of an earlier process, a queued one or a new one."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from fieldtune.server.study.space import Configuration, Space
from fieldtune.server.study.tuner_options import Phase
from fieldtune.server.tuner.drawing import draw, given, started
from fieldtune.server.tuner.optuna_terms import outdated
from fieldtune.server.tuner.restated import RestatedStudy
from fieldtune.server.tuner.samplers import Samplers
from fieldtune.server.tuner.study_db import Facts, store

_PHASE_KEY = "fieldtune:phase"
"""User attribute of a trial that repeats a configuration: its phase."""

_STARTUP = 10
"""Completed trials before TPE's model is used; until then the space is sampled uniformly."""


class NextTrial:
    """Opens trials of a study and completes their configurations.

    Args:
        study: the study.
        storage: where it is.
        samplers: which sampler proposes a trial.
        space: the parameters.
        recorded: the distributions that the study began with.
        distributions: those of ``space``.
        left: trials that an earlier process had open, to be resumed.
    """

    def __init__(
        self,
        study: RestatedStudy,
        storage: optuna.storages.RDBStorage,
        samplers: Samplers,
        space: Space,
        recorded: Mapping[str, BaseDistribution],
        distributions: Mapping[str, BaseDistribution],
        left: Iterable[FrozenTrial],
    ) -> None:
        self._study, self._storage, self._samplers = study, storage, samplers
        self._space, self._recorded, self._distributions = space, recorded, distributions
        self._left = deque(left)
        self._study_id = storage.get_study_id_from_name(study.study_name)

    @property
    def resumes(self) -> bool:
        """Whether trials of an earlier process are still to be resumed."""
        return bool(self._left)

    def open(
        self, phase: Phase, configuration: Configuration | None
    ) -> tuple[FrozenTrial, Phase, dict[str, Any]]:
        """The next trial, its phase and its values, which are stored."""
        trial_id = self._reopened() if self._left else self._new(phase, configuration)
        self._study.changed()
        trials = self._study.get_trials(deepcopy=False)
        trial = copy.deepcopy(next(each for each in reversed(trials) if each._trial_id == trial_id))
        self._study.sampler.before_trial(self._study, trial)
        phase = trial.user_attrs.get(_PHASE_KEY, phase)
        values = self._configured(trial)
        self._study.changed()
        return trial, phase, values

    def ended(self, number: int, state: TrialState, values: Sequence[float] | None) -> None:
        """Tell the sampler, if it wants to know, how a trial is about to end."""
        sampler = self._study.sampler
        if type(sampler).after_trial is not BaseSampler.after_trial:
            self._study.changed()
            trial = copy.deepcopy(self._study.get_trials(deepcopy=False)[number])
            sampler.after_trial(self._study, trial, state, values)

    def queue_once(self, configuration: Configuration) -> None:
        """Queue a configuration, unless an interrupted call has done so."""
        values = configuration.flat()
        trials = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        if values not in (given(trial) for trial in trials):
            self._study.enqueue_trial(values)

    def _new(self, phase: Phase, configuration: Configuration | None) -> int:
        """Take up the first queued trial, or create one; its identifier.

        ``Study.ask`` does so too, but reads all unfinished trials once more, and this one twice.
        """
        trials = self._study.get_trials(deepcopy=False)
        self._study.sampler = self._samplers.of(len(trials))
        for trial in trials:
            if trial.state == TrialState.WAITING and self._storage.set_trial_state_values(
                trial._trial_id, TrialState.RUNNING
            ):
                return trial._trial_id
        values, attributes = None, dict[str, str]()
        if configuration is not None:
            values, attributes = configuration.flat(), {_PHASE_KEY: phase}
        elif not self._samplers.own_start:
            completed = sum(trial.state == TrialState.COMPLETE for trial in trials)
            if completed < _STARTUP:  # all parameters are given, so that the sampler draws none
                seed = self._samplers.seed_of(len(trials))
                values = self._space.sample(1, seed)[0].flat()
        return self._storage.create_new_trial(self._study_id, started(values, attributes))

    def _reopened(self) -> int:
        """Resume a trial of an earlier process; its identifier."""
        trial = self._left.popleft()
        self._study.sampler = self._samplers.of(trial.number)
        return trial._trial_id

    def _configured(self, trial: FrozenTrial) -> dict[str, Any]:
        """Draw and store the whole configuration of a trial."""
        missing = self._recorded.keys() - trial.params.keys()
        anywhere = self._space.sample(1, self._samplers.seed_of(trial.number))[0].flat()

        def mended(key: str, value: Any) -> Any:
            narrower = self._recorded[key] != self._distributions[key]
            # Most samplers still draw from the space before it was narrowed.
            return anywhere[key] if narrower and not parameters[key].contains(value) else value

        parameters = self._space.parameters()
        values = draw(self._study, trial, self._recorded, mended)
        if missing:
            params = {key: (each, values[key]) for key, each in self._recorded.items()
                      if key in missing}  # fmt: skip
            facts = {trial.number: Facts(params)}
            store(self._storage, self._study.study_name, facts, outdated=outdated)
        return values
