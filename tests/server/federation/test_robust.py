"""Robust aggregation agrees with Flower's strategies, and clipping keeps its stated bound."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedMedian, FedTrimmedAvg, Krum, MultiKrum
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.client.node.fleet_api import identify_process
from fieldtune.server.federation.robust import CLIP_ABOVE, aggregation, clipped
from fieldtune.server.federation.server_optimizer import weighted_mean
from fieldtune.server.study.config import ServerSection

SHARE = 0.2
FLOWER: dict[str, Callable[[int], Any]] = {
    "trimmed_mean": lambda _: FedTrimmedAvg(beta=SHARE),
    "median": lambda _: FedMedian(),
    "krum": lambda n: Krum(num_malicious_nodes=int(SHARE * n)),
    "multi_krum": lambda n: MultiKrum(
        num_malicious_nodes=int(SHARE * n), num_nodes_to_select=max(1, n - int(SHARE * n) - 2)
    ),
}


def updates_of(count: int, size: int, seed: int) -> list[tuple[np.ndarray, int]]:
    rng = np.random.default_rng(seed)
    scales = np.where(rng.random(count) < SHARE, -8.0, 1.0)
    return [
        ((scale * rng.normal(1, 1, size)).astype(np.float32), int(rng.integers(1, 90)))
        for scale in scales
    ]


def flowers_answer(strategy: Any, updates: list[tuple[np.ndarray, int]]) -> np.ndarray:
    """What Flower's strategy makes of the same updates."""
    logging.getLogger("flwr").setLevel(logging.ERROR)
    identify_process(1, 1)
    replies = []
    for node, (weights, samples) in enumerate(updates):
        asked = Message(RecordDict(), node, "train")
        content = RecordDict(
            {
                "arrays": ArrayRecord({"all": Array(weights)}),
                "metrics": MetricRecord({"num-examples": samples}),
            }
        )
        replies.append(Message(content, reply_to=asked))
    arrays, _ = strategy.aggregate_train(1, replies)
    return np.asarray(arrays["all"].numpy())


@pytest.mark.parametrize("rule", FLOWER)
@pytest.mark.parametrize("count", [1, 2, 5, 20])
def test_a_rule_gives_what_flowers_strategy_gives(rule: Any, count: int) -> None:
    for seed in range(5):
        updates = updates_of(count, 300, seed)
        ours = aggregation(ServerSection(aggregation=rule, malicious_share=SHARE))(updates)
        theirs = flowers_answer(FLOWER[rule](count), updates)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_more_weights_than_are_sorted_at_a_time_make_no_difference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    updates = updates_of(7, 100, 0)
    whole = aggregation(ServerSection(aggregation="median"))(updates)
    monkeypatch.setattr("fieldtune.server.federation.robust._COLUMNS", 9)
    assert (aggregation(ServerSection(aggregation="median"))(updates) == whole).all()


def sized(sizes: list[float]) -> dict[int, np.ndarray]:
    """An update of each of these norms, in directions of their own."""
    rng = np.random.default_rng(len(sizes))
    found = {}
    for client, size in enumerate(sizes):
        direction = rng.normal(size=50)
        found[client] = (1 + size * direction / np.linalg.norm(direction)).astype(np.float32)
    return found


def clip(sizes: list[float], norms: dict[str, list[float]] | None = None, groups: str = "") -> Any:
    start, updates = np.ones(50, np.float32), sized(sizes)
    of = dict(zip(updates, groups or "a" * len(sizes), strict=True))
    return clipped(start, updates, of, {} if norms is None else norms)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([1, 2, 3.9, 0.1, 1], []),
        ([1, 1, 1, 1, 100], [4]),
        ([1, 1, 1, 5, 1e20], [3, 4]),
        ([1, 9], [1]),
        ([7], []),
        ([0, 0, 1], []),  # nothing to compare with
    ],
)
def test_an_update_is_scaled_down_where_it_is_far_larger_than_the_median(
    sizes: list[float], expected: list[int]
) -> None:
    found = clip(sizes)
    assert sorted(found) == expected
    for weights, times in found.values():
        assert times > CLIP_ABOVE
        assert np.linalg.norm(weights.astype(float) - 1) == pytest.approx(1, rel=1e-4)


def test_norms_of_earlier_rounds_count_so_that_a_round_of_attackers_is_noticed() -> None:
    norms: dict[str, list[float]] = {}
    for _ in range(3):
        assert not clip([1, 1.5, 0.8], norms)
    assert sorted(clip([90, 100], norms)) == [0, 1]


def test_norms_are_compared_within_the_same_hyperparameters() -> None:
    assert not clip([1, 1, 50, 60], groups="aabb")
    assert sorted(clip([1, 1, 50, 60, 900], groups="aabbb")) == [4]


@given(
    honest=st.lists(st.floats(0.3, 1.0), min_size=5, max_size=12),
    attacks=st.lists(st.floats(1e-3, 1e15), min_size=1, max_size=4),
)
def test_attackers_move_the_mean_by_at_most_the_stated_bound(
    honest: list[float], attacks: list[float]
) -> None:
    """By their share, times four times the median norm plus the largest honest one."""
    sizes = [*honest, *attacks]
    start, updates = np.ones(50, np.float32), sized(sizes)
    norms: dict[str, list[float]] = {}
    found = clipped(start, updates, dict.fromkeys(updates, "a"), norms)
    assert all(client >= len(honest) for client in found)  # honest ones stay as they are
    taken = [(found[c][0] if c in found else updates[c], 1) for c in updates]
    moved = weighted_mean(taken) - weighted_mean(taken[: len(honest)])
    share = len(attacks) / len(sizes)
    reference = sorted(norms["a"])[(len(sizes) - 1) // 2]
    bound = share * (CLIP_ABOVE * reference + max(honest))
    assert np.linalg.norm(moved) <= bound * (1 + 1e-4) + 1e-4
