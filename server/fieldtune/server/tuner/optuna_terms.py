"""Outcomes, parameters and earlier studies in Optuna's terms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from fieldtune.server.bo.transfer import Earlier
from fieldtune.server.outcomes.earlier import EarlierStudy
from fieldtune.server.outcomes.figures import is_figure
from fieldtune.server.outcomes.trial import Trained
from fieldtune.server.study.objectives import Objective
from fieldtune.server.study.space import Parameter
from fieldtune.server.tuner.restated import CONSTRAINTS, Told


def distribution(parameter: Parameter) -> BaseDistribution:
    """The Optuna distribution of a parameter."""
    if parameter.choices is not None:
        return CategoricalDistribution(parameter.choices)
    low, high = parameter.bounds()
    if parameter.integer:
        return IntDistribution(int(low), int(high), log=parameter.log, step=parameter.step or 1)
    return FloatDistribution(low, high, log=parameter.log)


def constraint_attributes(told: Told) -> dict[str, Any]:
    """System attributes for a trial's constraints, as ``Trial.set_constraint`` names them."""
    if not told.constraints:
        return {}
    names = sorted(told.constraints)
    each: dict[str, Any] = {f"{CONSTRAINTS}:{name}": told.constraints[name] for name in names}
    # Optuna Dashboard (0.21) reads only the list that Optuna wrote before version 5.
    return {**each, CONSTRAINTS: [told.constraints[name] for name in names]}


def outdated(attribute: str) -> bool:
    """Whether an attribute is removed if the latest outcome does not have it."""
    return is_figure(attribute) or attribute.partition(":")[0] == CONSTRAINTS


def as_prior(study: EarlierStudy, objectives: Sequence[Objective]) -> Earlier:
    """An earlier study's results for the learned objectives."""
    return Earlier(
        {name: distribution(each) for name, each in study.parameters.items()},
        [trial.configuration for trial in study.trials],
        {
            index: [trial.objectives.get(objective.name, math.nan) for trial in study.trials]
            for index, objective in enumerate(objectives)
            if objective.learned
        },
    )


def partial(
    objectives: Sequence[Objective], outcome: Trained, rounds: int, of_rounds: int
) -> dict[str, Any]:
    """Objectives of a trial after some rounds, in the form that ``bo/trial_rows.py`` reads."""
    measures, values = outcome.learned.curve[rounds], list[float | None]()
    for each in objectives:
        value = (measures if each.learned else outcome.objectives)[each.name]
        values.append(value if math.isfinite(value) else None)
    return {"share": rounds / of_rounds, "values": values}
