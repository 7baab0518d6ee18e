"""What a trial is worth once its neighbours are taken into account."""

from __future__ import annotations

import numpy as np

from fieldtune.server.outcomes.trial import Completed, Forecast, Learned, Proposal
from fieldtune.server.study.space import Parameter, Space
from fieldtune.server.tuner.smoothed import FEWEST, believe

SPACE = Space(client={"learning_rate": Parameter(low=0.0, high=1.0)})
RNG = np.random.default_rng(0)
RATES = RNG.random(60)
TRUE = 0.1 + 0.3 * (RATES - 0.5) ** 2
OBSERVED = np.clip(TRUE + RNG.normal(0, 0.02, 60), 0, 1)


def outcomes(count: int, observed: np.ndarray = OBSERVED) -> list[Completed]:
    return [
        Completed(
            Proposal(i, SPACE.configuration({"learning_rate": float(RATES[i])})),
            Forecast({}, (), {}),
            Learned({"error": float(observed[i])}, 400, 0.0, {}, simulated=True),
            {"error": float(observed[i])},
            0,
        )
        for i in range(count)
    ]


def test_it_is_nearer_the_truth_than_what_was_observed_and_its_interval_holds_it() -> None:
    believed = believe(SPACE, outcomes(60), "error")
    values = np.array([believed[i].value for i in range(60)])
    assert np.abs(values - TRUE).mean() < 0.6 * np.abs(OBSERVED - TRUE).mean()
    held = [believed[i].low <= TRUE[i] <= believed[i].high for i in range(60)]
    assert np.mean(held) >= 0.9
    assert all(0 <= each.low < each.value < each.high <= 1 for each in believed.values())


def test_the_luckiest_evaluation_is_not_taken_for_the_best() -> None:
    observed = TRUE.copy()
    lucky = int(np.argmax(TRUE))
    observed[lucky] = TRUE.min() * 0.9
    believed = believe(SPACE, outcomes(60, observed), "error")
    assert min(believed, key=lambda i: believed[i].value) != lucky


def test_few_or_equal_results_are_left_as_they_are() -> None:
    assert believe(SPACE, outcomes(FEWEST - 1), "error") == {}
    assert believe(SPACE, outcomes(60, np.full(60, 0.5)), "error") == {}
