"""The algebra of federated averaging."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.server.federation.server_optimizer import ServerOptimizer, weighted_mean

vectors = st.lists(
    st.tuples(
        st.lists(st.floats(-100, 100, width=32), min_size=3, max_size=3).map(
            lambda values: np.array(values, np.float32)
        ),
        st.integers(1, 1000),
    ),
    min_size=1,
    max_size=8,
)


@given(vectors)
def test_the_mean_lies_within_the_updates(updates: list[tuple[np.ndarray, int]]) -> None:
    mean = weighted_mean(updates)
    stacked = np.stack([weights.astype(np.float64) for weights, _ in updates])
    assert (mean >= stacked.min(axis=0) - 1e-9).all()
    assert (mean <= stacked.max(axis=0) + 1e-9).all()


@given(vectors)
def test_a_client_with_twice_the_samples_counts_as_two(
    updates: list[tuple[np.ndarray, int]],
) -> None:
    first, samples = updates[0]
    doubled = [(first, 2 * samples), *updates[1:]]
    twice = [(first, samples), *updates]
    np.testing.assert_allclose(weighted_mean(doubled), weighted_mean(twice), atol=1e-9)


@given(vectors)
def test_learning_rate_one_without_momentum_is_federated_averaging(
    updates: list[tuple[np.ndarray, int]],
) -> None:
    start = np.array([1.0, -2.0, 3.0], np.float32)
    moved = ServerOptimizer(1.0, 0.0).step(start, updates)
    np.testing.assert_allclose(moved, weighted_mean(updates), rtol=1e-6, atol=1e-5)


def test_momentum_carries_the_last_change_on() -> None:
    # Hsu et al. 2019: v1 = d, v2 = 0.5 d + 0; w = 0 + d, then d + 0.5 d.
    server = ServerOptimizer(1.0, 0.5)
    first = server.step(np.zeros(1, np.float32), [(np.ones(1, np.float32), 1)])
    second = server.step(first, [(first, 1)])
    assert first.tolist() == [1.0]
    assert second.tolist() == [1.5]


def test_no_update_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to average"):
        weighted_mean([])
