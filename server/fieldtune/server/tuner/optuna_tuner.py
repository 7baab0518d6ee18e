"""The optimizer behind ``ask`` and ``tell``, on an Optuna study in a file.

Every trial is written to ``study.db`` when it is proposed, so a study that was killed resumes with
the same configurations that were in flight. Proposals depend on the stored trials only.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from pydantic import ConfigDict, TypeAdapter

from fieldtune.profiles.common.estimate import Estimate
from fieldtune.server.bo.known import Formulas
from fieldtune.server.bo.trial_rows import CURVE_KEY, PARTIAL_KEY
from fieldtune.server.outcomes.earlier import EarlierStudy
from fieldtune.server.outcomes.figures import figures
from fieldtune.server.outcomes.trial import Completed, Failed, Outcome, Proposal, Stopped, Trained
from fieldtune.server.study.changes import Change, Changes, last_limits
from fieldtune.server.study.objectives import Objective, wrong_direction
from fieldtune.server.study.space import Configuration, Space, Value
from fieldtune.server.study.tuner_options import FEWEST_PREDICTED, Phase
from fieldtune.server.tuner.drawing import draw, given
from fieldtune.server.tuner.opening import amended, enqueue_once, logged
from fieldtune.server.tuner.optuna_terms import (
    as_prior,
    constraint_attributes,
    distribution,
    outdated,
    partial,
)
from fieldtune.server.tuner.predictions import Predictions, estimates
from fieldtune.server.tuner.restated import RestatedStudy, Told
from fieldtune.server.tuner.samplers import Samplers, without_experimental_warnings
from fieldtune.server.tuner.storage_errors import loading, storing
from fieldtune.server.tuner.study_db import Facts, store, write_ahead

_OUTCOME = TypeAdapter(Outcome, config=ConfigDict(ser_json_inf_nan="constants"))
_OUTCOME_KEY = "fieldtune:outcome"
_PHASE_KEY = "fieldtune:phase"
"""User attribute of a trial that repeats a configuration: its phase."""

_STARTUP = 10
"""Completed trials before TPE's model is used; until then the space is sampled uniformly."""


class OptunaTuner:
    """A multi-objective, constrained Optuna study in an SQLite file.

    An infeasible configuration is stored as failed, with its constraints, so that the sampler does
    not use it in its model of learned objectives.

    Args:
        path: the SQLite file; made where it does not exist.
        name: the study's name in it.
        identity: text that must be the same each time the file is opened.
        space: the parameters.
        objectives: what to minimise or maximise, one to four.
        seed: of the sampler.
        rounds: of a whole trial.
        sampler: its name, as in a study file.
        import_path: folders that are searched first for a user's own sampler.
        earlier: finished studies as prior knowledge; the same each time the file is opened.
        steer: called with the identity of the study in the file if it differs from ``identity``;
            returns the changes, or raises where they are not allowed.
        queue: parameter values to try first; values that an entry leaves out are drawn.

    Raises:
        StudyError: there is no such sampler.
        RunFolderError: the file holds a study of another identity, or ``steer`` refuses it; or the
            study in it has the opposite direction for an objective.
        StorageError: the file cannot be read or written.
    """

    def __init__(
        self,
        path: Path,
        *,
        name: str,
        identity: str,
        space: Space,
        objectives: Sequence[Objective],
        seed: int,
        rounds: int = 1,
        sampler: str = "grey",
        import_path: Sequence[str] = (),
        earlier: Sequence[EarlierStudy] = (),
        steer: Callable[[str], tuple[Change, ...]] | None = None,
        queue: Sequence[Mapping[str, Value]] = (),
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._path, self._space = path, space
        self._objectives, self._rounds = tuple(objectives), rounds
        self._told: dict[int, Told] = {}
        self._distributions = {
            key: distribution(parameter) for key, parameter in space.parameters().items()
        }
        with loading(path):
            write_ahead(path)
            self._storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
            optuna.create_study(
                storage=self._storage,
                study_name=name,
                directions=[objective.direction for objective in self._objectives],
                load_if_exists=True,
            )
            self._study = RestatedStudy(name, self._storage, self._told)
            # A study that is there already keeps the directions that it began with.
            for objective, before in zip(self._objectives, self._study.directions, strict=False):
                if before.name.lower() != objective.direction:
                    raise wrong_direction(objective)
            self._changes = amended(self._study, path, identity, steer)
            with without_experimental_warnings():
                self._study.set_metric_names([each.name for each in self._objectives])
            stored = self._study.get_trials(deepcopy=False)
            self._outcomes = {
                trial.number: _OUTCOME.validate_json(trial.user_attrs[_OUTCOME_KEY])
                for trial in stored
                if trial.state.is_finished() and _OUTCOME_KEY in trial.user_attrs
            }
        # Trials keep the distributions that the study began with: Optuna takes no others.
        self._recorded = dict(self._distributions)
        for trial in stored:
            self._recorded |= trial.distributions
        limits = last_limits(self._changes)
        self._samplers = Samplers(
            sampler,
            seed=seed,
            space=self._recorded,
            import_path=import_path,
            prior=[as_prior(study, self._objectives) for study in earlier],
            within={
                key: each
                for key, each in self._distributions.items()
                if each != self._recorded[key]
            },
            anew=limits.trial if limits else 0,
            beat=given(stored[0]) if stored else space.defaults().flat(),
        )
        self._left = deque(trial for trial in stored if trial.state == TrialState.RUNNING)
        self._asked: set[int] = set()
        self._told |= {number: self._told_of(each) for number, each in self._outcomes.items()}
        with storing(path):
            enqueue_once(self._study, space.defaults().flat(), queue, stored)

    def ask(
        self,
        phase: Phase = "refine",
        configuration: Configuration | None = None,
        formulas: Formulas | None = None,
    ) -> Proposal:
        """The next configuration to try."""
        self._know(formulas)
        with storing(self._path):
            self._samplers.phase = phase
            number = self._reopened() if self._left else self._new_trial(phase, configuration)
            trial = copy.deepcopy(self._study.get_trials(deepcopy=False)[number])
            phase = trial.user_attrs.get(_PHASE_KEY, phase)
            values = self._configured(trial)
        self._asked.add(number)
        return Proposal(number, self._space.configuration(values), phase)

    def tell(self, outcome: Outcome, then: Configuration | None = None) -> None:
        """Store the outcome of a proposal."""
        number = outcome.proposal.number
        self._asked.remove(number)
        told = self._told_of(outcome)
        attributes: dict[str, Any] = {
            _OUTCOME_KEY: _OUTCOME.dump_json(outcome).decode(), **figures(outcome)
        }  # fmt: skip
        state = TrialState.FAIL
        if isinstance(outcome, Completed):
            state, curve = TrialState.COMPLETE, sorted(outcome.learned.curve)
            attributes[CURVE_KEY] = [
                partial(self._objectives, outcome, at, self._rounds) for at in curve
            ]
        elif isinstance(outcome, Stopped):
            state = TrialState.PRUNED
            attributes[PARTIAL_KEY] = partial(
                self._objectives, outcome, outcome.stopped_after, self._rounds
            )
        with storing(self._path):
            if then is not None:
                # Queued first: a study that is killed in between proposes this trial again.
                self._queue_once(then)
            # Replaces what an interrupted call may have written.
            self._store({number: Facts({}, attributes, constraint_attributes(told))})
            self._study.tell(number, told.values, state)
        self._told[number], self._outcomes[number] = told, outcome

    def replace(self, outcome: Completed) -> None:
        """Replace the outcome of a completed trial that was trained again."""
        told = self._told_of(outcome)
        attributes = {_OUTCOME_KEY: _OUTCOME.dump_json(outcome).decode(), **figures(outcome)}
        values = dict(enumerate(told.values or ()))
        number = outcome.proposal.number
        with storing(self._path):
            self._store({number: Facts({}, attributes, constraint_attributes(told), values)})
        self._told[number], self._outcomes[number] = told, outcome
        # Both keep what they have read of finished trials.
        self._study.forget(number)
        self._samplers.forget()

    def _know(self, formulas: Formulas | None) -> None:
        if formulas is not None:
            self._study.know(formulas)
            self._samplers.know(formulas)

    def revise(self, outcomes: Sequence[Outcome]) -> None:
        """Store re-evaluated outcomes for Optuna Dashboard and ``optuna.load_study``.

        Figures, constraints and objectives of finished trials are rewritten in one transaction. The
        outcomes as told are kept beside them, for samplers and :meth:`history`.
        """
        facts = {}
        for outcome in outcomes:
            told = self._told_of(outcome)
            # A cost is infinite where no device fits any more: the stored one is kept.
            values = {i: each for i, each in enumerate(told.values or ()) if math.isfinite(each)}
            facts[outcome.proposal.number] = Facts(
                {}, figures(outcome), constraint_attributes(told), values
            )
        with storing(self._path):
            self._store(facts)

    def predict(
        self,
        outcomes: Sequence[Outcome],
        formulas: Formulas | None = None,
        *,
        sampling: bool = True,
    ) -> Predictions:
        """Predict learned objectives; see :meth:`Tuner.predict`."""
        self._know(formulas)
        trained = [outcome for outcome in outcomes if isinstance(outcome, Trained)]
        completed = [outcome for outcome in trained if isinstance(outcome, Completed)]
        found: dict[str, dict[int, Estimate]] = {
            objective.name: {} for objective in self._objectives if objective.learned
        }
        if len(completed) < FEWEST_PREDICTED or not found:
            return found
        with storing(self._path):
            predictions = self._samplers.predictor.predict(
                self._study,
                {each.proposal.number: each.proposal.configuration.flat() for each in trained},
            )
        for objective, prediction in zip(self._objectives, predictions, strict=True):
            name = objective.name
            differ = len({each.objectives[name] for each in completed}) > 1
            if name in found and prediction and differ:
                of_trial = estimates(objective, prediction, trained, sampling=sampling)
                found[name] = {
                    number: of_trial[number]
                    for number in (each.proposal.number for each in completed)
                }
        return found

    def history(self) -> list[Outcome]:
        """All outcomes, by trial number."""
        return [self._outcomes[number] for number in sorted(self._outcomes)]

    @property
    def resumes(self) -> bool:
        """Whether trials of an earlier session are still to be resumed."""
        return bool(self._left)

    @property
    def changes(self) -> tuple[Changes, ...]:
        """Changes of the study file while the study ran, oldest first."""
        return self._changes

    def accept_changes(self, found: Sequence[Change]) -> None:
        """Store changes that the user accepts; see :meth:`Tuner.accept_changes`."""
        with storing(self._path):
            self._changes = logged(self._study, self._changes, found)

    def _told_of(self, outcome: Outcome) -> Told:
        values = None
        if isinstance(outcome, Completed):
            values = [outcome.objectives[each.name] for each in self._objectives]
        return Told(values, {} if isinstance(outcome, Failed) else outcome.forecast.constraints)

    def _store(self, facts: Mapping[int, Facts]) -> None:
        store(self._storage, self._study.study_name, facts, outdated=outdated)

    def _queue_once(self, configuration: Configuration) -> None:
        """Queue a configuration, unless an interrupted call has done so."""
        values = configuration.flat()
        trials = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        if values not in (given(trial) for trial in trials):
            self._study.enqueue_trial(values)

    def _new_trial(self, phase: Phase, configuration: Configuration | None) -> int:
        """Create a trial; its number."""
        trials = self._study.get_trials(deepcopy=False)
        waiting = any(trial.state == TrialState.WAITING for trial in trials)
        if configuration is not None and not waiting:
            self._study.enqueue_trial(configuration.flat(), user_attrs={_PHASE_KEY: phase})
        elif not self._samplers.own_start:
            completed = sum(trial.state == TrialState.COMPLETE for trial in trials)
            if completed < _STARTUP and not waiting:
                # All parameters are queued, so that the sampler draws none.
                seed = self._samplers.seed_of(len(trials))
                self._study.enqueue_trial(self._space.sample(1, seed)[0].flat())
        self._study.sampler = self._samplers.of(len(trials))
        return self._study.ask().number

    def _reopened(self) -> int:
        """Resume a trial of an earlier process; its number."""
        trial = self._left.popleft()
        self._study.sampler = self._samplers.of(trial.number)
        self._study.sampler.before_trial(self._study, trial)
        return trial.number

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
            store(self._storage, self._study.study_name, {trial.number: Facts(params)})
        return values
