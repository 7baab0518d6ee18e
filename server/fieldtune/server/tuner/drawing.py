"""Draws a trial's whole configuration with any Optuna sampler, like ``optuna.Trial``.

A trial draws and stores one parameter after another. Here all are drawn before any is stored, so
that a kill between two cannot change the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

_QUEUED = "fixed_params"
"""System attribute that ``Study.enqueue_trial`` writes: what the trial is to have."""


def given(trial: FrozenTrial) -> dict[str, Any]:
    """What a trial has already, or was queued with."""
    return {**trial.system_attrs.get(_QUEUED, {}), **trial.params}


def started(
    values: Mapping[str, Any] | None, attributes: Mapping[str, Any] | None = None
) -> FrozenTrial:
    """A new trial that runs; with values, one that was queued with them and taken up."""
    system = {} if values is None else {_QUEUED: dict(values)}
    return optuna.trial.create_trial(
        state=TrialState.RUNNING, system_attrs=system, user_attrs=dict(attributes or {})
    )


def draw(
    study: optuna.Study,
    trial: FrozenTrial,
    space: Mapping[str, BaseDistribution],
    mend: Callable[[str, Any], Any],
) -> dict[str, Any]:
    """A value for each parameter: what the trial is given, the rest by the study's sampler.

    Args:
        study: with the sampler.
        trial: running; takes on what is drawn.
        space: the parameters.
        mend: takes a parameter's name and a drawn value, and returns the value to have instead.
    """
    has, sampler, together = given(trial), study.sampler, dict[str, Any]()
    if any(name not in has and not each.single() for name, each in space.items()):
        spanned = sampler.infer_relative_search_space(study, trial)
        together = sampler.sample_relative(study, trial, spanned)
    values = dict[str, Any]()
    for name, distribution in space.items():
        if name in has:
            value = has[name]
        elif distribution.single():
            value = mend(name, _only_value(distribution))
        elif name in together and _contains(distribution, together[name]):
            value = mend(name, together[name])
        else:
            value = mend(name, sampler.sample_independent(study, trial, name, distribution))
        # As it is read from the storage: of plain types.
        values[name] = distribution.to_external_repr(distribution.to_internal_repr(value))
        trial.params = dict(values)
        trial.distributions = {name: space[name] for name in values}
    return values


def _only_value(distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return distribution.low


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return bool(distribution.low <= value <= distribution.high)
