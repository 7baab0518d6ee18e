"""Of the package as it lies in the registry: run from the registry's root."""

from __future__ import annotations

import optuna
import optunahub
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

module = optunahub.load_local_module(package="samplers/grey", registry_root="package/")

SPACE = {
    "a": IntDistribution(1, 20),
    "b": FloatDistribution(1e-4, 1.0, log=True),
    "c": CategoricalDistribution(["x", "y"]),
}


def known(params):
    return module.Known({1: params["a"]}, {"a": params["a"] / 10 - 1})


def objective(trial):
    p = {name: trial._suggest(name, each) for name, each in SPACE.items()}
    return (p["a"] - 7) ** 2 + p["b"] + (p["c"] == "x"), p["a"]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_limits_hold(n_jobs):
    sampler = module.GreySampler(known=known, space=SPACE, seed=0)
    study = optuna.create_study(sampler=sampler, directions=["minimize"] * 2)
    study.optimize(objective, n_trials=16, n_jobs=n_jobs)
    assert max(trial.params["a"] for trial in study.trials) <= 10
    assert min(trial.values[0] for trial in study.trials) < 1


@pytest.mark.parametrize("objectives", range(1, 5))
def test_without_formulas(objectives):
    study = optuna.create_study(
        sampler=module.GreySampler(seed=0), directions=["minimize"] * objectives
    )
    study.optimize(lambda trial: (*objective(trial), 1.0, 2.0)[:objectives], n_trials=8)
    assert len(study.trials) == 8


def test_the_same_seed_gives_the_same_trials():
    found = []
    for _ in range(2):
        study = optuna.create_study(sampler=module.GreySampler(seed=3))
        study.optimize(lambda trial: objective(trial)[0], n_trials=8)
        found.append([trial.params for trial in study.trials])
    assert found[0] == found[1]
