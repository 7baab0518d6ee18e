"""Updates of the wrong direction are left out, and those of honest clients are not."""

from __future__ import annotations

import numpy as np
import pytest

from fieldtune.server.federation.direction import LEAVE_OUT_ABOVE, opposed

SIZE, CLIENTS = 400, 12
START = np.ones(SIZE, np.float32)
COMMON = np.random.default_rng(0).normal(size=SIZE)


def honest_round(round: int, clients: int = CLIENTS, own: float = 2.0) -> dict[int, np.ndarray]:
    """Updates that share a direction; ``own`` times as much of each is its client's alone."""
    rng = np.random.default_rng([round, 1])
    return {
        client: (START + 0.01 * (COMMON + own * rng.normal(size=SIZE))).astype(np.float32)
        for client in range(clients)
    }


def flipped(updates: dict[int, np.ndarray], by: dict[int, float]) -> dict[int, np.ndarray]:
    return {
        client: (START - by[client] * (weights - START)).astype(np.float32)
        if client in by
        else weights
        for client, weights in updates.items()
    }


@pytest.mark.parametrize("own", [1.0, 3.0, 8.0])
def test_no_honest_update_is_left_out_however_little_clients_have_in_common(own: float) -> None:
    evidence: dict[str, float] = {}
    for round in range(60):
        assert opposed(START, honest_round(round, own=own), evidence) == {}
    assert max(evidence.values()) < LEAVE_OUT_ABOVE / 2


@pytest.mark.parametrize("times", [0.1, 1.0, 3.0])
def test_flipped_updates_of_any_size_are_left_out_after_a_few_rounds(times: float) -> None:
    evidence: dict[str, float] = {}
    by = dict.fromkeys((3, 7), times)
    for round in range(6):
        found = opposed(START, flipped(honest_round(round), by), evidence)
    assert sorted(found) == sorted(by)
    assert min(found.values()) > LEAVE_OUT_ABOVE / max(times, 1)


def test_larger_flipped_updates_are_left_out_sooner() -> None:
    first = {}
    for times in (1.0, 3.5):
        evidence: dict[str, float] = {}
        first[times] = next(
            round
            for round in range(20)
            if opposed(START, flipped(honest_round(round, own=3.0), {5: times}), evidence)
        )
    assert first[3.5] < first[1.0]


def test_a_client_that_was_honest_for_long_is_left_out_once_it_turns() -> None:
    evidence: dict[str, float] = {}
    for round in range(50):
        opposed(START, honest_round(round), evidence)
    turned = [
        sorted(opposed(START, flipped(honest_round(round), {2: 1.0}), evidence))
        for round in range(50, 60)
    ]
    assert turned[-1] == [2]


@pytest.mark.parametrize("clients", [0, 1, 4])
def test_a_round_of_few_clients_says_nothing(clients: int) -> None:
    evidence: dict[str, float] = {}
    for round in range(9):
        updates = flipped(honest_round(round, clients, own=0.1), {0: 1.0})
        assert opposed(START, updates, evidence) == {}
    assert evidence == {}


def test_a_majority_is_believed() -> None:
    evidence: dict[str, float] = {}
    by = dict.fromkeys(range(6, 12), 1.0)
    for round in range(30):
        assert len(opposed(START, flipped(honest_round(round), by), evidence)) < CLIENTS / 2


def test_updates_that_moved_nothing_or_all_the_same_say_nothing() -> None:
    evidence: dict[str, float] = {}
    for round in range(9):
        still = dict.fromkeys(range(6), START)
        alike = dict.fromkeys(range(6), honest_round(0)[0])
        assert opposed(START, still, evidence) == opposed(START, alike, evidence) == {}, round
    assert all(np.isfinite(each) for each in evidence.values())
