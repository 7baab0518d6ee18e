"""The algebra of federated averaging."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.server.federation.server_optimizer import (
    ServerOptimizer,
    SgdStep,
    Update,
    weighted_mean,
)

vectors = st.lists(
    st.builds(
        Update,
        st.lists(st.floats(-100, 100, width=32), min_size=3, max_size=3).map(
            lambda values: np.array(values, np.float32)
        ),
        st.integers(1, 1000),
    ),
    min_size=1,
    max_size=8,
)


@given(vectors)
def test_the_mean_lies_within_the_updates(updates: list[Update]) -> None:
    mean = weighted_mean(updates)
    stacked = np.stack([each.weights.astype(np.float64) for each in updates])
    assert (mean >= stacked.min(axis=0) - 1e-9).all()
    assert (mean <= stacked.max(axis=0) + 1e-9).all()


@pytest.mark.parametrize("size", [0, 1, 2**15, 2**15 + 1, 70_000])
def test_each_weight_is_added_up_in_the_order_of_the_updates(size: int) -> None:
    rng = np.random.default_rng(0)
    updates = [Update(rng.normal(size=size).astype(np.float32), 3 * n + 1) for n in range(9)]
    mean = np.zeros(size)
    for each in updates:
        mean += each.weights.astype(np.float64) * (each.samples / sum(u.samples for u in updates))
    assert weighted_mean(updates).tobytes() == mean.tobytes()


@given(vectors)
def test_a_client_with_twice_the_samples_counts_as_two(
    updates: list[Update],
) -> None:
    doubled = [updates[0]._replace(samples=2 * updates[0].samples), *updates[1:]]
    twice = [updates[0], *updates]
    np.testing.assert_allclose(weighted_mean(doubled), weighted_mean(twice), atol=1e-9)


@given(vectors)
def test_learning_rate_one_without_momentum_is_federated_averaging(
    updates: list[Update],
) -> None:
    start = np.array([1.0, -2.0, 3.0], np.float32)
    moved = ServerOptimizer(SgdStep(1.0, 0.0)).step(start, updates)
    np.testing.assert_allclose(moved, weighted_mean(updates), rtol=1e-6, atol=1e-5)


def test_momentum_carries_the_last_change_on() -> None:
    # Hsu et al. 2019: v1 = d, v2 = 0.5 d + 0; w = 0 + d, then d + 0.5 d.
    server = ServerOptimizer(SgdStep(1.0, 0.5))
    first = server.step(np.zeros(1, np.float32), [Update(np.ones(1, np.float32), 1)])
    second = server.step(first, [Update(first, 1)])
    assert first.tolist() == [1.0]
    assert second.tolist() == [1.5]


def test_no_update_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to average"):
        weighted_mean([])
