"""The benchmark of recommendations: emulated studies held against the truth."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tuner.product_report import recommend_table
from tuner.recommend import Verdict, judge, worse

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def verdict() -> Verdict:
    return judge("disc-brake", 0, trials=20)


def test_a_verdict_depends_on_problem_and_seed_alone(verdict: Verdict) -> None:
    assert judge("disc-brake", 0, trials=20) == verdict
    assert judge("disc-brake", 1, trials=20) != verdict


def test_a_verdict_compares_the_promise_with_the_truth(verdict: Verdict) -> None:
    assert not verdict.defaults
    assert verdict.promised < 0
    assert verdict.true == pytest.approx(verdict.promised, abs=0.1)
    assert 0 < verdict.gain <= verdict.possible + 1e-9
    assert verdict.repeats >= 1  # the defaults after ten trials
    assert math.isfinite(verdict.by_mean)


def test_the_table_has_a_row_a_problem_and_one_for_all(verdict: Verdict) -> None:
    bad = replace(verdict, problem="other", true=0.02)
    assert worse([verdict.true, bad.true], 0.01) == 0.5
    assert recommend_table([verdict, bad]).row_count == 3
