"""Measures from counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from fieldtune.server.measures import from_counts

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
