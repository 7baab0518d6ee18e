"""The optimizer behind ``ask`` and ``tell``, on an Optuna study in a file.

Every trial is written to ``study.db`` when it is asked for, so a study that is killed goes on with
the very configurations that were in flight. What is proposed depends on the stored trials alone,
never on the process.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    _get_single_value,
)
from optuna.trial import FrozenTrial, TrialState
from pydantic import ConfigDict, TypeAdapter
from sqlalchemy.exc import SQLAlchemyError

from fieldtune.profiles.common.errors import RunFolderError, StorageError
from fieldtune.server.bo.known import Formulas
from fieldtune.server.bo.transfer import Earlier
from fieldtune.server.bo.trial_rows import CURVE_KEY, PARTIAL_KEY
from fieldtune.server.outcomes.earlier import EarlierStudy
from fieldtune.server.outcomes.trial import Completed, Failed, Outcome, Proposal, Stopped, Trained
from fieldtune.server.study.changes import Change, Changes, last_limits
from fieldtune.server.study.objectives import Objective, wrong_direction
from fieldtune.server.study.space import Configuration, Parameter, Space, Value
from fieldtune.server.study.tuner_options import Phase
from fieldtune.server.tuner.restated import RestatedStudy
from fieldtune.server.tuner.samplers import Samplers, without_experimental_warnings

_OUTCOME = TypeAdapter(Outcome, config=ConfigDict(ser_json_inf_nan="constants"))
_OUTCOME_KEY = "fieldtune:outcome"
_STUDY_KEY = "fieldtune:study"
_LOG_KEY, _QUEUED_KEY = "fieldtune:changes", "fieldtune:queued"
_PHASE_KEY = "fieldtune:phase"
"""User attribute of a trial that runs a configuration again: what for."""

_STARTUP = 10
"""Trials completed before TPE's model is used; until then the space is sampled evenly."""


class Tuner(Protocol):
    """Proposes configurations and learns from what became of them."""

    def ask(self, phase: Phase = "refine", configuration: Configuration | None = None) -> Proposal:
        """The next configuration; first those that an earlier session left in flight.

        Args:
            phase: what the trial is for.
            configuration: to run again, rather than a new one.
        """

    @property
    def resumes(self) -> bool:
        """Whether the next ``ask`` gives what an earlier session left in flight."""

    def tell(self, outcome: Outcome) -> None:
        """What became of a proposal. Once it returns, the outcome outlives the process."""

    def suggest(self, configuration: Configuration) -> None:
        """Have the next ``ask`` propose this configuration."""

    def know(self, formulas: Formulas) -> None:
        """What formulas say of configurations; called again whenever they say more."""

    def history(self) -> Sequence[Outcome]:
        """Every outcome told so far, in the order of the trials' numbers."""

    def revise(self, outcomes: Sequence[Outcome]) -> None:
        """Take these outcomes for those of the same trials from now on."""

    @property
    def changes(self) -> tuple[Changes, ...]:
        """What a person changed while the study ran."""


class OptunaTuner:
    """A multi-objective, constrained Optuna study in an SQLite file.

    A configuration that the limits rule out is told as failed, with its constraints, so that it
    takes no part in the sampler's model of what was trained.

    Args:
        path: the SQLite file; made where it does not exist.
        name: the study's name in it.
        identity: text that must be the same each time the file is opened.
        space: the parameters.
        objectives: what to minimise or maximise, one to four.
        seed: of the sampler.
        rounds: of a whole trial.
        sampler: its name, as in a study file.
        import_path: folders in which a user's own sampler is looked for first.
        earlier: finished studies as prior knowledge; the same each time the file is opened.
        steer: given the identity of the study in the file where it is another than this one, says
            what a person has changed.
        queue: parameter values to be tried first; what an entry leaves out is drawn.

    Raises:
        StudyError: there is no such sampler.
        RunFolderError: the file holds a study of another identity, or ``steer`` refuses it; or the
            study in it took an objective in the other direction.
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
        self._distributions = {
            key: distribution(parameter) for key, parameter in space.parameters().items()
        }
        with _storing(path):
            self._storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
            optuna.create_study(
                storage=self._storage,
                study_name=name,
                directions=[objective.direction for objective in self._objectives],
                load_if_exists=True,
            )
            self._study = RestatedStudy(name, self._storage)
            # A study that is there already keeps the directions that it began with.
            for objective, before in zip(self._objectives, self._study.directions, strict=False):
                if before.name.lower() != objective.direction:
                    raise wrong_direction(objective)
            self._changes = self._amended(identity, steer)
            with without_experimental_warnings():
                self._study.set_metric_names([each.name for each in self._objectives])
            stored = self._study.get_trials(deepcopy=False)
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
            prior=[_as_prior(study, self._objectives) for study in earlier],
            within={
                key: each
                for key, each in self._distributions.items()
                if each != self._recorded[key]
            },
            anew=limits.trial if limits else 0,
            beat=_first(stored) or space.defaults().flat(),
        )
        self._left = deque(trial for trial in stored if trial.state == TrialState.RUNNING)
        self._running: dict[int, optuna.Trial] = {}
        self._outcomes = {
            trial.number: _OUTCOME.validate_json(trial.user_attrs[_OUTCOME_KEY])
            for trial in stored
            if trial.state.is_finished() and _OUTCOME_KEY in trial.user_attrs
        }
        if not stored:
            self.suggest(space.defaults())
        self._enqueue(queue, stored)

    def ask(self, phase: Phase = "refine", configuration: Configuration | None = None) -> Proposal:
        """The next configuration to try."""
        with _storing(self._path):
            self._samplers.phase = phase
            if self._left:
                trial = self._reopen(self._left.popleft())
            else:
                trial = self._new_trial(phase, configuration)
            if not self._recorded.keys() <= trial._fixed_params.keys():
                self._draw(trial)
            for key, distribution in self._recorded.items():
                trial._suggest(key, distribution)
        self._running[trial.number] = trial
        phase = trial.user_attrs.get(_PHASE_KEY, phase)
        return Proposal(trial.number, self._space.configuration(trial.params), phase)

    @property
    def resumes(self) -> bool:
        """Whether trials of an earlier session are still to be asked for again."""
        return bool(self._left)

    def tell(self, outcome: Outcome) -> None:
        """Store the outcome of a proposal."""
        trial = self._running.pop(outcome.proposal.number)
        with _storing(self._path):
            trial.set_user_attr(_OUTCOME_KEY, _OUTCOME.dump_json(outcome).decode())
            if not isinstance(outcome, Failed):
                constraints = outcome.forecast.constraints
                write = partial(self._storage.set_trial_system_attr, trial._trial_id)
                for key in sorted(constraints):
                    # Not by ``set_constraint``: it keeps what a tell that was cut short wrote.
                    write(f"constraints:{key}", constraints[key])
                # Optuna Dashboard reads only the list that Optuna wrote before version 5.
                write("constraints", [constraints[key] for key in sorted(constraints)])
            if isinstance(outcome, Completed):
                trial.set_user_attr(
                    CURVE_KEY,
                    [self._partial(outcome, rounds) for rounds in sorted(outcome.learned.curve)],
                )
                values = [outcome.objectives[each.name] for each in self._objectives]
                self._study.tell(trial, values)
            elif isinstance(outcome, Stopped):
                trial.set_user_attr(PARTIAL_KEY, self._partial(outcome, outcome.stopped_after))
                self._study.tell(trial, state=TrialState.PRUNED)
            else:
                self._study.tell(trial, state=TrialState.FAIL)
        self._outcomes[trial.number] = outcome

    def _partial(self, outcome: Trained, rounds: int) -> dict[str, Any]:
        """What a trial had come to after some rounds, as :mod:`...tuner.history` reads it."""
        measures, values = outcome.learned.curve[rounds], list[float | None]()
        for each in self._objectives:
            value = (measures if each.learned else outcome.objectives)[each.name]
            values.append(value if math.isfinite(value) else None)
        return {"share": rounds / self._rounds, "values": values}

    def suggest(self, configuration: Configuration) -> None:
        """Queue a configuration for the next ``ask``."""
        with _storing(self._path):
            self._study.enqueue_trial(configuration.flat())

    def know(self, formulas: Formulas) -> None:
        """Search by these formulas from now on, and by what they say of the trials so far."""
        self._study.know(formulas)
        self._samplers.know(formulas)

    def history(self) -> list[Outcome]:
        """All outcomes, by trial number."""
        return [self._outcomes[number] for number in sorted(self._outcomes)]

    @property
    def changes(self) -> tuple[Changes, ...]:
        """What a person changed while the study ran, oldest first."""
        return self._changes

    def revise(self, outcomes: Sequence[Outcome]) -> None:
        """Take these outcomes for those of the same trials, as limits are judged now."""
        self._outcomes |= {outcome.proposal.number: outcome for outcome in outcomes}

    def _amended(
        self, identity: str, steer: Callable[[str], tuple[Change, ...]] | None
    ) -> tuple[Changes, ...]:
        """All changes of the study so far, these included, which are stored."""
        log = [Changes.model_validate(each) for each in self._study.user_attrs.get(_LOG_KEY, [])]
        before = self._study.user_attrs.get(_STUDY_KEY, identity)
        if before != identity:
            if steer is None:
                raise RunFolderError(
                    f"{self._path} holds another study: remove it or choose another"
                )
            if found := steer(before):
                trials = self._study.get_trials(deepcopy=False)
                flying = [t.number for t in trials if t.state == TrialState.RUNNING]
                log.append(Changes(trial=len(trials), changes=found, in_flight=tuple(flying)))
                self._study.set_user_attr(_LOG_KEY, [each.model_dump() for each in log])
        self._study.set_user_attr(_STUDY_KEY, identity)
        return tuple(log)

    def _enqueue(self, queue: Sequence[Mapping[str, Value]], stored: Sequence[FrozenTrial]) -> None:
        """Queue what a person wants tried, each once."""
        done = {trial.user_attrs.get(_QUEUED_KEY) for trial in stored}
        with _storing(self._path):
            for values in queue:
                key = json.dumps(dict(values), sort_keys=True)
                if key not in done:
                    done.add(key)
                    self._study.enqueue_trial(dict(values), user_attrs={_QUEUED_KEY: key})

    def _new_trial(self, phase: Phase, configuration: Configuration | None) -> optuna.Trial:
        trials = self._study.get_trials(deepcopy=False)
        waiting = any(trial.state == TrialState.WAITING for trial in trials)
        if configuration is not None and not waiting:
            self._study.enqueue_trial(configuration.flat(), user_attrs={_PHASE_KEY: phase})
        elif not self._samplers.own_start:
            completed = sum(trial.state == TrialState.COMPLETE for trial in trials)
            if completed < _STARTUP and not waiting:
                # Queued whole: were they drawn one by one, a kill between two would change the
                # rest.
                seed = self._samplers.seed_of(len(trials))
                self._study.enqueue_trial(self._space.sample(1, seed)[0].flat())
        self._study.sampler = self._samplers.of(len(trials))
        return self._study.ask()

    def _reopen(self, stored: FrozenTrial) -> optuna.Trial:
        """A trial that an earlier process asked for; what it had drawn already stays."""
        self._study.sampler = self._samplers.of(stored.number)
        return optuna.trial.Trial(self._study, stored._trial_id)

    def _draw(self, trial: optuna.Trial) -> None:
        """Draw a whole configuration as Optuna does, and store it at once as if it were queued.

        Were each parameter stored as it is drawn, a kill between two would change the rest.
        """
        seen, whole = trial._get_latest_trial(), dict[str, Any]()
        anywhere = self._space.sample(1, self._samplers.seed_of(trial.number))[0].flat()
        for key, distribution in self._recorded.items():
            if trial._is_fixed_param(key, distribution):
                value = trial._fixed_params[key]
            elif distribution.single():
                value = _get_single_value(distribution)
            elif trial._is_relative_param(key, distribution):
                value = trial.relative_params[key]
            else:
                value = self._study.sampler.sample_independent(self._study, seen, key, distribution)
            if distribution != self._distributions[key] and key not in trial._fixed_params:
                # Most samplers do not know that the space has become narrower.
                value = value if self._space.parameters()[key].contains(value) else anywhere[key]
            # As it is read from the storage: of plain types.
            whole[key] = distribution.to_external_repr(distribution.to_internal_repr(value))
            seen.params = dict(whole)
            seen.distributions = {name: self._recorded[name] for name in whole}
        self._storage.set_trial_system_attr(trial._trial_id, "fixed_params", whole)
        trial._fixed_params = whole


def _first(stored: Sequence[FrozenTrial]) -> dict[str, Any]:
    """The configuration of a study's first trial: the defaults with which it began."""
    if not stored:
        return {}
    return {**stored[0].system_attrs.get("fixed_params", {}), **stored[0].params}


@contextmanager
def _storing(path: Path) -> Iterator[None]:
    """Turn a failure to read or write the storage into a sentence."""
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as broken:
        cause = broken if isinstance(broken, SQLAlchemyError) else broken.__cause__
        raise StorageError(
            f"{path} cannot be read or written ({getattr(cause, 'orig', cause)}): free some disk "
            "space or check its permissions, then run the same command to go on; finished trials "
            "are kept"
        ) from broken


def distribution(parameter: Parameter) -> BaseDistribution:
    """A parameter as Optuna has it."""
    if parameter.choices is not None:
        return CategoricalDistribution(parameter.choices)
    low, high = parameter.bounds()
    if parameter.integer:
        return IntDistribution(int(low), int(high), log=parameter.log, step=parameter.step or 1)
    return FloatDistribution(low, high, log=parameter.log)


def _as_prior(study: EarlierStudy, objectives: Sequence[Objective]) -> Earlier:
    """An earlier study with what it measured of these objectives; costs are known without it."""
    return Earlier(
        {name: distribution(each) for name, each in study.parameters.items()},
        [trial.configuration for trial in study.trials],
        {
            index: [trial.objectives.get(objective.name, math.nan) for trial in study.trials]
            for index, objective in enumerate(objectives)
            if objective.learned
        },
    )
