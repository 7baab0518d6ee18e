"""The server optimizers and q-FedAvg agree with Flower's strategies, and with their algebra."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.serverapp.strategy import FedAdagrad, FedAdam, FedAvgM, FedYogi, QFedAvg
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.server.federation.aggregation import server_optimizer
from fieldtune.server.federation.fair import MOST_TIMES, q_fedavg
from fieldtune.server.federation.server_optimizer import ServerOptimizer, Update, weighted_mean
from fieldtune.server.results.checkpoints import pack, unpack
from fieldtune.server.study.server_options import ServerSection
from fieldtune.server.study.space import Configuration
from support.flower_strategies import flowers_answer

SIZE, ROUNDS = 40, 6
SETTINGS = {
    "server_learning_rate": 0.05, "server_beta_1": 0.8, "server_beta_2": 0.95, "server_tau": 0.01,
}  # fmt: skip
ADAPTIVE = {"eta": 0.05, "beta_1": 0.8, "beta_2": 0.95, "tau": 0.01}
PEERS: dict[str, tuple[dict[str, Any], Callable[[], Any]]] = {
    "sgd": (
        {"server_learning_rate": 0.7, "server_momentum": 0.6},
        lambda: FedAvgM(server_learning_rate=0.7, server_momentum=0.6),
    ),
    "adagrad": (SETTINGS, lambda: FedAdagrad(eta=0.05, tau=0.01)),
    "yogi": (SETTINGS, lambda: FedYogi(**ADAPTIVE)),
    "adam": (SETTINGS, lambda: FedAdam(**ADAPTIVE)),
}


def made(rule: str, **server: Any) -> ServerOptimizer:
    settings = {"server_optimizer": rule, **server}
    return server_optimizer(ServerSection(), Configuration({}, {}, settings))


def updates_around(weights: np.ndarray, seed: int, count: int = 5) -> list[Update]:
    rng = np.random.default_rng(seed)
    return [
        Update(
            (weights + rng.normal(0.2, 1, weights.size)).astype(np.float32),
            int(rng.integers(1, 90)),
            float(rng.uniform(0.1, 3)),
        )
        for _ in range(count)
    ]


def corrects_bias(number: int) -> float:
    """The factor of the learning rate in Flower's FedAdam, which the paper does not have."""
    return math.sqrt(1 - 0.95 ** (number + 1)) / (1 - 0.8 ** (number + 1))


@pytest.mark.parametrize("rule", PEERS)
def test_an_optimizer_moves_as_flowers_strategy_does(rule: str) -> None:
    settings, peer = PEERS[rule]
    ours, theirs = made(rule, **settings), peer()
    weights = other = np.random.default_rng(0).normal(size=SIZE).astype(np.float32)
    for number in range(1, ROUNDS + 1):
        if rule == "adam":
            theirs.eta = 0.05 / corrects_bias(number)
        updates = updates_around(weights, number)
        moved = ours.step(weights, updates)
        other = flowers_answer(theirs, updates, other, number)
        np.testing.assert_allclose(moved, other, rtol=1e-4, atol=1e-5)
        weights = moved


@pytest.mark.parametrize("q", [0.0, 0.1, 1.0, 3.0])
def test_q_fedavg_gives_what_flowers_strategy_gives(q: float) -> None:
    for seed in range(5):
        start = np.random.default_rng([seed, 1]).normal(size=SIZE).astype(np.float32)
        updates = updates_around(start, seed)
        theirs = flowers_answer(QFedAvg(client_learning_rate=0.3, q=q), updates, start)
        np.testing.assert_allclose(q_fedavg(start, updates, q, 0.3), theirs, rtol=1e-4, atol=1e-5)


def test_q_0_is_the_mean_in_which_all_clients_count_the_same() -> None:
    start = np.zeros(SIZE, np.float32)
    updates = updates_around(start, 3)
    alike = weighted_mean([each._replace(samples=1) for each in updates])
    np.testing.assert_allclose(q_fedavg(start, updates, 0.0, 0.1), alike, atol=1e-6)


def test_with_a_larger_q_a_client_with_a_high_loss_counts_more() -> None:
    start, towards = np.zeros(2, np.float32), np.eye(2, dtype=np.float32)
    updates = [Update(towards[0], 10, 3.0), Update(towards[1], 10, 1.0)]
    shares = [
        moved[0] / moved.sum()
        for q in (0.0, 1.0, 2.0)
        for moved in [q_fedavg(start, updates, q, 1)]
    ]
    assert shares == pytest.approx([1 / 2, 3 / 4, 9 / 10])


def test_a_claimed_loss_counts_up_to_a_multiple_of_the_median() -> None:
    start, towards = np.zeros(3, np.float32), np.eye(3, dtype=np.float32)

    def moved(loss: float) -> list[float]:
        losses = (1.0, 1.0, loss)
        updates = [Update(w, 10, each) for w, each in zip(towards, losses, strict=True)]
        return q_fedavg(start, updates, 1.0, 1.0).tolist()

    assert moved(1e300) == moved(MOST_TIMES)
    assert moved(0.0) == moved(1 / MOST_TIMES)


def test_a_client_that_claims_a_loss_of_0_does_not_keep_the_weights_where_they_are() -> None:
    start = np.zeros(2, np.float32)
    updates = [Update(np.ones(2, np.float32), 10, loss) for loss in (1.0, 1.0, 1.0, 1.0, 0.0)]
    assert q_fedavg(start, updates, 0.1, 1.0).min() > 0.5


orders = st.permutations(range(5))


@given(orders, st.sampled_from(list(PEERS)))
def test_the_order_of_the_updates_does_not_matter(order: list[int], rule: str) -> None:
    start = np.zeros(SIZE, np.float32)
    updates = updates_around(start, 1)
    moved = made(rule).step(start, updates)
    other = made(rule).step(start, [updates[index] for index in order])
    np.testing.assert_allclose(moved, other, rtol=1e-4, atol=1e-6)
    fair = [q_fedavg(start, each, 1.0, 0.1) for each in (updates, [updates[i] for i in order])]
    np.testing.assert_allclose(*fair, rtol=1e-6, atol=1e-9)


@given(st.floats(0.01, 100), st.sampled_from(["sgd", "adagrad", "yogi", "adam"]))
def test_changes_that_are_all_larger_move_adaptive_optimizers_no_further(
    scale: float, rule: str
) -> None:
    """With tau scaled too, their step is scale-free; that of SGD is proportional."""
    start, direction = np.zeros(SIZE, np.float32), updates_around(np.zeros(SIZE), 2)
    larger = [each._replace(weights=(scale * each.weights)) for each in direction]
    tau = 0.01
    moved = made(rule, server_tau=tau).step(start, direction)
    further = made(rule, server_tau=scale * tau).step(start, larger)
    factor = scale if rule == "sgd" else 1.0
    np.testing.assert_allclose(further, factor * moved, rtol=1e-3, atol=1e-6 * factor)


@pytest.mark.parametrize("rule", PEERS)
def test_a_restored_optimizer_continues_with_the_same_bits(rule: str) -> None:
    first, weights = made(rule, **PEERS[rule][0]), np.ones(SIZE, np.float32)
    for seed in range(3):
        weights = first.step(weights, updates_around(weights, seed))
    second = made(rule, **PEERS[rule][0])
    second.restore(unpack(pack(first.state())))
    after = [each.step(weights, updates_around(weights, 9)).tobytes() for each in (first, second)]
    assert after[0] == after[1]


def test_an_adaptive_optimizer_has_a_smaller_learning_rate_where_none_is_set() -> None:
    start, update = np.zeros(1, np.float32), [Update(np.ones(1, np.float32), 1)]
    # m = 0.1, v = 0.01: 0.1 * 0.1 / (0.1 + 0.001).
    assert made("adam").step(start, update) == pytest.approx([0.1 * 0.1 / 0.101], rel=1e-4)
    assert made("sgd").step(start, update) == pytest.approx([1.0])
