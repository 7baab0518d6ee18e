"""Further trials that are expected to improve the Pareto front most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from fieldtune.server.bo.known import Formulas
from fieldtune.server.bo.sampler import GreySampler
from fieldtune.server.outcomes.trial import Completed
from fieldtune.server.study.objectives import Objective
from fieldtune.server.study.space import Configuration, Space, Value
from fieldtune.server.tuner.optuna_terms import distribution

SETTLED = 0.01
"""No further trials are suggested that are expected to add less than this share of hypervolume."""


@dataclass(frozen=True)
class Prospect:
    """A suggested configuration, and the hypervolume that it is expected to add."""

    configuration: Configuration
    gain: float
    """As a share of the present hypervolume; infinite where there is no front yet."""


def _with(searched: BaseDistribution, tried: Sequence[Value]) -> BaseDistribution:
    """The distribution, widened to values that were tried before the space became narrower."""
    if isinstance(searched, CategoricalDistribution):
        # Not by ==, for which 1, 1.0 and True are the same choice.
        known = {repr(choice) for choice in searched.choices}
        others = {repr(value): value for value in tried if repr(value) not in known}
        return CategoricalDistribution([*searched.choices, *others.values()])
    if isinstance(searched, IntDistribution | FloatDistribution):
        ends = [float(value) for value in tried]
        low, high = min(searched.low, *ends), max(searched.high, *ends)
        if isinstance(searched, FloatDistribution):
            return FloatDistribution(low, high, log=searched.log)
        return IntDistribution(int(low), int(high), log=searched.log, step=searched.step)
    raise TypeError(f"a parameter of the kind {type(searched).__name__} is not known")


def _sampled(
    space: Space,
    objectives: Sequence[Objective],
    outcomes: Sequence[Completed],
    formulas: Formulas,
    seed: int,
) -> tuple[GreySampler, optuna.Study]:
    """The sampler, and a study in memory whose trials are these, whatever sampler proposed them.

    Not the study's own: its costs may be those of another device.
    """
    tried = [outcome.proposal.configuration.flat() for outcome in outcomes]
    searched = {name: distribution(each) for name, each in space.parameters().items()}
    distributions = {
        name: _with(each, [values[name] for values in tried]) for name, each in searched.items()
    }
    narrower = {n: each for n, each in searched.items() if each != distributions[n]}
    # Limits are those of forecasts, so that none needs a margin.
    sampler = GreySampler(
        known=formulas, seed=seed, margin=None, space=distributions, within=narrower
    )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    minimize, maximize = optuna.study.StudyDirection.MINIMIZE, optuna.study.StudyDirection.MAXIMIZE
    directions = [minimize if each.sign > 0 else maximize for each in objectives]
    study = optuna.create_study(
        storage=optuna.storages.InMemoryStorage(), sampler=sampler, directions=directions
    )
    for outcome, values in zip(outcomes, tried, strict=True):
        study.add_trial(
            optuna.trial.create_trial(
                params=values,
                distributions=distributions,
                values=[outcome.objectives[each.name] for each in objectives],
            )
        )
    return sampler, study


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
    sampler, study = _sampled(space, objectives, outcomes, formulas, seed)
    configurations = [each.flat() for each in space.sample(count, seed)]
    costs = [formulas(each) for each in configurations]
    columns = []
    for index, (objective, predicted) in enumerate(
        zip(objectives, sampler.predict_new(study, configurations), strict=True)
    ):
        z = rng.standard_normal(count)
        if predicted:
            columns.append(predicted.at(z))
        else:
            known = [cost.objectives.get(index, np.inf) if cost else np.inf for cost in costs]
            columns.append(objective.sign * np.array(known))
    allowed = [
        cost is not None and all(limit <= 0 for limit in cost.constraints.values())
        for cost in costs
    ]
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
    sampler, study = _sampled(space, objectives, outcomes, formulas, seed)
    return [
        Prospect(space.configuration(values), share)
        for values, share in sampler.suggest(study, most, SETTLED)
    ]
