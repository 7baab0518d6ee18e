"""The expected improvement of configurations under the models of a study's trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fieldtune.server.bo.candidates import Candidates
from fieldtune.server.bo.constraint_margin import allowance
from fieldtune.server.bo.ehvi import expected_improvement
from fieldtune.server.bo.objective_model import KernelParameters, ModelInputs, ObjectiveModel
from fieldtune.server.bo.reference_point import FrontState, TargetRegion
from fieldtune.server.bo.transfer import TRUSTED, Prior
from fieldtune.server.bo.trial_choice import MOST_TRIALS
from fieldtune.server.bo.trial_models import TrialModels
from fieldtune.server.bo.trial_points import TrialPoints
from fieldtune.server.bo.trial_rows import TrialRow

Array = NDArray[np.float64]


class Surrogate:
    """Models of a study's trials, and what they expect of configurations.

    Args:
        points: of the study's space.
        rows: its trials.
        pool: configurations all over the space, for the extent of what is known.
        objectives: how many.
        startup: so many first trials were spread evenly.
        kernels: hyperparameters found earlier, by quantity.
        refit: whether to improve on them.
        margin: share of a limit that is kept free until the first trial was measured; None trusts
            the formulas.
        prior: of earlier studies.
        most: measured trials that the models are made of; of more, as for :data:`MOST_TRIALS`.
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
        self._pool, self._startup = pool, startup
        self._trials = TrialModels(
            points, rows, pool, objectives, kernels=kernels, refit=refit, prior=prior, most=most
        )
        names, count = points.evaluator.names or (), len(self.measured)
        self._allowance = allowance(
            names, self.measured, self._trials.known.constraints[:count], margin
        )
        tried = [row for row in rows if row.state in ("measured", "stopped")]
        self._first = tried[:startup]

    @property
    def models(self) -> list[ObjectiveModel]:
        """The model of each objective."""
        return self._trials.objectives

    @property
    def kernels(self) -> Mapping[str, KernelParameters]:
        """Hyperparameters, by quantity."""
        return self._trials.kernels

    @property
    def values_of_trials(self) -> Array:
        """Objectives ``[n + q, m]`` of the measured and pending trials, as modelled."""
        return self._trials.values

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
        return min(self._trials.trust.values(), default=0.0)

    @property
    def ascents(self) -> int:
        """From how many candidates a search climbs; fewer where a prediction takes many models."""
        return 2 if self._trials.thorough else 1

    @property
    def measured(self) -> list[TrialRow]:
        """The trials that the models are made of."""
        return self._trials.measured

    def inputs(self, candidates: Candidates) -> ModelInputs:
        """Candidates as the models read them, after all of their rounds."""
        return self._trials.inputs(candidates)

    def feasible_rows(self) -> NDArray[np.bool_]:
        """Which of the measured and pending trials count for the front ``[n + q]``."""
        return self._trials.feasible_rows()

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
            self.front_state.undominated if goal is None else goal.boxes,
            [objective_model.shortfall(inputs) for objective_model in self.models],
        )
        if goal is not None:
            gain = np.where((candidates.objectives > goal.most).any(axis=1), 0.0, gain)
        return gain * self._trials.chance(inputs)

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
        return unsure * self._trials.chance(inputs)

    def _start_values(self, index: int, even: ModelInputs) -> Array | None:
        """Results of evenly spread trials in a learned objective; None of a known one."""
        objective_model = self.models[index]
        if objective_model.known:
            return None
        if self._trials.trust.get(index, 0.0) >= TRUSTED and len(even.x):
            return objective_model.values(even)  # few were spread evenly
        return self._trials.final_values(index, self._first)
