"""Models of all objectives and learned constraints, made from a study's trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fieldtune.server.bo.candidates import Candidates
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
from fieldtune.server.bo.transfer import Prior
from fieldtune.server.bo.transforms import Transform
from fieldtune.server.bo.trial_choice import MOST_TRIALS, partial_results, selected
from fieldtune.server.bo.trial_points import TrialPoints
from fieldtune.server.bo.trial_rows import TrialRow

Array = NDArray[np.float64]

_MANY_LIMITS = 4
"""Of more learned limits than this, models are made of half as many trials and fitted with less
effort: each limit needs its own."""

SHARE = ":share"


class TrialModels:
    """Models of every objective and learned constraint, given a study's trials.

    Args:
        points: of the study's space.
        rows: its trials.
        pool: configurations all over the space, for the extent of what is known.
        objectives: how many.
        kernels: hyperparameters found earlier, by quantity.
        refit: whether to improve on them.
        prior: of earlier studies.
        most: measured trials that the models are made of; of more, as for :data:`MOST_TRIALS`.

    Attributes:
        measured, pending: the trials that the models are made of.
        known: these trials, with what is known of them ``[n + q]``.
        objectives: the model of each objective.
        kernels: hyperparameters, by quantity.
        trust: the weight that earlier studies have in each objective that they know.
        thorough: whether effort is not to be spared.
    """

    def __init__(
        self,
        points: TrialPoints,
        rows: Sequence[TrialRow],
        pool: Candidates,
        objectives: int,
        *,
        kernels: Mapping[str, KernelParameters],
        refit: bool,
        prior: Prior | None,
        most: int,
    ) -> None:
        self._points, self._prior = points, prior
        self._kernels_before, self._refit = kernels, refit
        self.kernels: dict[str, KernelParameters] = {}
        self.trust: dict[int, float] = {}
        measured = [row for row in rows if row.state == "measured"]
        told = frozenset().union(*{row.limits for row in measured})
        learned = sorted(told - set(points.evaluator.names or ()))
        self.thorough = len(learned) <= _MANY_LIMITS
        if not self.thorough:
            most //= 2
        self.measured = selected(measured, most)
        self._partial = partial_results(rows, self.measured)
        self._failed = [row for row in rows if row.state == "failed"][-MOST_TRIALS:]
        pending = [row for row in rows if row.state == "pending"]
        self.pending = [
            row for row, exists in zip(pending, points.known(pending).exists, strict=True) if exists
        ]
        self._columns = Features(points.encoding, pool)
        self._names, self._groups = self._columns.names, self._columns.groups
        if self._partial:
            self._groups = [*self._groups, len(self._names)]
            self._names = [*self._names, SHARE]
        self.known = points.known([*self.measured, *self.pending])
        self._inputs = self.inputs(self.known)
        self.objectives = [self._objective_model(index) for index in range(objectives)]
        self._limits = self._learned_limits(learned)

    @cached_property
    def values(self) -> Array:
        """Objectives ``[n + q, m]`` of the measured and pending trials."""
        return np.stack(
            [objective_model.values(self._inputs) for objective_model in self.objectives], axis=1
        )

    def inputs(self, candidates: Candidates) -> ModelInputs:
        """Candidates as the models read them, after all of their rounds."""
        x = self._columns.of(candidates)
        if self._partial:
            x = np.concatenate([x, np.zeros((len(x), 1))], axis=1)
        return ModelInputs(x, candidates.objectives, candidates.units)

    def chance(self, inputs: ModelInputs) -> Array:
        """Probability ``[c]`` that every learned constraint holds."""
        chance = np.ones(len(inputs.x))
        for process, scale in self._limits.values():
            chance *= probably_feasible(*process.predict(inputs.x), scale)
        return chance

    def feasible_rows(self) -> NDArray[np.bool_]:
        """Which of the measured and pending trials count for the front ``[n + q]``."""
        told = [row.feasible for row in [*self.measured, *self.pending]]
        # Where the formulas do not apply, they say nothing against a trial.
        held = np.array(told, dtype=bool) & ~(self.known.constraints > 0).any(axis=1)
        pending = slice(len(self.measured), None)
        if self._limits and self.pending:
            inputs = ModelInputs(
                self._inputs.x[pending], self._inputs.formulas[pending], self._inputs.units[pending]
            )
            held[pending] &= self.chance(inputs) >= 0.5
        return held

    def final_values(self, index: int, rows: Sequence[TrialRow]) -> Array:
        """An objective of trials after all their rounds; of stopped ones, as extrapolated."""
        told = np.array([row.values[index] if row.state == "measured" else np.nan for row in rows])
        stopped = [i for i, row in enumerate(rows) if row.state == "stopped"]
        inputs = self.inputs(self._points.known([rows[i] for i in stopped]))
        told[stopped] = self.objectives[index].values(inputs)
        return told

    def _objective_model(self, index: int) -> ObjectiveModel:
        count = len(self.measured)
        told = np.array([row.values[index] for row in self.measured])
        formula = self.known.objectives[:, index]
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
        """What earlier studies predict of an objective, as far as they rank the results rightly."""
        if not self._prior:
            return None
        stopped = [row for row in self._partial if row.state == "stopped"]
        line = np.concatenate([scale.forward(told), self._extrapolated(index, stopped, scale)])
        usable = np.isfinite(line)
        line, rows = line[usable], [*self.measured, *stopped]
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
        if index in self._prior.objectives:
            self.trust[index] = found[0] if found else 0.0
        return found[1] if found else None

    def _extrapolated(self, index: int, stopped: Sequence[TrialRow], scale: Transform) -> Array:
        """Where stopped trials would have come to had they gone on as whole ones did, ``[s]``.

        On the line; only the best are trained to their end, and these alone rank no earlier study.
        """
        went_on: dict[float, list[float]] = {}
        for row in self.measured:
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
        x, count = self._inputs.x, len(self.measured)
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
            thorough=self.thorough,
        )
        return process

    def _prior_means(
        self, expectation: Expectation | None, usable: NDArray[np.bool_], *, with_partial: bool
    ) -> tuple[Array, Array] | None:
        """What earlier studies expect of what was observed, and of what failed."""
        if expectation is None:
            return None
        rows = [*self.measured, *(self._partial if with_partial else [])]
        units = self._points.units
        return expectation(units(rows)[usable]), expectation(units(self._failed))

    def _features(self, rows: Sequence[TrialRow]) -> Array:
        return self.inputs(self._points.known(rows)).x

    def _learned_limits(
        self, learned: Sequence[str]
    ) -> dict[str, tuple[GaussianProcess, Transform]]:
        """A model of each constraint that was told and has no formula."""
        limits = {}
        for name in learned:
            values = np.array([row.constraints.get(name, np.nan) for row in self.measured])
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
