"""The optimizer behind ``ask`` and ``tell``, on an Optuna study in a database.

Every trial is stored when it is proposed, so a study that was killed resumes with
the same configurations that were in flight. Proposals depend on the stored trials only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from pydantic import ConfigDict, TypeAdapter

from fieldtune.profiles.common.estimate import Estimate
from fieldtune.server.bo.known import Formulas
from fieldtune.server.bo.objective_model import Prediction
from fieldtune.server.bo.trial_rows import CURVE_KEY, PARTIAL_KEY
from fieldtune.server.outcomes.earlier import EarlierStudy
from fieldtune.server.outcomes.figures import figures
from fieldtune.server.outcomes.trial import Completed, Failed, Outcome, Proposal, Stopped, Trained
from fieldtune.server.study.changes import Change, Changes, last_limits
from fieldtune.server.study.objectives import Objective, wrong_direction
from fieldtune.server.study.space import Configuration, Space, Value
from fieldtune.server.study.tuner_options import FEWEST_PREDICTED, Phase
from fieldtune.server.tuner.drawing import given
from fieldtune.server.tuner.next_trial import NextTrial
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
from fieldtune.server.tuner.study_db import Facts, store
from fieldtune.server.tuner.study_storage import Commits, StudyStorage

_OUTCOME = TypeAdapter(Outcome, config=ConfigDict(ser_json_inf_nan="constants"))
_OUTCOME_KEY = "fieldtune:outcome"


class OptunaTuner:
    """A multi-objective, constrained Optuna study in an SQLite file or on a PostgreSQL server.

    An infeasible configuration is stored as failed, with its constraints, so that the sampler does
    not use it in its model of learned objectives.

    Args:
        storage: where the study is, or is to be made; a path is that of an SQLite file.
        name: the study's name there.
        identity: text that must be the same each time it is opened.
        space: the parameters.
        objectives: what to minimise or maximise, one to four.
        seed: of the sampler.
        rounds: of a whole trial.
        sampler: its name, as in a study file.
        import_path: folders that are searched first for a user's own sampler.
        earlier: finished studies as prior knowledge; the same each time it is opened.
        steer: called with the identity of the stored study if it differs from ``identity``;
            returns the changes, or raises where they are not allowed.
        queue: parameter values to try first; values that an entry leaves out are drawn.

    Raises:
        StudyError: there is no such sampler.
        RunFolderError: a study of another identity is stored there, or ``steer`` refuses it; or it
            has the opposite direction for an objective; or another process has locked it.
        StorageError: the storage cannot be read or written.
    """

    def __init__(
        self,
        storage: Path | StudyStorage,
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
        self._where = StudyStorage(storage) if isinstance(storage, Path) else storage
        self._space = space
        self._objectives, self._rounds = tuple(objectives), rounds
        self._told: dict[int, Told] = {}
        self._in_order: list[Outcome] | None = None
        """All outcomes by trial number; None until it is asked for."""
        self._prediction: tuple[list[Trained], Sequence[Prediction | None]] | None = None
        """The last one, until anything is asked or told."""
        self._distributions = {
            key: distribution(parameter) for key, parameter in space.parameters().items()
        }
        with loading(self._where):
            self._storage = self._where.open(name)
            self._commits = Commits(self._storage)
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
            self._changes = amended(self._study, str(self._where), identity, steer)
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
        self._next = NextTrial(
            self._study,
            self._storage,
            self._samplers,
            space,
            self._recorded,
            self._distributions,
            left=(trial for trial in stored if trial.state == TrialState.RUNNING),
        )
        self._asked: dict[int, int] = {}
        """Number -> identifier in the storage, of trials that were not told."""
        self._told |= {number: self._told_of(each) for number, each in self._outcomes.items()}
        with storing(self._where):
            enqueue_once(self._study, space.defaults().flat(), queue, stored)
        self._study.changed()

    def ask(
        self,
        phase: Phase = "refine",
        configuration: Configuration | None = None,
        formulas: Formulas | None = None,
    ) -> Proposal:
        """The next configuration to try."""
        self._know(formulas)
        with storing(self._where), self._commits.without_waiting():
            self._study.changed()  # another program may have queued a trial
            self._prediction = None
            self._samplers.phase = phase
            trial, phase, values = self._next.open(phase, configuration)
        self._asked[trial.number] = trial._trial_id
        return Proposal(trial.number, self._space.configuration(values), phase)

    def tell(self, outcome: Outcome, then: Configuration | None = None) -> None:
        """Store the outcome of a proposal."""
        number = outcome.proposal.number
        trial_id = self._asked.pop(number)
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
        with storing(self._where):
            with self._commits.without_waiting():
                if then is not None:
                    # Queued first: a study that is killed in between proposes this trial again.
                    self._next.queue_once(then)
                # Replaces what an interrupted call may have written.
                self._store({number: Facts({}, attributes, constraint_attributes(told))})
            try:
                self._next.ended(number, state, told.values)
            finally:  # an error of the sampler does not have it trained again
                # With this commit all those before it are on the disk.
                self._storage.set_trial_state_values(trial_id, state, told.values)
        self._told[number], self._outcomes[number] = told, outcome
        self._in_order = self._prediction = None
        self._study.changed()

    def replace(self, outcome: Completed) -> None:
        """Replace the outcome of a completed trial that was trained again."""
        told = self._told_of(outcome)
        attributes = {_OUTCOME_KEY: _OUTCOME.dump_json(outcome).decode(), **figures(outcome)}
        values = dict(enumerate(told.values or ()))
        number = outcome.proposal.number
        with storing(self._where):
            self._store({number: Facts({}, attributes, constraint_attributes(told), values)})
        self._told[number], self._outcomes[number] = told, outcome
        self._in_order = self._prediction = None
        # Both keep what they have read of finished trials.
        self._study.forget(number)
        self._samplers.forget()

    def _know(self, formulas: Formulas | None) -> None:
        if formulas is not None:
            self._prediction = None
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
        with storing(self._where):
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
        for objective, prediction in zip(self._objectives, self._predicted(trained), strict=True):
            name = objective.name
            differ = len({each.objectives[name] for each in completed}) > 1
            if name in found and prediction and differ:
                of_trial = estimates(objective, prediction, trained, sampling=sampling)
                found[name] = {
                    number: of_trial[number]
                    for number in (each.proposal.number for each in completed)
                }
        return found

    def _predicted(self, trained: list[Trained]) -> Sequence[Prediction | None]:
        """The prediction of each objective, which is asked for with and without sampling."""
        if self._prediction is None or self._prediction[0] != trained:  # by identity first
            with storing(self._where):
                found = self._samplers.predictor.predict(
                    self._study,
                    {each.proposal.number: each.proposal.configuration.flat() for each in trained},
                )
            self._prediction = trained, found
        return self._prediction[1]

    def history(self) -> list[Outcome]:
        """All outcomes, by trial number."""
        if self._in_order is None:
            self._in_order = [self._outcomes[number] for number in sorted(self._outcomes)]
        return list(self._in_order)

    @property
    def resumes(self) -> bool:
        """Whether trials of an earlier session are still to be resumed."""
        return self._next.resumes

    @property
    def changes(self) -> tuple[Changes, ...]:
        """Changes of the study file while the study ran, oldest first."""
        return self._changes

    def accept_changes(self, found: Sequence[Change]) -> None:
        """Store changes that the user accepts; see :meth:`Tuner.accept_changes`."""
        with storing(self._where):
            self._changes = logged(self._study, self._changes, found)

    def _told_of(self, outcome: Outcome) -> Told:
        values = None
        if isinstance(outcome, Completed):
            values = [outcome.objectives[each.name] for each in self._objectives]
        return Told(values, {} if isinstance(outcome, Failed) else outcome.forecast.constraints)

    def _store(self, facts: Mapping[int, Facts]) -> None:
        store(self._storage, self._study.study_name, facts, outdated=outdated)
