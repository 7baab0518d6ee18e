"""Searching near the best trial where the model explains too little."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import optuna

from fieldtune.server.bo import GreySampler
from fieldtune.server.bo.trust_region import side

SPACE = {f"x{i}": optuna.distributions.FloatDistribution(0.0, 1.0) for i in range(8)}


def test_the_box_grows_with_successes_and_shrinks_with_failures() -> None:
    start = [5.0, 3.0]
    assert side(start, 2) == 0.2
    assert side([*start, 2.0, 1.0], 2) == 0.4
    assert side([*start, 2.0, 9.0, 1.0], 2) == 0.2  # not in a row
    assert side([*start, *[9.0] * 5], 2) == 0.1
    assert side([*start, *[9.0] * 19], 2) == 0.2 / 8
    assert side([*start, *[math.inf] * 20], 2) == 0.2  # too small a box begins anew
    assert side(list(np.arange(40.0, 0.0, -1.0)), 2) == 1.6


def distances(objective: Callable[[np.ndarray], float]) -> list[float]:
    """How far two proposals after 30 random trials are from the nearest of these, a parameter."""
    tried = np.random.default_rng(0).random((30, 8))
    study = optuna.create_study(sampler=GreySampler(seed=0, space=SPACE))
    for x in tried:
        params = dict(zip(SPACE, x.tolist(), strict=True))
        value = objective(x - 0.4)
        study.add_trial(optuna.create_trial(params=params, distributions=SPACE, value=value))
    asked = [list(study.ask(SPACE).params.values()) for _ in range(2)]
    return [float(np.abs(tried - x).mean(axis=1).min()) for x in asked]


def test_every_other_proposal_is_near_the_best_where_the_model_explains_little() -> None:
    noise = np.random.default_rng(1)
    assert min(distances(lambda x: float((x**2).sum()))) > 0.1
    even, odd = distances(lambda x: noise.normal())
    assert even > 0.1 > odd
