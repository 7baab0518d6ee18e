"""Differentially private averaging: how much one device can move it, and with which noise."""

from __future__ import annotations

import math
import secrets
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.client.contract.messages import TrainReport, TrainRequest
from fieldtune.server.federation.exchange import Report
from fieldtune.server.federation.fedavg import federated_averaging
from fieldtune.server.federation.private_mean import private_mean, sampled_independently
from fieldtune.server.federation.tally import NothingLearnedError
from fieldtune.server.study.private_averaging import PrivateAveraging
from fieldtune.server.study.space import Configuration
from support.conversation import converse, honest, plan
from support.timed_training import Scene

QUIET = PrivateAveraging(clip=2.0, noise=1e-9)


def private(noise: float = 1e-9, clip: float = 100.0, clients: int = 10, **changes: Any) -> Any:
    server = {"clients_per_round": clients, "dp_noise": noise, "dp_clip": clip}
    return plan(configuration=Configuration({}, {"learning_rate": 0.1}, server), **changes)


@given(
    sizes=st.lists(st.floats(0, 1e30), min_size=1, max_size=8),
    left_out=st.integers(0, 7),
)
def test_one_device_moves_the_mean_by_at_most_its_clipped_update(
    sizes: list[float], left_out: int
) -> None:
    rng, start = np.random.default_rng(len(sizes)), np.zeros(20, np.float32)
    updates = [(size * rng.normal(size=20)).astype(np.float32) for size in sizes]
    others = [each for index, each in enumerate(updates) if index != left_out % len(updates)]
    with_it, without = (
        private_mean(private(), 3, QUIET, start, each).astype(np.float64)
        for each in (updates, others)
    )
    assert np.linalg.norm(with_it - without) <= QUIET.clip / 10 * (1 + 1e-5)


def test_noise_has_the_stated_deviation_whatever_the_number_of_updates() -> None:
    start = np.zeros(20_000, np.float32)
    rule = PrivateAveraging(clip=2.0, noise=0.5)
    for updates in ([], [start] * 7):
        mean = private_mean(private(clients=5), 0, rule, start, updates)
        assert np.std(mean) == pytest.approx(0.5 * 2.0 / 5, rel=0.03)


def test_devices_are_not_weighted_and_their_number_does_not_divide() -> None:
    start = np.ones(4, np.float32)
    updates = [start + 1, start - 3]
    mean = private_mean(private(clients=4), 0, PrivateAveraging(100, 1e-9), start, updates)
    assert mean == pytest.approx(1 + (1 - 3) / 4)


def test_each_device_is_in_a_round_with_the_same_chance_by_itself() -> None:
    made = private(clients=20, participants=range(100))
    rounds = [sampled_independently(made, number) for number in range(400)]
    sizes = [len(clients) for clients in rounds]
    assert np.mean(sizes) == pytest.approx(20, abs=1)
    assert np.var(sizes) == pytest.approx(100 * 0.2 * 0.8, rel=0.25)  # a fixed size has none
    assert sampled_independently(made, 7) == rounds[7]


def test_on_devices_neither_sample_nor_noise_comes_from_the_seed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, start = private(noise=1.0, secret=True), np.zeros(50, np.float32)
    found = [private_mean(made, 0, PrivateAveraging(1, 1), start, []) for _ in range(2)]
    assert not np.array_equal(*found)
    monkeypatch.setattr(secrets, "randbits", lambda bits: 2**bits - 1)
    found = [private_mean(made, 0, PrivateAveraging(1, 1), start, []) for _ in range(2)]
    assert np.array_equal(*found)


def test_a_training_averages_with_noise_and_is_the_same_for_the_same_seed() -> None:
    quiet, _, asked = converse(private())
    assert [len(each) for each in asked] == [10, 10, 10, 10, 10]
    assert quiet == pytest.approx(4, abs=1e-5)  # everyone moves by 1 in each of 4 rounds
    noisy = [converse(private(noise=1.0, clip=1.0))[0] for _ in range(2)]
    assert np.array_equal(*noisy)
    assert noisy[0] != pytest.approx(4, abs=1e-2)


def test_a_round_in_which_nobody_is_asked_or_everybody_diverges_is_one_of_noise() -> None:
    def client(number: int, request: Any) -> Report:
        if isinstance(request, TrainRequest) and request.round == 1:
            return TrainReport(trial=1, round=1, failure="diverged")
        return honest(number, request)

    few = private(clients=1, participants=range(10), rounds=12, seed=3)
    _, learned, asked = converse(few)
    assert [] in [list(each) for each in asked]
    assert learned.rounds == 12
    weights, learned, _ = converse(private(), client)
    assert weights == pytest.approx(3, abs=1e-5)
    assert learned.rounds == 4


def test_a_round_without_devices_takes_no_time() -> None:
    server = {"clients_per_round": 1, "dp_noise": 0.1, "dp_clip": 1.0}
    scene = Scene(server=server, rounds=12, most_s=3600.0)
    learned = scene.completed().learned
    rounds = {request.round for _, request in scene.asked if isinstance(request, TrainRequest)}
    assert len(rounds) < 12 == learned.rounds
    assert learned.measures["time_h"] < 0.1


def test_no_device_is_left_out_of_a_round_because_others_are_in_it() -> None:
    """More are asked than on average now and then; then all of them are waited for."""
    steps = federated_averaging(private(clients=5, participants=range(10), rounds=9))
    asked, answers = next(steps), None
    while isinstance(next(iter(asked.values()), None), TrainRequest) or not asked:
        assert getattr(asked, "usable", math.inf) == math.inf
        answers = {client: honest(client, request) for client, request in asked.items()}
        asked = steps.send(answers)


def test_a_round_that_fails_on_all_devices_fails_the_trial() -> None:
    def client(number: int, request: Any) -> Report:
        return TrainReport(trial=1, round=request.round, failure="bad_data")

    with pytest.raises(NothingLearnedError):
        converse(private(), client)


def test_nothing_is_clipped_or_left_out_by_comparing_devices() -> None:
    def client(number: int, request: Any) -> Report:
        report = honest(number, request)
        times = {4: -1, 5: 50}.get(number, 1)
        if isinstance(request, TrainRequest):
            return report.model_copy(update={"weights": request.weights + times})
        return report

    noted: list[Any] = []
    made = private(rounds=9, on_clipped=noted.append, on_opposed=noted.append)
    weights, _, _ = converse(made, client)
    assert weights == pytest.approx(9 * (8 - 1 + 50) / 10, rel=1e-4)
    assert not noted
