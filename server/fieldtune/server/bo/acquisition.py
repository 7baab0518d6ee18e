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
    FormulaEvaluator,
    Pool,
    distinct_rows,
    evaluated,
    fill_pool,
    perturb,
    violation,
)
from fieldtune.server.bo.encoding import Encoding
from fieldtune.server.bo.hyperparameter_store import store_hyperparameters, stored_hyperparameters
from fieldtune.server.bo.objective_model import KernelParameters, Prediction
from fieldtune.server.bo.reference_point import TargetRegion
from fieldtune.server.bo.structure import Conditions
from fieldtune.server.bo.surrogate import MOST_TRIALS, Surrogate
from fieldtune.server.bo.transfer import TRANSFERRED, TRUSTED, Prior
from fieldtune.server.bo.trial_points import TrialPoints
from fieldtune.server.bo.trial_rows import TrialRow

Array = NDArray[np.float64]

_DIGITS = 9
"""Points that agree to so many decimals are the same configuration."""
_GENERATIONS = (
    (0.15, 120, 24), (0.08, 100, 16), (0.04, 100, 12), (0.02, 80, 8), (0.01, 60, 6), (0.005, 60, 4),
)  # fmt: skip
"""Of the search: standard deviation of steps, children, and of how many of the best."""
_AROUND_FRONT, _FINEST_AROUND_FRONT = 24, 0.02
"""So many points of the front are parents too, down to this scale."""
_CLOSE, _CLOSE_CHILDREN = 0.05, 80
"""In the phase ``tune``: scale, and children of a point of the front, of twelve at most."""
_SAFEST = 0.1
"""If nothing is feasible with margins, this share with the smallest excess is used."""
_BEATING = 2
"""One proposal in so many targets configurations that beat the baseline."""
_SETTLED = 0.01
"""No proposal does so if less than this share of the possible improvement is expected there."""
_PREDICTED_FROM = 1024
"""Measured trials, at most, from which trials are predicted."""
_REFIT_AFTER, _REFIT_GROWTH = 4, 1.15
"""Hyperparameters are fitted anew after so many observations more, and so many times as many."""


@dataclass(frozen=True)
class Request:
    """The options of a proposal.

    Attributes:
        startup: trials spread evenly before models are used.
        margin: share of each known limit that is kept free until the first trial was measured; None
            trusts the formulas of limits.
        phase: its purpose; None explores for the first ``startup`` trials, and then refines.
        anew: what was infeasible before the trial of this number may be proposed again.
        beat: the baseline configuration.
    """

    startup: int
    margin: float | None
    phase: Literal["explore", "refine", "tune", "validate"] | None
    anew: int
    beat: Mapping[str, Any] | None


class AcquisitionSearch:
    """Finds the next configuration of one space."""

    def __init__(
        self,
        encoding: Encoding,
        evaluator: FormulaEvaluator,
        seed: int,
        prior: Prior,
        conditions: Conditions | None = None,
    ) -> None:
        self._encoding, self._evaluator, self._seed, self._prior = encoding, evaluator, seed, prior
        self._points = TrialPoints(encoding, evaluator, conditions)
        self._pool: tuple[object, Pool] | None = None
        """Filled for the structures that were known then."""
        self._baseline_candidate: Candidates | None = None
        self._fitted: tuple[list[int], Mapping[str, KernelParameters]] = [], {}
        """Hyperparameters fitted for predictions where none are stored, and to which trials."""

    def next(
        self,
        study: Study,
        trial: FrozenTrial,
        rows: Sequence[TrialRow],
        fixed: Mapping[str, Any],
        rng: np.random.Generator,
        request: Request,
    ) -> dict[str, Any]:
        """The parameter values to try next."""
        self._points.learn_structures(rows)
        whole = self._pool_with(fixed)
        pool = whole.candidates
        used = _keys(
            self._points.units(
                [row for row in rows if row.state != "infeasible" or row.number >= request.anew]
            )
        )
        startup = request.startup
        tried = [row for row in rows if row.state != "infeasible"]
        measured = [row for row in tried if row.state == "measured"]
        even = len(tried) < startup if request.phase is None else request.phase == "explore"
        structures = self._points.structures
        untried = whole.unknown[structures.untried(whole.unknown, jointly=even)]
        untried = untried[_unused(untried, used)]
        if len(untried):  # the trial itself shows which parameters such a configuration has
            return self._encoding.values(untried[:1])[0]
        if not len(pool):
            raise self._evaluator.refused or ValueError(
                "known returned None for every configuration that was tried: return what is known "
                "of those that a trial can have"
            )
        before, fitted = stored_hyperparameters(study, trial.number)
        early = self._prior and len(tried) >= min(startup, 2 * TRANSFERRED)
        starting = not measured or (even and not early)
        observations = len(measured) + sum(row.state == "stopped" for row in tried)
        refit = not starting and observations >= _next_fit(fitted)
        surrogate = self._surrogate(
            study, rows if measured else [], pool, request, kernels=before, refit=refit
        )
        starting |= even and surrogate.trust < TRUSTED
        if refit:
            store_hyperparameters(study, trial, surrogate.kernels, observations)
        allowed = pool.take(surrogate.feasible(pool))
        if not len(allowed):  # a limit is closer than its margin, or nothing is feasible at all
            worst = violation(pool)
            left = pool.take(worst <= max(0.0, float(worst.min())))
            excess = surrogate.excess(left)
            allowed = left.take(excess <= np.quantile(excess, _SAFEST))
        fresh = allowed.take(_unused(allowed.units, used))
        if starting:
            spread = fresh if len(fresh) else allowed
            if self._encoding.conditional:
                lacking = {np.isnan(unit).tobytes() for unit in self._points.units(tried)}
                new = [np.isnan(unit).tobytes() not in lacking for unit in spread.units]
                spread = Candidates.join([spread.take(np.array(new, bool)), spread])
            if self._prior and not fixed and len(tried) in range(0, 2 * TRANSFERRED, 2):
                told = [row for row in tried if row.state in ("measured", "stopped") and row.values]
                values = np.array([row.curve[0][1] if row.curve else row.values for row in told])
                transferred = self._prior.transferred(
                    allowed, self._evaluator, self._points.units(told),
                    values.reshape(len(told), len(study.directions)),
                )  # fmt: skip
                spread = Candidates.join(
                    [transferred.take(_unused(transferred.units, used)), spread]
                )
            return self._encoding.values(spread.units[:1])[0]
        start = fresh if len(fresh) else allowed
        if request.phase == "tune":
            close = self._close(surrogate, used, fixed, rng)
            start = close if len(close) else start
        if request.beat and request.phase != "tune" and trial.number % _BEATING == 0:
            goal = surrogate.no_worse_than(self._baseline(request.beat))
            if goal:
                best, gain = self._best_candidate(surrogate, start, used, fixed, rng, goal)
                if gain > _SETTLED * goal.room:
                    return self._encoding.values(best[None])[0]
        best, _ = self._best_candidate(surrogate, start, used, fixed, rng)
        return self._encoding.values(best[None])[0]

    def predict(
        self, study: Study, rows: Sequence[TrialRow], request: Request
    ) -> list[Prediction | None]:
        """Predict each objective of trials; None where a formula gives it exactly.

        The model is that of the next proposal, but only of results: without trials in flight and
        failed trials, which the search counts as bad. Hyperparameters are those stored by
        proposals; if none are, as with another sampler, they are fitted as rarely as proposals
        would do it. It uses more trials than a search has time for.

        Args:
            study: holds the stored hyperparameters.
            rows: the trials, measured or stopped.
            request: the options of the next proposal.
        """
        self._points.learn_structures(rows)
        pool = self._pool_with({}).candidates
        kernels = self._kernels(study, rows, pool, request)
        surrogate = self._surrogate(
            study, rows, pool, request, kernels=kernels, refit=False, most=_PREDICTED_FROM
        )
        inputs = surrogate.inputs(self._points.known(rows))
        models = surrogate.models
        return [None if each.exact else Prediction(*each.line(inputs)) for each in models]

    def _kernels(
        self, study: Study, rows: Sequence[TrialRow], pool: Candidates, request: Request
    ) -> Mapping[str, KernelParameters]:
        """Hyperparameters that proposals stored, else fitted ones."""
        stored, fitted = stored_hyperparameters(study)
        return stored if fitted else self._fit(study, rows, pool, request)

    def _fit(
        self, study: Study, rows: Sequence[TrialRow], pool: Candidates, request: Request
    ) -> Mapping[str, KernelParameters]:
        """Hyperparameters fitted to the first of these trials; to more once they are many more.

        To how many follows from their number, so that it does not depend on when this was asked.
        """
        count = 0
        while _next_fit(count) <= len(rows):
            count = _next_fit(count)
        numbers = [row.number for row in rows[:count]]
        if self._fitted[0] != numbers:
            surrogate = self._surrogate(study, rows[:count], pool, request, kernels={}, refit=True)
            self._fitted = numbers, surrogate.kernels
        return self._fitted[1]

    def _surrogate(
        self,
        study: Study,
        rows: Sequence[TrialRow],
        pool: Candidates,
        request: Request,
        *,
        kernels: Mapping[str, KernelParameters],
        refit: bool,
        most: int = MOST_TRIALS,
    ) -> Surrogate:
        return Surrogate(
            self._points, rows, pool, len(study.directions), startup=request.startup,
            kernels=kernels, refit=refit, margin=request.margin, prior=self._prior, most=most,
        )  # fmt: skip

    def _baseline(self, beat: Mapping[str, Any]) -> Candidates:
        """The baseline configuration, with its known objectives and constraints."""
        if self._baseline_candidate is None:
            unit = self._encoding.unit(beat)
            for name, place in zip(self._encoding.axes, unit.tolist(), strict=True):
                if math.isnan(place) and name not in self._encoding.conditional:
                    given = f"has {beat[name]!r} for" if name in beat else "lacks"
                    raise ValueError(
                        f"the configuration to be beaten {given} the parameter {name}: give it a "
                        "value of the space"
                    )
            self._baseline_candidate = self._evaluator.of(self._encoding.snap(unit[None]))
        return self._baseline_candidate

    def _close(
        self,
        surrogate: Surrogate,
        used: set[bytes],
        fixed: Mapping[str, Any],
        rng: np.random.Generator,
    ) -> Candidates:
        """Candidates around the front alone."""
        front = self._front(surrogate)
        if not len(front):
            return self._evaluator.of(front)
        count = _CLOSE_CHILDREN * min(len(front), 12)
        units = perturb(self._encoding, front, count, _CLOSE, rng)
        candidates = self._evaluated(units, fixed, used)
        return candidates.take(surrogate.feasible(candidates))

    def _front(self, surrogate: Surrogate) -> Array:
        """Places ``[f, p]`` of the measured trials that no other dominates, as believed."""
        count = len(surrogate.measured)
        feasible = surrogate.feasible_rows()[:count]
        points, values = self._points.units(surrogate.measured), surrogate.values_of_trials[:count]
        if not feasible.any():
            return points[:0]
        best = moocore.is_nondominated(values[feasible], keep_weakly=False)
        return np.asarray(points[feasible][best])

    def _best_candidate(
        self,
        surrogate: Surrogate,
        start: Candidates,
        used: set[bytes],
        fixed: Mapping[str, Any],
        rng: np.random.Generator,
        goal: TargetRegion | None = None,
    ) -> tuple[Array, float]:
        """The point with the largest expected improvement found, and that improvement.

        Candidates are perturbed from the best of the pool and from the front, in generations with
        ever finer steps. Given a target region, only improvement there counts.
        """
        found, gains = start, surrogate.improvement(start, goal)
        # Around the front too: its neighbours differ too little to be in the pool.
        front = self._front(surrogate)[-_AROUND_FRONT:]
        for scale, count, best in _GENERATIONS:
            order = np.argsort(-gains, kind="stable")
            parents = found.units[order[:best]]
            if scale >= _FINEST_AROUND_FRONT:
                parents = np.concatenate([parents, front])
            units = perturb(self._encoding, parents, count, scale, rng)
            kept = found.take(order[:best])
            children = self._evaluated(units, fixed, used | _keys(kept.units))
            children = children.take(surrogate.feasible(children))
            found = Candidates.join([kept, children])
            gains = np.concatenate([gains[order[:best]], surrogate.improvement(children, goal)])
        gain = float(gains.max())
        if gain <= 0:
            gains = surrogate.ignorance(found)
        return np.asarray(found.units[int(np.argmax(gains))]), gain

    def _pool_with(self, fixed: Mapping[str, Any]) -> Pool:
        """The pool, with the parameters that someone has fixed."""
        structures = self._points.structures
        if self._pool is None or self._pool[0] != structures.key:
            filled = fill_pool(self._encoding, self._evaluator, self._seed, structures)
            self._pool = structures.key, filled
        pool = self._pool[1]
        if not fixed:
            return pool
        units = np.concatenate([pool.candidates.units, pool.unknown])
        if self._encoding.conditional:  # what is fixed may bring parameters that they lack
            drawn = np.random.default_rng([self._seed, 0xF17]).random(units.shape)
            units = self._encoding.snap(np.where(np.isnan(units), drawn, units))
        units = self._fixed(units, fixed)
        return evaluated(self._evaluator, structures, units[distinct_rows(units)])

    def _fixed(self, units: Array, fixed: Mapping[str, Any]) -> Array:
        """Places with the parameters that someone has fixed."""
        units = units.copy()
        for i, name in enumerate(self._encoding.axes):
            if name in fixed:
                units[:, i] = self._encoding.axes[name].unit(fixed[name])
        return units

    def _evaluated(self, units: Array, fixed: Mapping[str, Any], used: set[bytes]) -> Candidates:
        """Those of these places that exist and were not used, with what someone has fixed."""
        units, known = self._points.structures.restrict(self._fixed(units, fixed))
        units = units[known]
        units = units[distinct_rows(units)]
        found = self._evaluator.of(units[_unused(units, used)])
        return found.take(found.exists)


def _next_fit(fitted: int) -> int:
    """How many observations it takes to fit hyperparameters anew that were fitted to so many."""
    return max(fitted + _REFIT_AFTER, int(fitted * _REFIT_GROWTH))


def _unused(units: Array, used: set[bytes]) -> NDArray[np.intp]:
    keys = (unit.tobytes() for unit in np.round(units, _DIGITS))
    return np.array([i for i, key in enumerate(keys) if key not in used], dtype=int)


def _keys(units: Array) -> set[bytes]:
    return {unit.tobytes() for unit in np.round(units, _DIGITS)}
