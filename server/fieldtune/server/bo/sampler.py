"""A sampler for Optuna that models only what is uncertain.

Latency, memory, energy and bytes of a configuration are formulas; its error is not. So the error
alone gets a model, and the formulas are taken at their word: nothing is proposed that they rule
out, and the hypervolume that a configuration may be expected to add to the front is computed
exactly. Astudillo and Frazier 2022, "Thinking inside the box: a tutorial on grey-box Bayesian
optimization", call this a grey box.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial

from fieldtune.server.bo.acquisition import Search, Wanted
from fieldtune.server.bo.candidates import Judge
from fieldtune.server.bo.ehvi import MOST_OBJECTIVES
from fieldtune.server.bo.encoding import Encoding
from fieldtune.server.bo.known import Formulas
from fieldtune.server.bo.objective_model import Prediction
from fieldtune.server.bo.threads import one_thread
from fieldtune.server.bo.transfer import Earlier, Prior
from fieldtune.server.bo.trial_rows import History, Row

Array = NDArray[np.float64]


class GreySampler(BaseSampler):
    """Multi-objective Bayesian optimization with known costs and limits.

    A trial's parameters depend on ``seed``, the trial's number and the stored trials alone, so a
    study that was killed goes on as if it had not been. The first trials are spread evenly over
    what the limits allow.

    Args:
        known: what formulas say of a configuration; without it, everything is learned.
        seed: of all that is random.
        startup: trials spread evenly before models are used; by default one more than there are
            parameters, at least 4 and at most 10.
        margin: share of each known limit that is kept free until the first trial was measured.
            None trusts the formulas of limits whatever trials are told.
        space: the parameters, where they are known before the first trial; else the first trial is
            drawn without regard to limits.
        prior: finished studies of something like it, whose word is taken as far as this study's
            own trials bear it out.
        within: parameters that may only take some of their values from now on; trials with others
            are learned from all the same.
        anew: what was ruled out before the trial of this number may be proposed again.
        beat: a configuration to be beaten, such as what is in use today: every other trial is
            for what may be better and no worse in any objective, where there is hope of it.
    """

    def __init__(
        self,
        *,
        known: Formulas | None = None,
        seed: int = 0,
        startup: int | None = None,
        margin: float | None = 0.2,
        space: Mapping[str, BaseDistribution] | None = None,
        prior: Sequence[Earlier] = (),
        within: Mapping[str, BaseDistribution] | None = None,
        anew: int = 0,
        beat: Mapping[str, Any] | None = None,
    ) -> None:
        self._known, self._seed, self._startup, self._margin = known, seed, startup, margin
        self._earlier, self._within = prior, dict(within or {})
        self._anew, self.beat = anew, beat
        self._space = dict(space or {})
        self.phase: Literal["explore", "refine", "tune", "validate"] | None = None
        """What the next proposal is for; None leaves it to the sampler, which begins evenly."""
        self._memory: dict[str, _Memory] = {}

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Every parameter that any trial had."""
        if len(study.directions) > MOST_OBJECTIVES:
            raise ValueError(
                f"GreySampler takes at most {MOST_OBJECTIVES} objectives, and this study has "
                f"{len(study.directions)}: make some of them constraints"
            )
        memory = self._memory_of(study)
        memory.rows = memory.history.update(study.get_trials(deepcopy=False), trial.number)
        return {**self._space, **memory.history.space}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The next configuration."""
        given = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        if not search_space or search_space.keys() <= given.keys():
            return {}  # queued whole, or taken up again
        rng = np.random.default_rng([self._seed, trial.number])
        memory = self._memory_of(study)
        search = memory.search(search_space, self._known, self._seed, self._earlier, self._within)
        fixed = {name: value for name, value in given.items() if name in search_space}
        with one_thread():
            return search.next(study, trial, memory.rows, fixed, rng, self._wanted(search_space))

    def predict(
        self, study: Study, configurations: Mapping[int, Mapping[str, Any]]
    ) -> list[Prediction | None]:
        """What each objective of some trials is predicted to be by the model that proposes.

        Every trial is predicted from all of them, so that the luck of a single result counts for
        little. It depends on these trials, on what is known and on hyperparameters that are stored
        with the study; it works for a study of any sampler and any number of objectives.

        Args:
            study: with these trials, finished and with results.
            configurations: parameter values by the number of the trial ``[n]``.

        Returns:
            For each objective ``n`` values, or None where formulas say it all.
        """
        memory = self._memory_of(study)
        rows = memory.history.update(study.get_trials(deepcopy=False), asking=-1)
        told = {row.number: row for row in rows}
        rows = [replace(told[number], params=each) for number, each in configurations.items()]
        space = {**self._space, **memory.history.space}
        search = memory.search(space, self._known, self._seed, self._earlier, self._within)
        with one_thread():
            return search.predict(study, rows, self._wanted(space))

    def _wanted(self, space: Mapping[str, BaseDistribution]) -> Wanted:
        startup = self.startup_of(len(space))
        return Wanted(startup, self._margin, self.phase, self._anew, self.beat)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """A value for a parameter that no trial has had yet: any."""
        name = np.frombuffer(param_name.encode(), dtype=np.uint8).tolist()
        seed = np.random.SeedSequence([self._seed, trial.number, *name]).generate_state(1)[0]
        return RandomSampler(int(seed)).sample_independent(
            study, trial, param_name, param_distribution
        )

    def startup_of(self, parameters: int) -> int:
        """Trials spread evenly before models are used."""
        return self._startup if self._startup is not None else even_start(parameters)

    def _memory_of(self, study: Study) -> _Memory:
        return self._memory.setdefault(study.study_name, _Memory(study))


def even_start(parameters: int) -> int:
    """Trials that are spread evenly where nobody says how many."""
    return min(max(parameters + 1, 4), 10)


class _Memory:
    """What is kept of a study between asks; all of it could be computed again."""

    def __init__(self, study: Study) -> None:
        self.history, self.rows = History(study), list[Row]()
        self._signs = [
            -1.0 if direction == StudyDirection.MAXIMIZE else 1.0 for direction in study.directions
        ]
        self._key: object = None
        self._search: Search | None = None

    def search(
        self,
        space: Mapping[str, BaseDistribution],
        known: Formulas | None,
        seed: int,
        earlier: Sequence[Earlier],
        within: Mapping[str, BaseDistribution],
    ) -> Search:
        key = (dict(space), self.history.conditional)
        if self._search is None or key != self._key:
            encoding = Encoding.of(space, self.history.conditional, within)
            with one_thread():
                prior = Prior(encoding, space, self._signs, earlier)
            self._search = Search(encoding, Judge(encoding, known, self._signs), seed, prior)
            self._key = key
        return self._search
