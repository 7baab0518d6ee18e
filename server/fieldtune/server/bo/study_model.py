"""The models of one study's trials: for proposals, predictions and suggestions alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from optuna.study import Study

from fieldtune.server.bo.candidates import (
    Candidates,
    FormulaEvaluator,
    Pool,
    distinct_rows,
    evaluated,
    fill_pool,
)
from fieldtune.server.bo.encoding import Encoding
from fieldtune.server.bo.hyperparameter_store import stored_hyperparameters
from fieldtune.server.bo.objective_model import KernelParameters, Prediction
from fieldtune.server.bo.structure import Conditions
from fieldtune.server.bo.surrogate import Surrogate
from fieldtune.server.bo.transfer import Prior
from fieldtune.server.bo.trial_choice import MOST_TRIALS
from fieldtune.server.bo.trial_points import TrialPoints
from fieldtune.server.bo.trial_rows import TrialRow

Array = NDArray[np.float64]

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


class StudyModel:
    """Makes surrogates of a study's trials over one space, and keeps what they share.

    Args:
        encoding: of the space.
        evaluator: of the formulas.
        seed: of the pool.
        prior: of earlier studies.
        conditions: of parameters that only some configurations have.
    """

    def __init__(
        self,
        encoding: Encoding,
        evaluator: FormulaEvaluator,
        seed: int,
        prior: Prior,
        conditions: Conditions | None = None,
    ) -> None:
        self._encoding, self._evaluator, self._seed, self._prior = encoding, evaluator, seed, prior
        self.points = TrialPoints(encoding, evaluator, conditions)
        self._pool: tuple[object, Pool] | None = None
        """Filled for the structures that were known then."""
        self._fitted: tuple[list[int], Mapping[str, KernelParameters]] = [], {}
        """Hyperparameters fitted for predictions where none are stored, and to which trials."""

    def predict(
        self,
        study: Study,
        rows: Sequence[TrialRow],
        request: Request,
        configurations: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[Prediction | None]:
        """Predict each objective of trials; None where a formula gives it exactly.

        The model is that of the next proposal, but only of results: without trials in flight and
        failed trials, which the search counts as bad. Hyperparameters are those stored by
        proposals; where trials that were no proposals have come since, or another sampler has made
        them, they are fitted anew, as rarely as proposals would do it. It uses more trials than a
        search has time for.

        Args:
            study: holds the stored hyperparameters.
            rows: the trials, measured or stopped.
            request: the options of the next proposal.
            configurations: what to predict instead of the trials themselves.
        """
        self.points.learn_structures(rows)
        pool = self.pool_with({}).candidates
        kernels = self._kernels(study, rows, pool, request)
        surrogate = self.surrogate(
            study, rows, pool, request, kernels=kernels, refit=False, most=_PREDICTED_FROM
        )
        if configurations is None:
            asked = self.points.known(rows)
        else:
            units = np.array([self._encoding.unit(values) for values in configurations])
            asked = self._evaluator.of(self._encoding.snap(units))
        inputs = surrogate.inputs(asked)
        models = surrogate.models
        return [None if each.exact else Prediction(*each.line(inputs)) for each in models]

    def suggest(
        self, study: Study, rows: Sequence[TrialRow], most: int, settled: float, request: Request
    ) -> list[tuple[dict[str, Any], float]]:
        """Further configurations, each chosen as if those before it came out as predicted.

        Args:
            study: holds the stored hyperparameters.
            rows: trials with results.
            most: how many configurations at most.
            settled: share of the present hypervolume; none follows that is expected to add less.
            request: the options of the next proposal.

        Returns:
            Configurations of the pool, with the share that each is expected to add; infinite where
            there is no front yet.
        """
        self.points.learn_structures(rows)
        pool = self.pool_with({}).candidates
        kernels = self._kernels(study, rows, pool, request)
        found: list[tuple[dict[str, Any], float]] = []
        rows = list(rows)
        while len(found) < most:
            surrogate = self.surrogate(study, rows, pool, request, kernels=kernels, refit=False)
            allowed = pool.take(surrogate.feasible(pool))
            gains = surrogate.improvement(allowed)
            best = int(np.argmax(gains)) if len(gains) else -1
            covered = surrogate.front_state.covered
            if best < 0 or gains[best] <= settled * covered:
                break
            (values,) = self._encoding.values(allowed.units[best : best + 1])
            found.append((values, float(gains[best] / covered) if covered else math.inf))
            rows.append(TrialRow(-len(found), "pending", values, (), {}))
        return found

    def _kernels(
        self, study: Study, rows: Sequence[TrialRow], pool: Candidates, request: Request
    ) -> Mapping[str, KernelParameters]:
        """Hyperparameters that proposals stored, fitted anew where trials have come since.

        Repeated configurations are no proposals, and they alone tell how much results scatter. To
        how many of the trials they are fitted follows from the trials' number, so that it does not
        depend on when this was asked.
        """
        stored, fitted = stored_hyperparameters(study)
        count = fitted
        while next_fit(count) <= len(rows):
            count = next_fit(count)
        if count == fitted:
            return stored
        numbers = [fitted, *(row.number for row in rows[:count])]
        if self._fitted[0] != numbers:
            surrogate = self.surrogate(
                study, rows[:count], pool, request, kernels=stored, refit=True
            )
            self._fitted = numbers, surrogate.kernels
        return self._fitted[1]

    def surrogate(
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
        """Models of these trials; the options are those of :class:`Surrogate`."""
        return Surrogate(
            self.points, rows, pool, len(study.directions), startup=request.startup,
            kernels=kernels, refit=refit, margin=request.margin, prior=self._prior, most=most,
        )  # fmt: skip

    def pool_with(self, fixed: Mapping[str, Any]) -> Pool:
        """The pool, with the parameters that a sampler around this one has fixed."""
        structures = self.points.structures
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
        units = self.fixed(units, fixed)
        return evaluated(self._evaluator, structures, units[distinct_rows(units)])

    def fixed(self, units: Array, fixed: Mapping[str, Any]) -> Array:
        """Places with the parameters that a sampler around this one has fixed."""
        units = units.copy()
        for i, name in enumerate(self._encoding.axes):
            if name in fixed:
                units[:, i] = self._encoding.axes[name].unit(fixed[name])
        return units


def next_fit(fitted: int) -> int:
    """How many observations it takes to fit hyperparameters anew that were fitted to so many."""
    return max(fitted + _REFIT_AFTER, int(fitted * _REFIT_GROWTH))
