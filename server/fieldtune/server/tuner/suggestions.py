"""Further trials that are expected to improve the Pareto front most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fieldtune.server.bo.candidates import FormulaEvaluator, fill_pool, violation
from fieldtune.server.bo.encoding import Encoding
from fieldtune.server.bo.known import Formulas
from fieldtune.server.bo.objective_model import KernelParameters
from fieldtune.server.bo.sampler import GreySampler
from fieldtune.server.bo.surrogate import Surrogate
from fieldtune.server.bo.threads import one_thread
from fieldtune.server.bo.trial_points import TrialPoints
from fieldtune.server.bo.trial_rows import TrialRow
from fieldtune.server.outcomes.trial import Completed
from fieldtune.server.study.objectives import Objective
from fieldtune.server.study.space import Configuration, Space
from fieldtune.server.tuner.optuna_terms import distribution

SETTLED = 0.01
"""No further trials are suggested that are expected to add less than this share of hypervolume."""


@dataclass(frozen=True)
class Prospect:
    """A suggested configuration, and the hypervolume that it is expected to add."""

    configuration: Configuration
    gain: float
    """As a share of the present hypervolume; infinite where there is no front yet."""


class _Model:
    """The sampler's surrogate model of a study's trials, whatever sampler proposed them."""

    def __init__(
        self,
        space: Space,
        objectives: Sequence[Objective],
        outcomes: Sequence[Completed],
        formulas: Formulas,
        seed: int,
    ) -> None:
        signs = [objective.sign for objective in objectives]
        parameters = space.parameters().items()
        self.encoding = Encoding.of({name: distribution(each) for name, each in parameters})
        judge = FormulaEvaluator(self.encoding, formulas, signs)
        self.points = TrialPoints(self.encoding, judge)
        self.pool = fill_pool(self.encoding, judge, seed).candidates
        self._startup = GreySampler(seed=0).startup_of(len(self.encoding.axes))
        self.rows = [
            TrialRow(
                outcome.proposal.number,
                "measured",
                outcome.proposal.configuration.flat(),
                tuple(each.sign * outcome.objectives[each.name] for each in objectives),
                {},
            )
            for outcome in outcomes
        ]

    def posterior(
        self, rows: Sequence[TrialRow], kernels: Mapping[str, KernelParameters], *, refit: bool
    ) -> Surrogate:
        return Surrogate(
            self.points, rows, self.pool, len(rows[0].values), startup=self._startup,
            kernels=kernels, refit=refit, margin=None,
        )  # fmt: skip


def random_draws(
    space: Space,
    objectives: Sequence[Objective],
    outcomes: Sequence[Completed],
    formulas: Formulas,
    *,
    seed: int,
    count: int,
) -> list[tuple[float, ...] | None]:
    """What random configurations are expected to come to: one draw of the objectives of each.

    Learned objectives are drawn from the surrogate model's posterior, costs are as forecast. None
    stands for a configuration that the limits rule out.

    Args:
        space: to draw uniformly from.
        objectives: of the study; each draw has their values, to be minimised.
        outcomes: completed trials, of which there must be some.
        formulas: known objectives and constraints of any configuration.
        seed: of the draws.
        count: configurations.
    """
    rng = np.random.default_rng([seed, 0x0DD5])
    with one_thread():
        model = _Model(space, objectives, outcomes, formulas, seed)
        posterior = model.posterior(model.rows, {}, refit=True)
        tried = [
            replace(model.rows[0], number=-1 - i, params=configuration.flat())
            for i, configuration in enumerate(space.sample(count, seed))
        ]
        candidates = model.points.known(tried)
        inputs, allowed = posterior.inputs(candidates), violation(candidates) <= 0
        columns = []
        for belief in posterior.models:
            z = rng.standard_normal(count)
            if belief.exact:
                columns.append(belief.values(inputs))
            else:
                mean, deviation, scale = belief.line(inputs)
                columns.append(scale.backward(mean + z * deviation))
    draws = np.stack(columns, axis=1)
    return [
        tuple(draw.tolist()) if fits else None for draw, fits in zip(draws, allowed, strict=True)
    ]


def prospects(
    space: Space,
    objectives: Sequence[Objective],
    outcomes: Sequence[Completed],
    formulas: Formulas,
    *,
    seed: int,
    most: int,
) -> list[Prospect]:
    """Suggested trials, the one with the largest expected improvement first; at most ``most``.

    Each is chosen assuming that those before it turn out as predicted.
    """
    if not outcomes:
        return []
    found: list[Prospect] = []
    kernels: Mapping[str, KernelParameters] = {}
    with one_thread():
        model = _Model(space, objectives, outcomes, formulas, seed)
        encoding, pool, rows = model.encoding, model.pool, model.rows
        while len(found) < most:
            posterior = model.posterior(rows, kernels, refit=not found)
            kernels = posterior.kernels
            allowed = pool.take(posterior.feasible(pool))
            gains = posterior.improvement(allowed)
            best = int(np.argmax(gains)) if len(gains) else -1
            covered = posterior.front_state.covered
            if best < 0 or gains[best] <= SETTLED * covered:
                break
            (values,) = encoding.values(allowed.units[best : best + 1])
            share = gains[best] / covered if covered else np.inf
            found.append(Prospect(space.configuration(values), float(share)))
            rows = [*rows, replace(rows[0], number=-len(found), state="pending", params=values,
                                   values=())]  # fmt: skip
    return found
