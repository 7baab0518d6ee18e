"""A sampler for Optuna that models only what is uncertain.

Latency, memory, energy and bytes of a configuration are computed by formulas; its error is not. So
the error alone is modelled and formulas are treated as exact: nothing is proposed that misses a
known limit, and the expected hypervolume improvement of a configuration is computed exactly.
Astudillo and Frazier 2022, "Thinking inside the box: a tutorial on grey-box Bayesian
optimization", call this a grey box.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, PartialFixedSampler, RandomSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial

from fieldtune.server.bo.acquisition import AcquisitionSearch
from fieldtune.server.bo.candidates import FormulaEvaluator
from fieldtune.server.bo.ehvi import MOST_OBJECTIVES
from fieldtune.server.bo.encoding import Encoding
from fieldtune.server.bo.known import Formulas
from fieldtune.server.bo.objective_model import Prediction
from fieldtune.server.bo.structure import Conditions
from fieldtune.server.bo.study_model import Request
from fieldtune.server.bo.threads import one_thread
from fieldtune.server.bo.transfer import Earlier, Prior
from fieldtune.server.bo.trial_rows import History, TrialRow

Array = NDArray[np.float64]


class GreySampler(BaseSampler):
    """Multi-objective Bayesian optimization with known costs and limits.

    A trial's parameters depend on ``seed``, the trial's number and the stored trials alone, so a
    study that was killed goes on as if it had not been. The first trials are spread evenly over
    what the limits allow.

    Args:
        known: returns the known objectives and constraints of a configuration, or None for
            parameters that no trial can have together; without it, everything is learned.
        seed: of all random numbers; by default a random one.
        startup: trials spread evenly before models are used; by default one more than there are
            parameters, at least 4 and at most 10.
        margin: share of each known limit that is kept free until the first trial was measured.
            None trusts the formulas of limits whatever trials report.
        space: the parameters, where they are known before the first trial; else the first trial is
            drawn without regard to limits.
        conditions: of parameters that only some configurations have: name -> name of another
            parameter -> values of that with which it exists. Without it, trials show which
            parameters there are, and the first of each kind is drawn without regard to limits.
        prior: finished related studies, weighted by how well they rank this study's results.
        within: narrower ranges for some parameters from now on; all trials are still learned from.
        anew: what was infeasible before the trial of this number may be proposed again.
        beat: a baseline configuration: every second proposal targets configurations that are
            better in some objective and no worse in any, while improvement there is expected.

    Raises:
        ValueError: a condition names a parameter that is not in ``space``; in ``ask``, the study
            has more than four objectives.
    """

    def __init__(
        self,
        *,
        known: Formulas | None = None,
        seed: int | None = None,
        startup: int | None = None,
        margin: float | None = 0.2,
        space: Mapping[str, BaseDistribution] | None = None,
        conditions: Conditions | None = None,
        prior: Sequence[Earlier] = (),
        within: Mapping[str, BaseDistribution] | None = None,
        anew: int = 0,
        beat: Mapping[str, Any] | None = None,
    ) -> None:
        self._known, self._startup, self._margin = known, startup, margin
        self._seed = int(np.random.default_rng(seed).integers(2**63)) if seed is None else seed
        self._earlier, self._within = prior, dict(within or {})
        self._retry_from, self.beat = anew, beat
        self._space, self._conditions = dict(space or {}), dict(conditions or {})
        for name, condition in self._conditions.items():
            for each in {name, *condition} - self._space.keys():
                raise ValueError(
                    f"the condition of the parameter {name} names {each}, which is not in space: "
                    "give its distribution there"
                )
        self.phase: Literal["explore", "refine", "tune", "validate"] | None = None
        """The purpose of the next proposal; None: even exploration first, then improvement."""
        self._memory: dict[str, _StudyState] = {}
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        """Without what can be computed again and cannot be copied to another process."""
        return {**self.__dict__, "_memory": {}, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Every parameter that any trial had."""
        if len(study.directions) > MOST_OBJECTIVES:
            raise ValueError(
                f"GreySampler takes at most {MOST_OBJECTIVES} objectives, and this study has "
                f"{len(study.directions)}: make some of them constraints"
            )
        with self._lock:
            memory = self._memory_of(study)
            memory.rows_of(study, trial.number)
            return self._whole_space(memory)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The next configuration.

        One thread at a time: what is proposed to one, the next one knows to be in flight, even if
        its trial has not stored it yet.
        """
        given = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        if not search_space or search_space.keys() <= given.keys():
            return {}  # queued whole, or taken up again
        rng = np.random.default_rng([self._seed, trial.number])
        with self._lock:
            memory = self._memory_of(study)
            rows = memory.rows_of(study, trial.number)
            space = self._whole_space(memory)
            given |= _fixed_by_another(study, rows, space.keys() - search_space.keys())
            search = self._search(memory, space)
            fixed = {name: value for name, value in given.items() if name in space}
            with one_thread():
                values = search.next(study, trial, rows, fixed, rng, self._request(space))
            memory.proposed[trial.number] = values
            return {name: value for name, value in values.items() if name in search_space}

    def predict(
        self, study: Study, configurations: Mapping[int, Mapping[str, Any]]
    ) -> list[Prediction | None]:
        """What each objective of some trials is predicted to be by the model that proposes.

        Each prediction uses all trials, which averages out the noise of a single result. It depends
        on these trials, the known objectives and constraints, and the hyperparameters stored with
        the study; it works for a study of any sampler and any number of objectives.

        Args:
            study: with these trials, finished and with results.
            configurations: parameter values by the number of the trial ``[n]``.

        Returns:
            For each objective ``n`` values, or None where a formula gives it exactly.
        """
        with self._lock, one_thread():
            memory = self._memory_of(study)
            told = {row.number: row for row in memory.rows_of(study, asking=-1)}
            rows = [replace(told[number], params=each) for number, each in configurations.items()]
            space = self._whole_space(memory)
            return self._search(memory, space).model.predict(study, rows, self._request(space))

    def predict_new(
        self, study: Study, configurations: Sequence[Mapping[str, Any]]
    ) -> list[Prediction | None]:
        """As :meth:`predict`, of configurations ``[n]`` that no trial need have had."""
        with self._lock, one_thread():
            memory, rows = self._results(study)
            space = self._whole_space(memory)
            search = self._search(memory, space)
            return search.model.predict(study, rows, self._request(space), configurations)

    def suggest(
        self, study: Study, most: int, settled: float = 0.01
    ) -> list[tuple[dict[str, Any], float]]:
        """Further configurations that are expected to add most hypervolume, the first one first.

        Each is chosen as if those before it came out as predicted. Trials in flight are ignored.

        Args:
            study: with finished trials.
            most: how many at most.
            settled: none follows that is expected to add less than this share of the present
                hypervolume.

        Returns:
            Parameter values, and the share of the present hypervolume that they are expected to
            add; infinite where there is no front yet.
        """
        with self._lock, one_thread():
            memory, rows = self._results(study)
            space = self._whole_space(memory)
            return self._search(memory, space).model.suggest(
                study, rows, most, settled, self._request(space)
            )

    def _results(self, study: Study) -> tuple[_StudyState, list[TrialRow]]:
        """The study's trials that have results."""
        memory = self._memory_of(study)
        rows = memory.rows_of(study, asking=-1)
        return memory, [row for row in rows if row.state in ("measured", "stopped")]

    def _whole_space(self, memory: _StudyState) -> dict[str, BaseDistribution]:
        return {**self._space, **memory.history.space}

    def _search(
        self, memory: _StudyState, space: Mapping[str, BaseDistribution]
    ) -> AcquisitionSearch:
        key = (dict(space), memory.history.conditional)
        if memory.search is None or memory.searched != key:
            conditional = memory.history.conditional | self._conditions.keys()
            encoding = Encoding.of(space, conditional, self._within)
            with one_thread():
                prior = Prior(encoding, space, memory.signs, self._earlier)
            evaluator = FormulaEvaluator(encoding, self._known, memory.signs)
            memory.search = AcquisitionSearch(
                encoding, evaluator, self._seed, prior, self._conditions
            )
            memory.searched = key
        return memory.search

    def _request(self, space: Mapping[str, BaseDistribution]) -> Request:
        startup = self.startup_of(len(space))
        return Request(startup, self._margin, self.phase, self._retry_from, self.beat)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """A random value for a parameter that no trial has had yet."""
        name = np.frombuffer(param_name.encode(), dtype=np.uint8).tolist()
        seed = np.random.SeedSequence([self._seed, trial.number, *name]).generate_state(1)[0]
        return RandomSampler(int(seed)).sample_independent(
            study, trial, param_name, param_distribution
        )

    def startup_of(self, parameters: int) -> int:
        """Trials spread evenly before models are used."""
        return self._startup if self._startup is not None else even_start(parameters)

    def _memory_of(self, study: Study) -> _StudyState:
        return self._memory.setdefault(study.study_name, _StudyState(study))


def even_start(parameters: int) -> int:
    """The default number of trials that are spread evenly."""
    return min(max(parameters + 1, 4), 10)


def _fixed_by_another(study: Study, rows: Sequence[TrialRow], names: Set[str]) -> dict[str, Any]:
    """Values of parameters that a sampler around this one has taken out of the search space."""
    if not names:
        return {}
    sampler, values = study.sampler, dict[str, Any]()
    for row in rows:
        values |= row.params
    while isinstance(sampler, PartialFixedSampler):
        # Private: there is no public way to ask what is fixed.
        values |= sampler._fixed_params
        sampler = sampler._base_sampler
    return {name: values[name] for name in names if name in values}


class _StudyState:
    """State kept of a study between asks; all but ``proposed`` could be computed again.

    Attributes:
        history: of the study's trials.
        signs: -1 for an objective that is maximised, else 1, ``[m]``.
        proposed: by number, values for trials that were not finished when this was last looked at.
        search: of the space named by ``searched``.
    """

    def __init__(self, study: Study) -> None:
        self.history, self.proposed = History(study), dict[int, Mapping[str, Any]]()
        self.signs = [
            -1.0 if direction == StudyDirection.MAXIMIZE else 1.0 for direction in study.directions
        ]
        self.search: AcquisitionSearch | None = None
        self.searched: object = None

    def rows_of(self, study: Study, asking: int) -> list[TrialRow]:
        """The study's trials but the one that is asking."""
        rows = self.history.update(study.get_trials(deepcopy=False), asking, self.proposed)
        pending = {row.number for row in rows if row.state == "pending"}
        self.proposed = {n: each for n, each in self.proposed.items() if n in pending}
        return rows
