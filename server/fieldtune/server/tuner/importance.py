"""How much of each objective's variation each hyperparameter explains."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from fieldtune.profiles.common.imports import without
from fieldtune.server.outcomes.trial import Completed, Outcome
from fieldtune.server.study.objectives import Objective
from fieldtune.server.study.space import Space
from fieldtune.server.study.tuner_options import FEWEST_PREDICTED
from fieldtune.server.tuner.optuna_terms import distribution

_OF_THE_MODEL = ("inference_ms", "inference_memory_mib", "storage_mib")
"""Costs that depend on the hyperparameters of the model alone."""
_OF_TRAINING = ("batch_size", "local_epochs", "clients_per_round")
"""What other costs may depend on besides; no cost depends on any other hyperparameter."""


def importances(
    space: Space, objectives: Sequence[Objective], outcomes: Sequence[Outcome]
) -> dict[str, dict[str, float]]:
    """Objective -> hyperparameter -> its share of the importance, which sum to 1.

    Optuna's own (PED-ANOVA, Watanabe et al. 2023): how different the values are that the best
    tenth of the trials have. A cost is compared by the hyperparameters only that its prediction
    uses, since few trials seem to depend on others by chance. Empty for fewer than ten completed
    trials, and without an objective of which all values are equal.
    """
    parameters = {name: p for name, p in space.parameters().items() if p.count() != 1}
    completed = [
        outcome
        for outcome in outcomes
        if isinstance(outcome, Completed)  # in the space as it is now, if it was narrowed
        and all(p.contains(outcome.proposal.configuration.flat()[n]) for n, p in parameters.items())
    ]
    if len(completed) < FEWEST_PREDICTED or not parameters:
        return {}
    # It would import scikit-learn, half a second, for other ways than this one.
    with without("sklearn"):
        import_module("optuna.importance")
    distributions = {name: distribution(each) for name, each in parameters.items()}
    study = optuna.create_study(directions=["minimize"] * len(objectives))
    for outcome in completed:
        tried = outcome.proposal.configuration.flat()
        study.add_trial(
            optuna.create_trial(
                params={name: tried[name] for name in parameters},
                distributions=distributions,
                values=[each.sign * outcome.objectives[each.name] for each in objectives],
            )
        )
    values = np.array([trial.values for trial in study.get_trials(deepcopy=False)])
    found = {}
    for index, objective in enumerate(objectives):
        names = [name for name in parameters if _may_matter(space, objective, name)]
        told = values[:, index]
        if not np.isfinite(told).all() or (told == told[0]).all() or not names:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it looks at low values, which is meant
            shares = optuna.importance.get_param_importances(
                study, params=names, target=_Value(index)
            )
        found[objective.name] = {name: float(shares.get(name, 0.0)) for name in parameters}
    return found


@dataclass(frozen=True)
class _Value:
    """A trial's value of one objective."""

    index: int

    def __call__(self, trial: FrozenTrial) -> float:
        return float(trial.values[self.index])


def _may_matter(space: Space, objective: Objective, name: str) -> bool:
    if not objective.learned and not objective.of_device:  # epsilon
        return name in ("clients_per_round", "dp_noise")
    if objective.learned or name in space.model:
        return True
    return objective.name not in _OF_THE_MODEL and name in _OF_TRAINING
