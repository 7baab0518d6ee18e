"""Finds the next configuration of a space, given what was tried."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import moocore
import numpy as np
from numpy.typing import NDArray
from optuna.study import Study
from optuna.trial import FrozenTrial

from fieldtune.server.bo.ascent import ascend
from fieldtune.server.bo.candidates import (
    Candidates,
    FormulaEvaluator,
    distinct_rows,
    perturb,
    violation,
)
from fieldtune.server.bo.encoding import Encoding
from fieldtune.server.bo.hyperparameter_store import store_hyperparameters, stored_hyperparameters
from fieldtune.server.bo.reference_point import TargetRegion
from fieldtune.server.bo.structure import Conditions
from fieldtune.server.bo.study_model import Request, StudyModel, next_fit
from fieldtune.server.bo.surrogate import Surrogate
from fieldtune.server.bo.transfer import TRANSFERRED, TRUSTED, Prior
from fieldtune.server.bo.trial_points import point_keys
from fieldtune.server.bo.trial_rows import TrialRow
from fieldtune.server.bo.trust_region import TrustRegion

Array = NDArray[np.float64]

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
_LOCAL = 2
"""One proposal in so many is sought near the best trial, where the model explains too little."""
_SETTLED = 0.01
"""No proposal does so if less than this share of the possible improvement is expected there."""


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
        self._encoding, self._evaluator, self._prior = encoding, evaluator, prior
        self.model = StudyModel(encoding, evaluator, seed, prior, conditions)
        """Which also predicts and suggests."""
        self._points = self.model.points
        self._baseline_candidate: Candidates | None = None

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
        whole = self.model.pool_with(fixed)
        pool = whole.candidates
        used = self._points.keys(
            [row for row in rows if row.state != "infeasible" or row.number >= request.anew]
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
        refit = not starting and observations >= next_fit(fitted)
        surrogate = self.model.surrogate(
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
        region = None
        if request.phase != "tune" and trial.number % _LOCAL == 1:
            region = TrustRegion.needed(self._encoding, self._points, surrogate, startup)
        if region:
            near = self._evaluated(self._placed(region.draw(rng)), fixed, used)
            near = near.take(surrogate.feasible(near))
            start, region = (near, region) if len(near) else (start, None)
        best, _ = self._best_candidate(surrogate, start, used, fixed, rng, region=region)
        return self._encoding.values(best[None])[0]

    def _placed(self, units: Array) -> Array:
        """The nearest places ``[n, p]`` of configurations that are allowed."""
        return self._encoding.confined(self._encoding.snap(units))

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
        """Places ``[f, p]`` of the measured trials on the front of the modelled values."""
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
        region: TrustRegion | None = None,
    ) -> tuple[Array, float]:
        """The point with the largest expected improvement found, and that improvement.

        Candidates are perturbed from the best of the pool and from the front, in generations with
        ever finer steps; from the best of them the improvement is climbed in what is continuous.
        Given a goal, only improvement there counts. A trust region is kept to, but for the nearest
        values of parameters that have few.
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
            if region:
                units = self._placed(region.clip(units))
            kept = found.take(order[:best])
            children = self._evaluated(units, fixed, used | set(point_keys(kept.units)))
            children = children.take(surrogate.feasible(children))
            found = Candidates.join([kept, children])
            gains = np.concatenate([gains[order[:best]], surrogate.improvement(children, goal)])
        gain = float(gains.max())
        if gain <= 0:
            gains = surrogate.ignorance(found)
            return np.asarray(found.units[int(np.argmax(gains))]), gain
        order = np.argsort(-gains, kind="stable")
        highest = found.take(order[: surrogate.ascents])
        ends = self._evaluated(
            np.stack(
                [self._ascended(surrogate, unit, fixed, goal, region) for unit in highest.units]
            ),
            fixed,
            used,
        )
        ends = ends.take(surrogate.feasible(ends))
        found = Candidates.join([highest, ends])
        gains = np.concatenate([gains[order[: len(highest)]], surrogate.improvement(ends, goal)])
        return np.asarray(found.units[int(np.argmax(gains))]), float(gains.max())

    def _ascended(
        self,
        surrogate: Surrogate,
        unit: Array,
        fixed: Mapping[str, Any],
        goal: TargetRegion | None,
        region: TrustRegion | None,
    ) -> Array:
        """The place ``[p]`` of largest improvement that an ascent from here reaches."""
        free = [
            i
            for i, (name, axis) in enumerate(self._encoding.axes.items())
            if axis.count is None and name not in fixed and not np.isnan(unit[i])
        ]

        def improvement(units: Array) -> Array:
            candidates = self._evaluator.of(self._encoding.confined(units))
            allowed = surrogate.feasible(candidates)
            return np.where(allowed, surrogate.improvement(candidates, goal), np.nan)

        bounds = (region.lower, region.upper) if region else None
        end = ascend(improvement, unit, free, bounds)
        return np.asarray(self._encoding.confined(end[None])[0])

    def _evaluated(self, units: Array, fixed: Mapping[str, Any], used: set[bytes]) -> Candidates:
        """Those of these places that exist and were not used, with fixed parameters."""
        units, known = self._points.structures.restrict(self.model.fixed(units, fixed))
        units = units[known]
        units = units[distinct_rows(units)]
        found = self._evaluator.of(units[_unused(units, used)])
        return found.take(found.exists)


def _unused(units: Array, used: set[bytes]) -> NDArray[np.intp]:
    return np.array([i for i, key in enumerate(point_keys(units)) if key not in used], dtype=int)
