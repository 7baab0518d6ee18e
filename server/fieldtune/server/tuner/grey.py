"""A sampler for Optuna that models only what is uncertain.

Latency, memory, energy and bytes of a configuration are formulas; its error is not. So the error
alone gets a model, and the formulas are taken at their word: nothing is proposed that they rule
out, and the hypervolume that a configuration may be expected to add to the front is computed
exactly. Astudillo and Frazier 2022, "Thinking inside the box: a tutorial on grey-box Bayesian
optimization", call this a grey box.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import moocore
import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from fieldtune.server.tuner.beliefs import Kernel
from fieldtune.server.tuner.encoding import Encoding
from fieldtune.server.tuner.history import History, Row
from fieldtune.server.tuner.improvement import MOST_OBJECTIVES
from fieldtune.server.tuner.known import Formulas
from fieldtune.server.tuner.places import Places
from fieldtune.server.tuner.pool import (
    Candidates,
    Judge,
    distinct_rows,
    fill_pool,
    perturb,
    violation,
)
from fieldtune.server.tuner.posterior import Goal, Posterior
from fieldtune.server.tuner.prior import ECHOES, TRUSTED, Earlier, Prior
from fieldtune.server.tuner.threads import one_thread
from fieldtune.server.tunersection import Phase

Array = NDArray[np.float64]

_DIGITS = 9
"""Places that agree to so many decimals are the same configuration."""
_KERNEL_KEY = "fieldtune:kernel"
_SEARCH_SCALES = (0.15, 0.05, 0.015)
_PARENTS, _CHILDREN = 12, 80
_SAFEST = 0.1
"""Where margins leave nothing, the least risky share of what the formulas allow is left."""
_BEATING = 2
"""One proposal in so many is for what beats the configuration that is to be beaten."""
_SETTLED = 0.01
"""That is, unless none is expected to gain this share of all that there may be to gain."""
_REFIT_AFTER, _REFIT_GROWTH = 4, 1.15
"""Hyperparameters are fitted anew after so many observations more, and so many times as many."""


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
        self.beat = beat
        """The configuration to be beaten."""
        self._earlier, self._within, self.anew = prior, dict(within or {}), anew
        self._space = dict(space or {})
        self.phase: Phase | None = None
        """What the next proposal is for; None leaves it to the sampler, which begins evenly."""
        self._memory: dict[str, _Memory] = {}

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Every parameter that any trial had."""
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
            return search.next(study, trial, memory.rows, fixed, rng, self)

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

    @property
    def margin(self) -> float | None:
        """Share of each known limit that is kept free until the first trial was measured."""
        return self._margin

    def _memory_of(self, study: Study) -> _Memory:
        return self._memory.setdefault(study.study_name, _Memory(study))


def even_start(parameters: int) -> int:
    """Trials that are spread evenly where nobody says how many."""
    return min(max(parameters + 1, 4), 10)


class _Memory:
    """What is kept of a study between asks; all of it could be computed again."""

    def __init__(self, study: Study) -> None:
        if len(study.directions) > MOST_OBJECTIVES:
            raise ValueError(
                f"GreySampler takes at most {MOST_OBJECTIVES} objectives, and this study has "
                f"{len(study.directions)}: make some of them constraints"
            )
        self.history, self.rows = History(study), list[Row]()
        self._signs = [
            -1.0 if direction == StudyDirection.MAXIMIZE else 1.0 for direction in study.directions
        ]
        self._key: object = None
        self._search: _Search | None = None

    def search(
        self,
        space: Mapping[str, BaseDistribution],
        known: Formulas | None,
        seed: int,
        earlier: Sequence[Earlier],
        within: Mapping[str, BaseDistribution],
    ) -> _Search:
        key = (dict(space), self.history.conditional)
        if self._search is None or key != self._key:
            encoding = Encoding.of(space, self.history.conditional, within)
            with one_thread():
                prior = Prior(encoding, space, self._signs, earlier)
            self._search = _Search(encoding, Judge(encoding, known, self._signs), seed, prior)
            self._key = key
        return self._search


class _Search:
    """Finds the next configuration of one space."""

    def __init__(self, encoding: Encoding, judge: Judge, seed: int, prior: Prior) -> None:
        self._encoding, self._judge, self._seed, self._prior = encoding, judge, seed, prior
        self._places = Places(encoding, judge)
        self._pool: Candidates | None = None
        self._beat: Candidates | None = None
        self._seen: tuple[Array, Candidates] | None = None
        """The pool less what its configurations would not have: places, and those judged."""

    def next(
        self,
        study: Study,
        trial: FrozenTrial,
        rows: Sequence[Row],
        fixed: Mapping[str, Any],
        rng: np.random.Generator,
        sampler: GreySampler,
    ) -> dict[str, Any]:
        """The values to try, given what was tried."""
        self._places.learn_presence(rows)
        pool = self._pool_with(fixed)
        used = _keys(
            self._places.units(
                [row for row in rows if row.state != "ruled out" or row.number >= sampler.anew]
            )
        )
        startup = sampler.startup_of(len(self._encoding.axes))
        tried = [row for row in rows if row.state != "ruled out"]
        measured = [row for row in tried if row.state == "measured"]
        before, fitted = _kernels(study, trial.number)
        even = len(tried) < startup if sampler.phase is None else sampler.phase == "explore"
        early = self._prior and len(tried) >= min(startup, 2 * ECHOES)
        starting = not measured or (even and not early)
        observations = len(measured) + sum(row.state == "stopped" for row in tried)
        refit = not starting and observations >= max(
            fitted + _REFIT_AFTER, int(fitted * _REFIT_GROWTH)
        )
        posterior = Posterior(
            self._places, rows if measured else [], pool, len(study.directions), startup=startup,
            kernels=before, refit=refit, margin=sampler.margin, prior=self._prior,
        )  # fmt: skip
        starting |= even and posterior.trust < TRUSTED
        if refit:
            _keep_kernels(study, trial, posterior.kernels, observations)
        allowed = pool.take(posterior.feasible(pool))
        if not len(allowed):  # a limit is closer than its margin, or nothing is feasible at all
            worst = violation(pool.constraints)
            left = pool.take(worst <= max(0.0, float(worst.min())))
            excess = posterior.excess(left)
            allowed = left.take(excess <= np.quantile(excess, _SAFEST))
        fresh = allowed.take(_unused(allowed.units, used))
        if starting:
            spread = fresh if len(fresh) else allowed
            if self._prior and not fixed and len(tried) in range(0, 2 * ECHOES, 2):
                told = [row for row in tried if row.state in ("measured", "stopped") and row.values]
                values = np.array([row.curve[0][1] if row.curve else row.values for row in told])
                echoes = self._prior.echoes(
                    allowed, self._judge, self._places.units(told),
                    values.reshape(len(told), len(study.directions)),
                )  # fmt: skip
                spread = Candidates.join([echoes.take(_unused(echoes.units, used)), spread])
            return self._encoding.values(spread.units[:1])[0]
        start = fresh if len(fresh) else allowed
        if sampler.phase == "tune":
            close = self._close(posterior, used, fixed, rng)
            start = close if len(close) else start
        if sampler.beat and sampler.phase != "tune" and trial.number % _BEATING == 0:
            goal = posterior.no_worse_than(self._target(sampler.beat))
            if goal:
                best, gain = self._climb(posterior, start, used, fixed, rng, goal)
                if gain > _SETTLED * goal.room:
                    return self._encoding.values(best[None])[0]
        best, _ = self._climb(posterior, start, used, fixed, rng)
        return self._encoding.values(best[None])[0]

    def _target(self, beat: Mapping[str, Any]) -> Candidates:
        """The configuration to be beaten, with what is known of it."""
        if self._beat is None:
            unit = self._encoding.unit(beat)
            for name, place in zip(self._encoding.axes, unit.tolist(), strict=True):
                if math.isnan(place) and name not in self._encoding.conditional:
                    given = f"has {beat[name]!r} for" if name in beat else "lacks"
                    raise ValueError(
                        f"the configuration to be beaten {given} the parameter {name}: give it a "
                        "value of the space"
                    )
            self._beat = self._judge.of(self._encoding.snap(unit[None]))
        return self._beat

    def _close(
        self,
        posterior: Posterior,
        used: set[bytes],
        fixed: Mapping[str, Any],
        rng: np.random.Generator,
    ) -> Candidates:
        """Candidates around the front alone."""
        tried = posterior.measured
        places = self._places.units(tried)[posterior.feasible_rows()[: len(tried)]]
        known = self._places.known(tried).take(posterior.feasible_rows()[: len(tried)])
        if not len(places):
            return known
        values = np.stack(
            [belief.values(posterior.sites(known)) for belief in posterior.beliefs], axis=1
        )
        front = places[moocore.is_nondominated(values, keep_weakly=False)]
        count = _CHILDREN * min(len(front), _PARENTS)
        units = self._fix(perturb(self._encoding, front, count, _SEARCH_SCALES[1], rng), fixed)
        units = units[distinct_rows(units)]
        units = units[_unused(units, used)]
        if not len(units):
            return known.take(slice(0, 0))
        candidates = self._judge.of(units)
        return candidates.take(posterior.feasible(candidates))

    def _climb(
        self,
        posterior: Posterior,
        start: Candidates,
        used: set[bytes],
        fixed: Mapping[str, Any],
        rng: np.random.Generator,
        goal: Goal | None = None,
    ) -> tuple[Array, float]:
        """The candidate that is expected to improve most, and by how much.

        After improving on the pool's best; given a goal, improvement there alone counts.
        """
        found, gains = start, posterior.improvement(start, goal)
        tried = self._places.units(posterior.measured)
        # Around the front, too: its neighbours differ too little to be in the pool.
        elite = tried[posterior.feasible_rows()[: len(tried)]][-_PARENTS:]
        for scale in _SEARCH_SCALES:
            top = np.argsort(-gains, kind="stable")[:_PARENTS]
            parents = np.concatenate([found.units[top], elite])
            units = self._fix(perturb(self._encoding, parents, _CHILDREN, scale, rng), fixed)
            units = units[distinct_rows(units)]
            units = units[_unused(units, used | _keys(found.units[top]))]
            if not len(units):
                continue
            children = self._judge.of(units)
            children = children.take(posterior.feasible(children))
            found = Candidates.join([found.take(top), children])
            gains = np.concatenate([gains[top], posterior.improvement(children, goal)])
        gain = float(gains.max())
        if gain <= 0:
            gains = posterior.ignorance(found)
        return np.asarray(found.units[int(np.argmax(gains))]), gain

    def _pool_with(self, fixed: Mapping[str, Any]) -> Candidates:
        if self._pool is None:
            self._pool = fill_pool(self._encoding, self._judge, self._seed)
        pool = self._present(self._pool)
        if not fixed:
            return pool
        units = self._fix(pool.units, fixed)
        return self._judge.of(units[distinct_rows(units)])

    def _present(self, pool: Candidates) -> Candidates:
        """The pool without parameters that its configurations would not have.

        Which those are is learned as trials show it, so it is asked each time.
        """
        if not self._encoding.conditional:
            return pool
        units = self._places.with_absent(pool.units)
        if self._seen is None or not np.array_equal(units, self._seen[0], equal_nan=True):
            self._seen = units, self._judge.of(units[distinct_rows(units)])
        return self._seen[1]

    def _fix(self, units: Array, fixed: Mapping[str, Any]) -> Array:
        """Places with the parameters that someone has fixed, less those that are absent."""
        units = units.copy()
        for i, name in enumerate(self._encoding.axes):
            if name in fixed:
                units[:, i] = self._encoding.axes[name].unit(fixed[name])
        return self._places.with_absent(units)


def _unused(units: Array, used: set[bytes]) -> NDArray[np.intp]:
    keys = (unit.tobytes() for unit in np.round(units, _DIGITS))
    return np.array([i for i, key in enumerate(keys) if key not in used], dtype=int)


def _keys(units: Array) -> set[bytes]:
    return {unit.tobytes() for unit in np.round(units, _DIGITS)}


def _kernels(study: Study, before: int) -> tuple[dict[str, Kernel], int]:
    """The latest hyperparameters that an earlier trial stored, and from how many observations."""
    for trial in reversed(study.get_trials(deepcopy=False)):
        if trial.number < before and (text := trial.system_attrs.get(_KERNEL_KEY)):
            stored = json.loads(text)
            return stored["kernels"], stored["observations"]
    return {}, 0


def _keep_kernels(
    study: Study, trial: FrozenTrial, kernels: Mapping[str, Kernel], observations: int
) -> None:
    """Store hyperparameters with the trial, so that what follows does not depend on the process."""
    if trial.state == TrialState.RUNNING:
        text = json.dumps({"kernels": kernels, "observations": observations})
        study._storage.set_trial_system_attr(trial._trial_id, _KERNEL_KEY, text)
