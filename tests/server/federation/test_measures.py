"""Measures from counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from fieldtune.server.federation.metrics import (
    between_clients,
    effective_samples,
    from_counts,
    without_outliers,
)

labels = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60)


def counts(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    true, chosen = np.array(pairs).T
    return (
        np.bincount(true[true == chosen], minlength=4),
        np.bincount(chosen, minlength=4),
        np.bincount(true, minlength=4),
    )


@given(labels)
def test_measures_equal_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    true, chosen = np.array(pairs).T
    ours, occurring = from_counts(*counts(pairs)), np.unique(true)
    keywords = {"labels": occurring, "average": "macro", "zero_division": 0}
    assert ours["accuracy"] == pytest.approx(metrics.accuracy_score(true, chosen))
    assert ours["precision"] == pytest.approx(metrics.precision_score(true, chosen, **keywords))
    assert ours["recall"] == pytest.approx(metrics.recall_score(true, chosen, **keywords))
    assert ours["macro_f1"] == pytest.approx(metrics.f1_score(true, chosen, **keywords))


@given(labels, labels)
def test_counts_of_two_clients_add_up(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> None:
    summed = [x + y for x, y in zip(counts(a), counts(b), strict=True)]
    assert from_counts(*summed) == from_counts(*counts(a + b))


def test_the_worst_tenth_is_that_of_the_clients_and_at_least_one() -> None:
    errors = [0.1] * 18 + [0.5, 0.7]
    assert between_clients(errors, [1.0] * 20)["worst_error"] == pytest.approx(0.6)
    assert between_clients(errors[-5:], [1.0] * 5)["worst_error"] == 0.7
    assert between_clients([0.25], [3.0]) == {"worst_error": 0.25}


def test_the_spread_is_the_standard_error_of_the_mean_over_clients() -> None:
    errors = np.random.default_rng(0).random(12)
    found = between_clients(errors.tolist(), [2.0] * 12)["error_spread"]
    assert found == pytest.approx(errors.std(ddof=1) / np.sqrt(12))
    # Who tests on next to nothing adds next to nothing.
    more = between_clients([*errors.tolist(), 1.0], [2.0] * 12 + [1e-9])["error_spread"]
    assert more == pytest.approx(found, rel=0.02)


def test_samples_count_as_fewer_where_clients_differ_by_more_than_chance() -> None:
    rng = np.random.default_rng(1)
    alike = rng.binomial(50, 0.2, 400) / 50
    apart = rng.binomial(50, np.where(np.arange(400) % 2, 0.05, 0.35), 400) / 50
    counts = []
    for errors in (alike, apart):
        measures = {"error": float(errors.mean()), "metric": 1 - float(errors.mean())}
        measures |= between_clients(errors.tolist(), [50.0] * 400)
        counts.append(effective_samples("error", measures["error"], 20_000, measures))
        # A share that is no function of the error says nothing of its spread.
        assert effective_samples("macro_f1", 0.5, 20_000, measures | {"macro_f1": 0.5}) == 20_000
        assert effective_samples("worst_error", 0.5, 20_000, measures) == 2_000
    assert counts[0] > 15_000  # independent, as they are
    assert counts[1] == pytest.approx(0.16 / (0.15**2 + 0.16 / 50) * 400, rel=0.1)


@given(st.floats(-1e300, 1e300), st.floats(0, 1e300))
def test_one_client_cannot_give_a_metric_of_unknown_range_any_value(
    value: float, weight: float
) -> None:
    honest = [(40.0, 20.0), (42.0, 25.0), (44.0, 15.0), (41.0, 20.0)]
    assert without_outliers(honest) == honest
    measured = without_outliers([*honest, (value, weight)])
    assert measured[:4] == honest
    assert abs(measured[4][0] - 42) <= 50
    assert measured[4][1] <= 200


def test_of_two_clients_neither_is_an_outlier() -> None:
    assert without_outliers([(1.0, 1.0), (1e9, 1e9)]) == [(1.0, 1.0), (1e9, 1e9)]
