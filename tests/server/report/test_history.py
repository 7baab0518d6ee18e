"""How the front grew."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldtune.server.report.history import MARGIN, Box, growth, growth_of_random
from fieldtune.server.results.schema import Attempt, Summary
from fieldtune.server.study.objectives import MEASURES

MakeSummary = Callable[..., Summary]


def attempt(trial: int, values: dict[str, float], over: float = -1.0) -> Attempt:
    return Attempt(
        trial=trial,
        state="completed",
        configuration={},
        objectives=values,
        constraints={"memory_mib": over},
    )


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 30))
def test_the_front_never_shrinks(make_summary: MakeSummary, seed: int, count: int) -> None:
    shares = [step.share for step in growth(make_summary(attempts=count, seed=seed))]
    assert shares == sorted(shares)
    assert all(0.0 <= share <= 1.0 for share in shares)


def test_the_last_step_that_grew_is_a_trial_of_the_front(summary: Summary) -> None:
    last = [step.trial for step in growth(summary) if step.grew][-1]
    assert last in {point.trial for point in summary.front}


def test_a_maximised_objective_counts_upwards(make_summary: MakeSummary) -> None:
    summary = make_summary(("-macro_f1",)).model_copy(
        update={"attempts": [attempt(0, {"macro_f1": 0.5}), attempt(1, {"macro_f1": 0.9})]}
    )
    shares = [step.share for step in growth(summary)]
    assert shares == pytest.approx([MARGIN / (1 + MARGIN), 1.0])


def test_a_trial_over_a_limit_adds_nothing(make_summary: MakeSummary) -> None:
    attempts = [attempt(0, {"error": 0.5}), attempt(1, {"error": 0.1}, over=0.2)]
    summary = make_summary(("error",)).model_copy(update={"attempts": attempts})
    assert [step.grew for step in growth(summary)] == [True, False]


def test_random_search_is_expected_to_attain_what_its_draws_do_on_average() -> None:
    box = Box((MEASURES["error"],), np.array([0.0]), np.array([1.0]))
    shares = growth_of_random([(0.0,), None, (1.0,), (2.0,)], box, trials=4, repeats=400)
    best, worst = 1.0, MARGIN / (1 + MARGIN)  # of a draw at 0, and of one at 1
    assert shares[0] == 0
    assert shares == sorted(shares)
    assert shares[1] == pytest.approx((best + worst) / 4, abs=0.04)
    assert shares[4] == pytest.approx(best)


def test_a_study_without_completed_trials_has_no_history(make_summary: MakeSummary) -> None:
    assert growth(make_summary(tightness=100)) == []
