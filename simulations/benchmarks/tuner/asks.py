"""What an ask costs the coordinator: CPU time and memory by the number of finished trials."""

from __future__ import annotations

import time
import tracemalloc
from dataclasses import dataclass

import numpy as np
import optuna

from fieldtune.server.tuner.optuna_terms import distribution
from tuner.encode import draw
from tuner.optuna_peers import MakeSampler, grey, grey_without_formulas, new_study, nsga2, tpe
from tuner.peers import OURS
from tuner.problem import Problem

REPEATS = 5
GROWN = 1.2
"""A study has grown by this much since models were fitted; the sampler fits them anew from 1.15."""


@dataclass(frozen=True)
class AskCost:
    """Of one sampler at one number of trials."""

    sampler: str
    trials: int
    cpu_ms: float
    """Median over asks, each followed by a tell."""
    worst_ms: float
    """The longest of them; the first one fits models anew."""
    kept_mib: float
    """Memory that the sampler holds after an ask, beside the study's trials."""


def fill(study: optuna.Study, problem: Problem, trials: int) -> None:
    """Add trials drawn at random until there are so many."""
    distributions = {name: distribution(each) for name, each in problem.space.items()}
    for seed in range(len(study.trials), trials):
        values = draw(problem.space, np.random.default_rng([0, seed]))
        found = problem.evaluate(values, problem.rounds, seed)
        study.add_trial(
            optuna.trial.create_trial(
                params=values,
                distributions=distributions,
                values=list(found.objectives),
                constraints=dict(found.constraints),
            )
        )


def ask_cost(problem: Problem, name: str, make: MakeSampler, trials: int) -> AskCost:
    """Ask and tell a few times, and see."""
    study = new_study(problem, make(problem, 0))
    distributions = {name: distribution(each) for name, each in problem.space.items()}

    def once(seed: int) -> float:
        began = time.process_time()
        trial = study.ask(distributions)
        took_s = time.process_time() - began
        found = problem.evaluate(trial.params, problem.rounds, seed)
        for key, value in found.constraints.items():
            trial.set_constraint(key, value)
        study.tell(trial, list(found.objectives))
        return 1e3 * took_s

    fill(study, problem, int(trials / GROWN))
    once(0)  # imports and the first fit
    fill(study, problem, trials)
    taken = [once(seed) for seed in range(1, REPEATS + 1)]
    tracemalloc.start()
    once(REPEATS + 1)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return AskCost(name, trials, float(np.median(taken)), max(taken), kept / 2**20)


def ask_costs(problem: Problem, sizes: tuple[int, ...]) -> list[AskCost]:
    """Ours and Optuna's, at each number of trials."""
    samplers: dict[str, MakeSampler] = {
        "nsga2": nsga2, "tpe": tpe, OURS: grey, f"{OURS}, no formulas": grey_without_formulas,
    }  # fmt: skip
    return [
        ask_cost(problem, name, make, size) for name, make in samplers.items() for size in sizes
    ]
