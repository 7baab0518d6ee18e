"""Robust aggregation agrees with Flower's strategies, and clipping keeps its stated bound."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.serverapp.strategy import FedMedian, FedTrimmedAvg, Krum, MultiKrum
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fieldtune.server.federation.aggregation import aggregate_of
from fieldtune.server.federation.robust import CLIP_ABOVE, clipped, norm_of
from fieldtune.server.federation.server_optimizer import Update, weighted_mean
from fieldtune.server.study.server_options import ServerSection
from fieldtune.server.study.space import Configuration
from support.flower_strategies import flowers_answer

SHARE = 0.2
FLOWER: dict[str, Callable[[int], Any]] = {
    "trimmed_mean": lambda _: FedTrimmedAvg(beta=SHARE),
    "median": lambda _: FedMedian(),
    "krum": lambda n: Krum(num_malicious_nodes=int(SHARE * n)),
    "multi_krum": lambda n: MultiKrum(
        num_malicious_nodes=int(SHARE * n), num_nodes_to_select=max(1, n - int(SHARE * n) - 2)
    ),
}


def updates_of(count: int, size: int, seed: int) -> list[Update]:
    rng = np.random.default_rng(seed)
    scales = np.where(rng.random(count) < SHARE, -8.0, 1.0)
    return [
        Update((scale * rng.normal(1, 1, size)).astype(np.float32), int(rng.integers(1, 90)))
        for scale in scales
    ]


def aggregated(rule: str, updates: list[Update]) -> np.ndarray:
    section = ServerSection(aggregation=rule, malicious_share=SHARE)
    rule_of = aggregate_of(section, Configuration({}, {}, {}))
    return rule_of(np.zeros_like(updates[0].weights), updates)


@pytest.mark.parametrize("rule", FLOWER)
@pytest.mark.parametrize("count", [1, 2, 5, 20])
def test_a_rule_gives_what_flowers_strategy_gives(rule: Any, count: int) -> None:
    for seed in range(5):
        updates = updates_of(count, 300, seed)
        ours = aggregated(rule, updates)
        theirs = flowers_answer(FLOWER[rule](count), updates)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_the_latest_norms_are_kept() -> None:
    norms = {"a": [1.0] * 4096}
    start, updates = np.zeros(1, np.float32), {c: np.full(1, 5.0, np.float32) for c in range(3000)}
    clipped(start, updates, dict.fromkeys(updates, "a"), norms)
    assert norms["a"] == [1.0] * 1096 + [5.0] * 3000
    assert not clipped(start, {0: updates[0]}, {0: "a"}, norms)


def test_multi_krum_leaves_flipped_updates_out_at_once() -> None:
    honest = [Update(np.full(9, size, np.float32), 10) for size in (0.9, 1.0, 1.1, 1.0, 1.0, 0.95)]
    flipped = [Update(np.full(9, -1, np.float32), 90)] * 2
    assert aggregated("multi_krum", [*honest, *flipped]).min() > 0.9


def test_more_weights_than_are_sorted_at_a_time_make_no_difference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    updates = updates_of(7, 100, 0)
    whole = aggregated("median", updates)
    monkeypatch.setattr("fieldtune.server.federation.robust._COLUMNS", 9)
    assert (aggregated("median", updates) == whole).all()


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


def test_who_alone_has_its_hyperparameters_is_compared_with_the_round() -> None:
    norms: dict[str, list[float]] = {}
    assert not clip([1, 1, 1, 35], norms, groups="aaab")
    ((client, (weights, times)),) = clip([1, 1, 1, 1e9], norms, groups="aaac").items()
    assert (client, times) == (3, pytest.approx(1e8))
    assert np.linalg.norm(weights.astype(float) - 1) == pytest.approx(10, rel=1e-4)
    # What it did alone is not ordinary later.
    assert sorted(clip([1, 1e9], norms, groups="cc")) == [1]


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
    taken = [Update(found[c][0] if c in found else updates[c], 1) for c in updates]
    moved = weighted_mean(taken) - weighted_mean(taken[: len(honest)])
    share = len(attacks) / len(sizes)
    reference = sorted(norms["a"])[(len(sizes) - 1) // 2]
    bound = share * (CLIP_ABOVE * reference + max(honest))
    assert np.linalg.norm(moved) <= bound * (1 + 1e-4) + 1e-4


@given(arrays(np.float64, st.integers(0, 9), elements=st.floats(-1e100, 1e100)))
def test_a_norm_has_the_bits_of_numpys(vector: Any) -> None:
    assert norm_of(vector) == np.linalg.norm(vector)
