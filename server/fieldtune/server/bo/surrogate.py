"""Models of all objectives and learned constraints, and the expected improvement under them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import moocore
import numpy as np
from numpy.typing import NDArray

from fieldtune.server.bo.candidates import Candidates
from fieldtune.server.bo.constraint_margin import allowance
from fieldtune.server.bo.ehvi import expected_improvement
from fieldtune.server.bo.features import Features
from fieldtune.server.bo.gp import GaussianProcess
from fieldtune.server.bo.objective_model import (
    Expectation,
    KernelParameters,
    ModelInputs,
    ObjectiveModel,
    Observations,
    formula_is_exact,
    model,
    probably_feasible,
)
from fieldtune.server.bo.reference_point import FrontState, TargetRegion
from fieldtune.server.bo.transfer import TRUSTED, Prior
from fieldtune.server.bo.transforms import Transform
from fieldtune.server.bo.trial_points import TrialPoints
from fieldtune.server.bo.trial_rows import TrialRow

Array = NDArray[np.float64]

MOST_TRIALS = 256
"""Trials that models for a search are made of; of more, half as many that are best and an even
choice of others."""

_MANY_LIMITS = 4
"""Of more learned limits than this, models are made of half as many trials and fitted with less
effort: each limit needs its own."""

SHARE = ":share"


class Surrogate:
    """Models of every objective and learned constraint, given a study's trials.

    Args:
        places: of the study's space.
        rows: its trials.
        pool: configurations all over the space, for the extent of what is known.
        objectives: how many.
        startup: so many first trials were spread evenly.
        kernels: hyperparameters found earlier, by quantity.
        refit: whether to improve on them.
        margin: share of a limit that is kept free until the first trial was measured; None trusts
            the formulas.
        prior: of earlier studies.
        most: measured trials that the models are made of; of more, as for :data:`MOST_ROWS`.
    """

    def __init__(
        self,
        points: TrialPoints,
        rows: Sequence[TrialRow],
        pool: Candidates,
        objectives: int,
        *,
        startup: int,
        kernels: Mapping[str, KernelParameters],
        refit: bool,
        margin: float | None,
        prior: Prior | None = None,
        most: int = MOST_TRIALS,
    ) -> None:
        self._points, self._pool, self._startup = points, pool, startup
        self._prior, self._trust = prior, dict[int, float]()
        self._kernels_before, self._refit = kernels, refit
        self.kernels: dict[str, KernelParameters] = {}
        measured = [row for row in rows if row.state == "measured"]
        told = {name for row in measured for name in row.constraints}
        self._learned = sorted(told - set(points.evaluator.names or ()))
        self._thorough = len(self._learned) <= _MANY_LIMITS
        if not self._thorough:
            most //= 2
        self._measured = _selected(measured, most)
        self._partial = _partial_results(rows, self._measured)
        self._failed = [row for row in rows if row.state == "failed"][-MOST_TRIALS:]
        pending = [row for row in rows if row.state == "pending"]
        self._pending = [
            row for row, exists in zip(pending, points.known(pending).exists, strict=True) if exists
        ]
        self._columns = Features(points.encoding, pool)
        self._names, self._groups = self._columns.names, self._columns.groups
        if self._partial:
            self._groups = [*self._groups, len(self._names)]
            self._names = [*self._names, SHARE]
        self._known = points.known([*self._measured, *self._pending])
        self._inputs = self.inputs(self._known)
        self.models = [self._objective_model(index) for index in range(objectives)]
        self._limits = self._learned_limits()
        names, count = points.evaluator.names or (), len(self._measured)
        self._allowance = allowance(names, self._measured, self._known.constraints[:count], margin)
        tried = [row for row in rows if row.state in ("measured", "stopped")]
        self._first = tried[:startup]

    @cached_property
    def values_of_trials(self) -> Array:
        """Objectives ``[n + q, m]`` of the measured and pending trials."""
        return np.stack(
            [objective_model.values(self._inputs) for objective_model in self.models], axis=1
        )

    @cached_property
    def front_state(self) -> FrontState:
        """The front so far and its reference point; computed only where candidates are compared."""
        allowed = self._pool.take(self.feasible(self._pool))
        even = self.inputs(allowed.take(slice(0, self._startup)))
        return FrontState.of(
            self.values_of_trials,
            self.feasible_rows(),
            allowed.objectives,
            [self._start_values(index, even) for index in range(len(self.models))],
        )

    @property
    def trust(self) -> float:
        """The least weight that earlier studies have in an objective that they know; else 0."""
        return min(self._trust.values(), default=0.0)

    @property
    def measured(self) -> list[TrialRow]:
        """The trials that the models are made of."""
        return self._measured

    def inputs(self, candidates: Candidates) -> ModelInputs:
        """Candidates as the models read them, after all of their rounds."""
        x = self._columns.of(candidates)
        if self._partial:
            x = np.concatenate([x, np.zeros((len(x), 1))], axis=1)
        return ModelInputs(x, candidates.objectives, candidates.units)

    def feasible(self, candidates: Candidates) -> NDArray[np.bool_]:
        """Which of them the known limits allow ``[c]``, with what measurements taught of them."""
        within = (candidates.constraints <= self._allowance).all(axis=1)
        return np.asarray(within & candidates.exists)

    def excess(self, candidates: Candidates) -> Array:
        """How far each is over what the known limits allow, at worst, ``[c]``; 0 where nowhere."""
        over = candidates.constraints - self._allowance
        return np.asarray(np.maximum(over, 0.0).max(axis=1, initial=0.0))

    def improvement(self, candidates: Candidates, goal: TargetRegion | None = None) -> Array:
        """Expected hypervolume that each would add to the front, if it is feasible, ``[c]``.

        Given a goal, only what it would add there.
        """
        if not len(candidates):
            return np.zeros(0)
        inputs = self.inputs(candidates)
        gain = expected_improvement(
            self.front_state.unclaimed if goal is None else goal.boxes,
            [objective_model.shortfall(inputs) for objective_model in self.models],
        )
        if goal is not None:
            gain = np.where((candidates.objectives > goal.most).any(axis=1), 0.0, gain)
        return gain * self._chance(inputs)

    def no_worse_than(self, candidate: Candidates) -> TargetRegion | None:
        """The goal to be better than one candidate, and in no objective worse; None for nowhere."""
        inputs = self.inputs(candidate)
        (values,) = np.stack(
            [objective_model.values(inputs) for objective_model in self.models], axis=1
        )
        known = np.array([objective_model.known for objective_model in self.models])
        return self.front_state.no_worse_than(
            values, np.where(known, candidate.objectives[0], np.inf)
        )

    def ignorance(self, candidates: Candidates) -> Array:
        """How little is known of each, ``[c]``: for when nothing promises an improvement."""
        inputs = self.inputs(candidates)
        unsure = np.zeros(len(candidates))
        for objective_model in self.models:
            if not objective_model.exact:
                unsure += objective_model.line(inputs)[1]
        return unsure * self._chance(inputs)

    def _chance(self, inputs: ModelInputs) -> Array:
        chance = np.ones(len(inputs.x))
        for process, scale in self._limits.values():
            chance *= probably_feasible(*process.predict(inputs.x), scale)
        return chance

    def _objective_model(self, index: int) -> ObjectiveModel:
        count = len(self._measured)
        told = np.array([row.values[index] for row in self._measured])
        formula = self._known.objectives[:, index]
        if len(formula) and not np.isnan(formula).any():
            if formula_is_exact(told, formula[:count]):
                return ObjectiveModel(index)
            positive = bool((formula > 0).all() and (told > 0).all())
            outer = Transform("log" if positive else "linear")
            deviation = outer.forward(told) - outer.forward(formula[:count])
            finite = deviation[np.isfinite(deviation)]
            spread = float(finite.std()) if len(finite) else 0.0
            mean = float(finite.mean()) if len(finite) else 0.0
            scale = Transform("linear", mean=mean, deviation=spread or 1e-6)
            process = self._process(f"objective {index}", deviation, scale, partial=None)
            return ObjectiveModel(index, scale, process, deviates=True, positive=positive)
        partial = [row.values[index] for row in self._partial]
        usable = np.array([value for value in [*told, *partial] if np.isfinite(value)])
        scale = Transform.of(usable) if len(usable) else Transform("linear")
        expectation = self._expectation(index, told, scale)
        process = self._process(f"objective {index}", told, scale, partial, expectation)
        return ObjectiveModel(index, scale, process, expectation=expectation)

    def _expectation(self, index: int, told: Array, scale: Transform) -> Expectation | None:
        """What earlier studies say of an objective, as far as they rank what was told rightly."""
        if not self._prior:
            return None
        stopped = [row for row in self._partial if row.state == "stopped"]
        line = np.concatenate([scale.forward(told), self._extrapolated(index, stopped, scale)])
        usable = np.isfinite(line)
        line, rows = line[usable], [*self._measured, *stopped]
        told_of = [rows[i] for i in np.flatnonzero(usable)]
        inputs = self.inputs(self._points.known(told_of))
        none = np.empty((0, inputs.x.shape[1]))
        own, _ = model(
            Observations(inputs.x, scale.backward(line), none, none, self._groups, self._names),
            scale,
            self._kernels_before.get(f"objective {index}"),
            refit=False,
        )
        found = self._prior.expectation(index, inputs.units, line, own)
        if index in self._prior.says:
            self._trust[index] = found[0] if found else 0.0
        return found[1] if found else None

    def _extrapolated(self, index: int, stopped: Sequence[TrialRow], scale: Transform) -> Array:
        """Where stopped trials would have come to had they gone on as whole ones did, ``[s]``.

        On the line; only the best are trained to their end, and these alone rank no earlier study.
        """
        went_on: dict[float, list[float]] = {}
        for row in self._measured:
            for share, values in row.curve:
                early, end = scale.forward(np.array([values[index], row.values[index]]))
                if np.isfinite(end - early):
                    went_on.setdefault(share, []).append(end - early)
        ahead = [float(np.mean(went_on.get(row.share, [0.0]))) for row in stopped]
        came_to = scale.forward(np.array([row.values[index] for row in stopped]))
        return np.asarray(came_to + np.array(ahead))

    def _process(
        self,
        quantity: str,
        told: Array,
        scale: Transform,
        partial: Sequence[float] | None,
        expectation: Expectation | None = None,
    ) -> GaussianProcess:
        x, count = self._inputs.x, len(self._measured)
        seen, values, pending = x[:count], told, x[count:]
        if partial:
            early = self._features(self._partial)
            early[:, -1] = [1.0 - row.share for row in self._partial]
            seen, values = np.concatenate([seen, early]), np.concatenate([told, partial])
        usable = np.isfinite(values)
        observed = Observations(
            seen[usable],
            values[usable],
            self._features(self._failed),
            pending,
            self._groups,
            self._names,
            self._prior_means(expectation, usable, with_partial=bool(partial)),
        )
        process, self.kernels[quantity] = model(
            observed,
            scale,
            self._kernels_before.get(quantity),
            refit=self._refit,
            thorough=self._thorough,
        )
        return process

    def _prior_means(
        self, expectation: Expectation | None, usable: NDArray[np.bool_], *, with_partial: bool
    ) -> tuple[Array, Array] | None:
        """What earlier studies expect of what was observed, and of what failed."""
        if expectation is None:
            return None
        rows = [*self._measured, *(self._partial if with_partial else [])]
        units = self._points.units
        return expectation(units(rows)[usable]), expectation(units(self._failed))

    def _features(self, rows: Sequence[TrialRow]) -> Array:
        return self.inputs(self._points.known(rows)).x

    def _learned_limits(self) -> dict[str, tuple[GaussianProcess, Transform]]:
        """A model of each constraint that was told and has no formula."""
        limits = {}
        for name in self._learned:
            values = np.array([row.constraints.get(name, np.nan) for row in self._measured])
            finite = values[np.isfinite(values)]
            # Far beyond the limit, how far no longer matters; a huge penalty would drown the rest.
            reach = 3.0 * float(np.median(np.abs(finite))) if len(finite) else 0.0
            values = np.clip(values, -reach, reach)
            spread = float(np.nanstd(values)) if len(finite) else 0.0
            if not spread:
                continue
            scale = Transform("linear", mean=float(np.nanmean(values)), deviation=spread)
            limits[name] = self._process(f"limit {name}", values, scale, None), scale
        return limits

    def feasible_rows(self) -> NDArray[np.bool_]:
        """Which of the measured and pending trials count for the front ``[n + q]``."""
        told = [
            all(value <= 0 for value in row.constraints.values())
            for row in [*self._measured, *self._pending]
        ]
        # Where the formulas do not apply, they say nothing against a trial.
        held = np.array(told, dtype=bool) & ~(self._known.constraints > 0).any(axis=1)
        pending = slice(len(self._measured), None)
        if self._limits and self._pending:
            inputs = ModelInputs(
                self._inputs.x[pending], self._inputs.formulas[pending], self._inputs.units[pending]
            )
            held[pending] &= self._chance(inputs) >= 0.5
        return held

    def _start_values(self, index: int, even: ModelInputs) -> Array | None:
        """What evenly spread trials came to in a learned objective; None of a known one."""
        objective_model = self.models[index]
        if objective_model.known:
            return None
        if self._trust.get(index, 0.0) >= TRUSTED and len(even.x):
            return objective_model.values(even)  # few were spread evenly
        return self._final_values(index, self._first)

    def _final_values(self, index: int, rows: Sequence[TrialRow]) -> Array:
        """An objective of trials after all their rounds; of stopped ones, what is believed."""
        told = np.array([row.values[index] if row.state == "measured" else np.nan for row in rows])
        stopped = [i for i, row in enumerate(rows) if row.state == "stopped"]
        inputs = self.inputs(self._points.known([rows[i] for i in stopped]))
        told[stopped] = self.models[index].values(inputs)
        return told


def _partial_results(rows: Sequence[TrialRow], measured: Sequence[TrialRow]) -> list[TrialRow]:
    """What was measured after a share of the rounds, the latest trials' at most.

    Of trials that were stopped, and of those that went on to their end: these alone say what a
    result at a rung is worth.
    """
    stopped = [row for row in rows if row.state == "stopped" and row.values]
    early = [
        replace(row, values=values, share=share) for row in measured for share, values in row.curve
    ]
    return sorted([*stopped, *early], key=lambda row: row.number)[-MOST_TRIALS:]


def _selected(rows: Sequence[TrialRow], most: int) -> list[TrialRow]:
    """At most so many trials: the best by rank, and of the others an even choice."""
    if len(rows) <= most:
        return list(rows)
    values = np.nan_to_num(np.array([row.values for row in rows]), nan=np.inf, posinf=1e300)
    ruled_out = [any(value > 0 for value in row.constraints.values()) for row in rows]
    order = np.lexsort((moocore.pareto_rank(values), ruled_out))
    best = order[: most // 2]
    others = np.sort(order[most // 2 :])
    picked = others[np.linspace(0, len(others) - 1, most - len(best)).round().astype(int)]
    return [rows[i] for i in sorted({*best.tolist(), *picked.tolist()})]
