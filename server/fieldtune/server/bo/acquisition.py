"""Finds the next configuration of a space, given what was tried."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import moocore
import numpy as np
from numpy.typing import NDArray
from optuna.study import Study
from optuna.trial import FrozenTrial

from fieldtune.server.bo.candidates import (
    Candidates,
    Judge,
    Pool,
    distinct_rows,
    fill_pool,
    judged,
    perturb,
    violation,
)
from fieldtune.server.bo.encoding import Encoding
from fieldtune.server.bo.hyperparameter_store import keep_kernels, kernels_before
from fieldtune.server.bo.objective_model import Kernel, Prediction
from fieldtune.server.bo.reference_point import Goal
from fieldtune.server.bo.structure import Conditions
from fieldtune.server.bo.surrogate import MOST_ROWS, Posterior
from fieldtune.server.bo.transfer import ECHOES, TRUSTED, Prior
from fieldtune.server.bo.trial_points import Places
from fieldtune.server.bo.trial_rows import Row

Array = NDArray[np.float64]

_DIGITS = 9
"""Places that agree to so many decimals are the same configuration."""
_GENERATIONS = (
    (0.15, 120, 24), (0.08, 100, 16), (0.04, 100, 12), (0.02, 80, 8), (0.01, 60, 6), (0.005, 60, 4),
)  # fmt: skip
"""Of the search: standard deviation of steps, children, and of how many of the best."""
_AROUND_FRONT, _FINEST_AROUND_FRONT = 24, 0.02
"""So many points of the front are parents too, down to this scale."""
_CLOSE, _CLOSE_CHILDREN = 0.05, 80
"""In the phase ``tune``: scale, and children of a point of the front, of twelve at most."""
_SAFEST = 0.1
"""Where margins leave nothing, the least risky share of what the formulas allow is left."""
_BEATING = 2
"""One proposal in so many is for what beats the configuration that is to be beaten."""
_SETTLED = 0.01
"""That is, unless none is expected to gain this share of all that there may be to gain."""
_PREDICTED_FROM = 1024
"""Measured trials, at most, from which trials are predicted."""
_REFIT_AFTER, _REFIT_GROWTH = 4, 1.15
"""Hyperparameters are fitted anew after so many observations more, and so many times as many."""


@dataclass(frozen=True)
class Wanted:
    """What a proposal is to be.

    Attributes:
        startup: trials spread evenly before models are used.
        margin: share of each known limit that is kept free until the first trial was measured; None
            trusts the formulas of limits.
        phase: what it is for; None explores for the first ``startup`` trials, and then refines.
        anew: what was ruled out before the trial of this number may be proposed again.
        beat: a configuration to be beaten.
    """

    startup: int
    margin: float | None
    phase: Literal["explore", "refine", "tune", "validate"] | None
    anew: int
    beat: Mapping[str, Any] | None


class Search:
    """Finds the next configuration of one space."""

    def __init__(
        self,
        encoding: Encoding,
        judge: Judge,
        seed: int,
        prior: Prior,
        conditions: Conditions | None = None,
    ) -> None:
        self._encoding, self._judge, self._seed, self._prior = encoding, judge, seed, prior
        self._places = Places(encoding, judge, conditions)
        self._pool: tuple[object, Pool] | None = None
        """Filled for the structures that were known then."""
        self._beat: Candidates | None = None
        self._fitted: tuple[list[int], Mapping[str, Kernel]] = [], {}
        """Hyperparameters fitted for predictions where none are stored, and to which trials."""

    def next(
        self,
        study: Study,
        trial: FrozenTrial,
        rows: Sequence[Row],
        fixed: Mapping[str, Any],
        rng: np.random.Generator,
        wanted: Wanted,
    ) -> dict[str, Any]:
        """The values to try, given what was tried."""
        self._places.learn_structures(rows)
        whole = self._pool_with(fixed)
        pool = whole.candidates
        used = _keys(
            self._places.units(
                [row for row in rows if row.state != "ruled out" or row.number >= wanted.anew]
            )
        )
        startup = wanted.startup
        tried = [row for row in rows if row.state != "ruled out"]
        measured = [row for row in tried if row.state == "measured"]
        even = len(tried) < startup if wanted.phase is None else wanted.phase == "explore"
        structures = self._places.structures
        untried = whole.strange[structures.untried(whole.strange, jointly=even)]
        untried = untried[_unused(untried, used)]
        if len(untried):  # the trial itself shows which parameters such a configuration has
            return self._encoding.values(untried[:1])[0]
        if not len(pool):
            raise self._judge.refused or ValueError(
                "known returned None for every configuration that was tried: return what is known "
                "of those that a trial can have"
            )
        before, fitted = kernels_before(study, trial.number)
        early = self._prior and len(tried) >= min(startup, 2 * ECHOES)
        starting = not measured or (even and not early)
        observations = len(measured) + sum(row.state == "stopped" for row in tried)
        refit = not starting and observations >= _next_fit(fitted)
        posterior = self._posterior(
            study, rows if measured else [], pool, wanted, kernels=before, refit=refit
        )
        starting |= even and posterior.trust < TRUSTED
        if refit:
            keep_kernels(study, trial, posterior.kernels, observations)
        allowed = pool.take(posterior.feasible(pool))
        if not len(allowed):  # a limit is closer than its margin, or nothing is feasible at all
            worst = violation(pool)
            left = pool.take(worst <= max(0.0, float(worst.min())))
            excess = posterior.excess(left)
            allowed = left.take(excess <= np.quantile(excess, _SAFEST))
        fresh = allowed.take(_unused(allowed.units, used))
        if starting:
            spread = fresh if len(fresh) else allowed
            if self._encoding.conditional:
                lacking = {np.isnan(unit).tobytes() for unit in self._places.units(tried)}
                new = [np.isnan(unit).tobytes() not in lacking for unit in spread.units]
                spread = Candidates.join([spread.take(np.array(new, bool)), spread])
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
        if wanted.phase == "tune":
            close = self._close(posterior, used, fixed, rng)
            start = close if len(close) else start
        if wanted.beat and wanted.phase != "tune" and trial.number % _BEATING == 0:
            goal = posterior.no_worse_than(self._target(wanted.beat))
            if goal:
                best, gain = self._climb(posterior, start, used, fixed, rng, goal)
                if gain > _SETTLED * goal.room:
                    return self._encoding.values(best[None])[0]
        best, _ = self._climb(posterior, start, used, fixed, rng)
        return self._encoding.values(best[None])[0]

    def predict(self, study: Study, rows: Sequence[Row], wanted: Wanted) -> list[Prediction | None]:
        """What the models predict of each objective of trials; None where formulas say it all.

        The model is that of the next proposal, given nothing but results: neither trials in flight
        nor failed ones, which the search takes to be bad, tell what another one is worth. It is not
        fitted anew: hyperparameters are those that proposals stored or, where none did, such as
        those of another sampler, are fitted as rarely as proposals would do it. Of many trials it
        is made of more than a search has time for.

        Args:
            study: holds the stored hyperparameters.
            rows: the trials, measured or stopped.
            wanted: of the next proposal.
        """
        self._places.learn_structures(rows)
        pool = self._pool_with({}).candidates
        kernels = self._kernels(study, rows, pool, wanted)
        posterior = self._posterior(
            study, rows, pool, wanted, kernels=kernels, refit=False, most=_PREDICTED_FROM
        )
        sites = posterior.sites(self._places.known(rows))
        beliefs = posterior.beliefs
        return [None if each.exact else Prediction(*each.line(sites)) for each in beliefs]

    def _kernels(
        self, study: Study, rows: Sequence[Row], pool: Candidates, wanted: Wanted
    ) -> Mapping[str, Kernel]:
        """Hyperparameters that proposals stored, or those that are fitted where none did."""
        stored, fitted = kernels_before(study)
        return stored if fitted else self._fit(study, rows, pool, wanted)

    def _fit(
        self, study: Study, rows: Sequence[Row], pool: Candidates, wanted: Wanted
    ) -> Mapping[str, Kernel]:
        """Hyperparameters fitted to the first of these trials; to more once they are many more.

        To how many follows from their number, so that it does not depend on when this was asked.
        """
        count = 0
        while _next_fit(count) <= len(rows):
            count = _next_fit(count)
        numbers = [row.number for row in rows[:count]]
        if self._fitted[0] != numbers:
            posterior = self._posterior(study, rows[:count], pool, wanted, kernels={}, refit=True)
            self._fitted = numbers, posterior.kernels
        return self._fitted[1]

    def _posterior(
        self,
        study: Study,
        rows: Sequence[Row],
        pool: Candidates,
        wanted: Wanted,
        *,
        kernels: Mapping[str, Kernel],
        refit: bool,
        most: int = MOST_ROWS,
    ) -> Posterior:
        return Posterior(
            self._places, rows, pool, len(study.directions), startup=wanted.startup,
            kernels=kernels, refit=refit, margin=wanted.margin, prior=self._prior, most=most,
        )  # fmt: skip

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
        front = self._front(posterior)
        if not len(front):
            return self._judge.of(front)
        count = _CLOSE_CHILDREN * min(len(front), 12)
        units = perturb(self._encoding, front, count, _CLOSE, rng)
        candidates = self._judged(units, fixed, used)
        return candidates.take(posterior.feasible(candidates))

    def _front(self, posterior: Posterior) -> Array:
        """Places ``[f, p]`` of the measured trials that no other dominates, as believed."""
        count = len(posterior.measured)
        feasible = posterior.feasible_rows()[:count]
        places, values = self._places.units(posterior.measured), posterior.believed[:count]
        if not feasible.any():
            return places[:0]
        best = moocore.is_nondominated(values[feasible], keep_weakly=False)
        return np.asarray(places[feasible][best])

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

        It is bred from the pool's best and the front, in generations of ever finer steps. Given a
        goal, improvement there alone counts.
        """
        found, gains = start, posterior.improvement(start, goal)
        # Around the front, too: its neighbours differ too little to be in the pool.
        front = self._front(posterior)[-_AROUND_FRONT:]
        for scale, count, best in _GENERATIONS:
            order = np.argsort(-gains, kind="stable")
            parents = found.units[order[:best]]
            if scale >= _FINEST_AROUND_FRONT:
                parents = np.concatenate([parents, front])
            units = perturb(self._encoding, parents, count, scale, rng)
            kept = found.take(order[:best])
            children = self._judged(units, fixed, used | _keys(kept.units))
            children = children.take(posterior.feasible(children))
            found = Candidates.join([kept, children])
            gains = np.concatenate([gains[order[:best]], posterior.improvement(children, goal)])
        gain = float(gains.max())
        if gain <= 0:
            gains = posterior.ignorance(found)
        return np.asarray(found.units[int(np.argmax(gains))]), gain

    def _pool_with(self, fixed: Mapping[str, Any]) -> Pool:
        """The pool, with the parameters that someone has fixed."""
        structures = self._places.structures
        if self._pool is None or self._pool[0] != structures.key:
            filled = fill_pool(self._encoding, self._judge, self._seed, structures)
            self._pool = structures.key, filled
        pool = self._pool[1]
        if not fixed:
            return pool
        units = np.concatenate([pool.candidates.units, pool.strange])
        if self._encoding.conditional:  # what is fixed may bring parameters that they lack
            drawn = np.random.default_rng([self._seed, 0xF17]).random(units.shape)
            units = self._encoding.snap(np.where(np.isnan(units), drawn, units))
        units = self._fixed(units, fixed)
        return judged(self._judge, structures, units[distinct_rows(units)])

    def _fixed(self, units: Array, fixed: Mapping[str, Any]) -> Array:
        """Places with the parameters that someone has fixed."""
        units = units.copy()
        for i, name in enumerate(self._encoding.axes):
            if name in fixed:
                units[:, i] = self._encoding.axes[name].unit(fixed[name])
        return units

    def _judged(self, units: Array, fixed: Mapping[str, Any], used: set[bytes]) -> Candidates:
        """Those of these places that exist and were not used, with what someone has fixed."""
        units, known = self._places.structures.restrict(self._fixed(units, fixed))
        units = units[known]
        units = units[distinct_rows(units)]
        found = self._judge.of(units[_unused(units, used)])
        return found.take(found.exists)


def _next_fit(fitted: int) -> int:
    """How many observations it takes to fit hyperparameters anew that were fitted to so many."""
    return max(fitted + _REFIT_AFTER, int(fitted * _REFIT_GROWTH))


def _unused(units: Array, used: set[bytes]) -> NDArray[np.intp]:
    keys = (unit.tobytes() for unit in np.round(units, _DIGITS))
    return np.array([i for i, key in enumerate(keys) if key not in used], dtype=int)


def _keys(units: Array) -> set[bytes]:
    return {unit.tobytes() for unit in np.round(units, _DIGITS)}
