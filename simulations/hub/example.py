"""A cost that can be computed, an error that is learned, and a limit on the cost."""

from __future__ import annotations

import math

import optuna
import optunahub

module = optunahub.load_module(package="samplers/grey")


def energy_j(params):
    """What a configuration costs."""
    return params["width"] * params["epochs"] / 100


def known(params):
    """Objective 1, and a limit of 2 J."""
    energy = energy_j(params)
    return module.Known(objectives={1: energy}, constraints={"energy": energy / 2 - 1})


def objective(trial):
    """The error of a model, and its cost."""
    width = trial.suggest_categorical("width", [8, 16, 32, 64])
    epochs = trial.suggest_int("epochs", 1, 20)
    rate = trial.suggest_float("learning_rate", 1e-4, 1.0, log=True)
    line = 1.5 * (math.log10(rate) + 1.5) ** 2 - 0.4 * math.log2(width) + 2 / math.sqrt(epochs)
    return 1 / (1 + math.exp(1.5 - line)), energy_j(trial.params)


if __name__ == "__main__":
    study = optuna.create_study(
        sampler=module.GreySampler(known=known, seed=0), directions=["minimize", "minimize"]
    )
    study.optimize(objective, n_trials=30)
    for trial in study.best_trials:
        print(trial.values, trial.params)  # noqa: T201
