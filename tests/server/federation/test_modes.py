"""How a round ends: rounds, buffers and single updates on a virtual clock."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldtune.client.contract.messages import EvaluateRequest, TrainReport, TrainRequest
from fieldtune.profiles.costmodel.cost import MESSAGE_BYTES, PROTOCOL_FACTOR
from fieldtune.server.federation import robust
from fieldtune.server.federation.course import fresh, mixed, staleness_weight
from fieldtune.server.federation.plan import Target
from fieldtune.server.federation.timeline import RealTimeline
from fieldtune.server.outcomes.trial import Completed, Failed
from support.timed_training import LINK, PREDICTED_S, WEIGHTS, Scene, moving

CHURN = """
[fleet.availability]
kind = "probability"
available = 0.7
cycle_s = 20
[fleet.faults]
dropout = 0.1
lost_upload = 0.1
out_of_memory = 0.05
throttling = 0.2
noticed_s = 5
"""
BUFFERED, ASYNC = '[server]\nmode = "buffered"\n', '[server]\nmode = "async"\n'
FAST_AND_SLOW = {"clients_per_round": 4, "concurrency": 6, "buffer_size": 3}
SCENES: dict[str, dict[str, Any]] = {
    "sync": {"tables": CHURN, "server": {"clients_per_round": 4}},
    "sync, first of more": {
        "tables": CHURN,
        "server": {"clients_per_round": 4, "over_selection": 1.5, "deadline_s": 3.0},
    },
    "buffered": {"tables": CHURN + BUFFERED, "server": FAST_AND_SLOW},
    "buffered, with patience": {
        "tables": CHURN + BUFFERED,
        "server": {**FAST_AND_SLOW, "deadline_s": 3.0},
    },
    "async": {
        "tables": CHURN + ASYNC,
        "server": {"clients_per_round": 4, "concurrency": 3, "mixing": 0.5},
    },
    "oort": {
        "tables": CHURN + BUFFERED + 'selection = "oort"',
        "server": FAST_AND_SLOW,
    },
}


def described(scene: Scene, outcome: object) -> str:
    assert isinstance(outcome, Completed)
    return f"{scene.weights} {outcome.learned} {outcome.expense}"


@pytest.mark.parametrize("name", SCENES)
def test_nothing_depends_on_the_order_in_which_the_simulation_answers(name: str) -> None:
    found = set()
    for order in (None, 1, 2, 3):
        scene = Scene(**SCENES[name], rungs=(2,), order=order)
        found.add(described(scene, scene.run()))
    assert len(found) == 1


@pytest.mark.parametrize("name", SCENES)
def test_a_training_that_was_killed_continues_with_the_same_bits(name: str, tmp_path: Path) -> None:
    whole = Scene(**SCENES[name], rungs=(2,), folder=tmp_path / "whole")
    expected = described(whole, whole.run())
    for answers in (5, 12, 20):
        killed = Scene(**SCENES[name], rungs=(2,), folder=tmp_path / str(answers), order=answers)
        assert killed.run(answers=answers) is None
        resumed = replace(killed, asked=[])
        assert described(resumed, resumed.run()) == expected


def test_a_round_takes_as_long_as_its_slowest_client() -> None:
    scene = Scene(server={"clients_per_round": 3}, rounds=1)
    learned = scene.completed().learned
    asked = [client for client, request in scene.asked if isinstance(request, TrainRequest)]
    slowest = 1.0 + max(asked) / 8
    took = LINK.download_s(WEIGHTS.nbytes, 1000) + slowest + LINK.upload_s(WEIGHTS.nbytes)
    assert learned.timing is not None
    assert learned.timing.time_s == pytest.approx(took)
    assert learned.measures["time_h"] == pytest.approx(took / 3600)
    waiting = sum(slowest - (1.0 + client / 8) for client in asked)
    assert learned.timing.idle_s == pytest.approx(waiting)
    assert learned.timing.wasted_s == 0


def test_the_artefact_is_downloaded_once() -> None:
    scene = Scene(server={"clients_per_round": 10}, rounds=2)
    timing = scene.completed().learned.timing
    again = LINK.download_s(WEIGHTS.nbytes, 1000) + LINK.download_s(WEIGHTS.nbytes)
    assert timing is not None
    assert timing.time_s == pytest.approx(again + 2 * (2.125 + LINK.upload_s(WEIGHTS.nbytes)))


def test_of_thirteen_asked_the_first_ten_count() -> None:
    server = {"clients_per_round": 10, "over_selection": 1.3}
    scene = Scene(server=server, rounds=1, clients=13)
    learned = scene.completed().learned
    expected = np.mean(
        [
            moving(client, request).weights
            for client, request in scene.asked[:10]
            for _ in range(client + 1)
            if isinstance(request, TrainRequest)
        ],
        axis=0,
    )
    assert scene.weights == pytest.approx(expected.tolist(), rel=1e-5)
    assert learned.failures == {"surplus": 3}
    assert learned.timing is not None
    assert learned.timing.wasted_s > 3 * 2.25


def test_who_was_not_waited_for_in_the_last_round_is_paid_for_on_devices_too() -> None:
    server = {"clients_per_round": 10, "over_selection": 1.3}
    simulated, real = (
        Scene(server=server, rounds=1, clients=13, timeline=timeline).completed()
        for timeline in (None, RealTimeline(clock=lambda: 0.0))
    )
    (paid,), (expected,) = real.expense.values(), simulated.expense.values()
    assert paid.device_s == pytest.approx(expected.device_s)
    assert paid.sent_bytes == pytest.approx(expected.sent_bytes)


@pytest.mark.parametrize("tables", ["", BUFFERED])
def test_who_still_works_at_the_end_is_charged_what_is_predicted(tables: str) -> None:
    clock = [0.0]
    scene = Scene(
        tables=tables, server={"clients_per_round": 3, "deadline_s": 2.5}, rounds=1, clients=4,
        seconds=lambda client: 0.5, timeline=RealTimeline(clock=lambda: clock[0]),
    )  # fmt: skip
    training = scene.training_of()
    for client, request in training.begin()[:2]:
        clock[0] += 1.0
        assert training.accept(client, scene.answer(client, request)) == []
    clock[0] += 1.0
    for client, request in training.look():
        training.accept(client, scene.answer(client, request))
    assert isinstance(training.outcome, Completed)
    assert training.outcome.learned.failures == {"late": 1}
    (paid,) = training.outcome.expense.values()
    assert paid.device_s == pytest.approx(2 * 0.5 + 4 * 0.1 + PREDICTED_S)
    sent = (3 + 4) * MESSAGE_BYTES.value + 3 * PROTOCOL_FACTOR.value * WEIGHTS.nbytes
    assert paid.sent_bytes == pytest.approx(sent)


@pytest.mark.parametrize("order", [None, 1, 2])
def test_where_nothing_is_learned_all_who_were_asked_are_paid(order: int | None) -> None:
    def failing(client: int, request: TrainRequest) -> TrainReport:
        return TrainReport(trial=1, round=request.round, failure="error", simulated=True)

    server = {"clients_per_round": 2, "concurrency": 5}
    scene = Scene(tables=BUFFERED, server=server, client=failing, order=order)
    outcome = scene.run()
    assert isinstance(outcome, Failed)
    (paid,) = outcome.expense.values()
    assert len(scene.asked) > 2
    assert paid.sent_bytes == pytest.approx(len(scene.asked) * MESSAGE_BYTES.value)


def test_who_is_late_is_not_waited_for_and_not_asked_before_it_is_done() -> None:
    scene = Scene(
        server={"clients_per_round": 10, "deadline_s": 2.0}, rounds=2,
        seconds=lambda client: 30.0 if client == 7 else 1.0,
    )  # fmt: skip
    learned = scene.completed().learned
    assert learned.failures == {"late": 1}
    assert sum(client == 7 and isinstance(r, TrainRequest) for client, r in scene.asked) == 1
    assert learned.timing is not None
    assert 2.0 < learned.timing.time_s < 4.0


def test_a_limit_of_time_ends_a_training_with_what_it_has_come_to() -> None:
    scene = Scene(rounds=100, most_s=10.0)
    learned = scene.completed().learned
    assert learned.rounds < 10
    assert learned.measures["time_h"] <= 10.0 / 3600


def test_a_round_whose_results_are_all_lost_changes_nothing() -> None:
    def seconds(client: int) -> float:
        return 1.0 if any(request.round for _, request in scene.asked) else 9.0

    server = {"clients_per_round": 10, "deadline_s": 3.0}
    scene = Scene(server=server, rounds=3, seconds=seconds)
    learned = scene.completed().learned
    assert learned.failures == {"late": 10}
    assert learned.rounds == 3


def test_where_no_result_arrives_in_any_round_the_trial_fails() -> None:
    scene = Scene(server={"clients_per_round": 3, "deadline_s": 0.5}, clients=20)
    outcome = scene.run()
    assert isinstance(outcome, Failed)
    assert outcome.reason == "no client returned a result (12 x late)"


@pytest.mark.parametrize("mode", ["", BUFFERED, ASYNC])
def test_where_no_result_arrives_before_the_time_is_over_it_is_said(mode: str) -> None:
    server = {"clients_per_round": 3}
    outcome = Scene(tables=mode, server=server, most_s=0.5).run()
    assert isinstance(outcome, Failed)
    assert outcome.reason == "no client returned a result within limits.time_h (3 x late)"
    assert outcome.failures == {"late": 3}


def test_where_nobody_is_there_before_the_time_is_over_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("client,start_s,end_s\na,60,100\n")
    tables = '[fleet.availability]\nkind = "trace"\nfile = "a.csv"\n[server]\nselection = "tiers"'
    outcome = Scene(tables=tables, most_s=0.5, folder=tmp_path).run()
    assert isinstance(outcome, Failed)
    assert outcome.reason == "no client returned a result within limits.time_h"


@pytest.mark.parametrize("mode", ["sync", "buffered"])
def test_what_a_simulation_draws_at_random_does_not_fail_a_trial(mode: str) -> None:
    tables = f'[fleet.faults]\nout_of_memory = 0.6\n[server]\nmode = "{mode}"\n'
    server = {"clients_per_round": 2}
    learned = Scene(tables=tables, server=server, rounds=20).completed().learned
    assert learned.rounds == 20
    assert learned.failures.keys() == {"out_of_memory"}
    assert len(learned.losses) < 20, "no round was lost"


def test_devices_that_really_run_out_of_memory_end_the_trial() -> None:
    def exhausted(client: int, request: TrainRequest) -> TrainReport:
        return TrainReport(trial=request.trial, round=request.round, failure="out_of_memory")

    assert isinstance(Scene(client=exhausted, rounds=20).run(), Failed)


@settings(max_examples=20)
@given(
    clients=st.integers(3, 8), rounds=st.integers(1, 4), seed=st.integers(0, 99),
    momentum=st.sampled_from([0.0, 0.9]),
)  # fmt: skip
def test_buffered_is_sync_where_all_are_equally_fast_and_the_buffer_is_the_cohort(
    clients: int, rounds: int, seed: int, momentum: float
) -> None:
    server = {"clients_per_round": clients, "server_momentum": momentum}
    same: dict[str, Any] = {"rounds": rounds, "seed": seed, "seconds": lambda client: 1.0,
                            "artefact_bytes": 0}  # fmt: skip
    rounds_of = Scene(server=server, **same)
    buffered = Scene(server=server, tables=BUFFERED, **same)
    one, other = rounds_of.completed().learned, buffered.completed().learned
    assert replace(one, timing=None) == replace(other, timing=None)
    assert rounds_of.weights == buffered.weights


@given(staleness=st.integers(0, 50), exponent=st.floats(0, 3))
def test_a_stale_update_counts_less_and_a_fresh_one_fully(staleness: int, exponent: float) -> None:
    weight = staleness_weight(staleness, exponent)
    assert staleness_weight(0, exponent) == 1.0
    assert 0 < weight <= 1.0
    assert staleness_weight(staleness + 1, exponent) <= weight
    assert staleness_weight(staleness, 0.5) == pytest.approx(1 / np.sqrt(1 + staleness))


def test_fedbuffs_update_is_the_weighted_sum_of_changes() -> None:
    """Nguyen et al. 2022, algorithm 1: ``w + (1 / K) sum of s(staleness) change``."""
    current, base = np.array([2.0, 4.0], np.float32), np.array([1.0, 1.0], np.float32)
    trained = np.array([1.5, 0.0], np.float32)
    moved = fresh(current, base, trained, staleness_weight(3, 0.5))
    assert moved.tolist() == [2.25, 3.5]


def test_fedasyncs_update_mixes_the_clients_model_into_the_global_one() -> None:
    """Xie et al. 2019, algorithm 1: ``(1 - a) w + a trained`` with ``a = mixing s(staleness)``."""
    current, trained = np.array([2.0, 4.0], np.float32), np.array([4.0, 0.0], np.float32)
    assert mixed(current, trained, 0.6 * staleness_weight(3, 0.5)).tolist() == pytest.approx(
        [0.7 * 2 + 0.3 * 4, 0.7 * 4]
    )


def test_async_mixes_each_update_in_the_order_of_arrival() -> None:
    server = {"clients_per_round": 3, "mixing": 0.5, "staleness_exponent": 1.0}
    scene = Scene(
        tables=ASYNC, server=server, rounds=1, seconds=lambda client: 1.0 + client,
        client=lambda client, request: TrainReport(
            trial=1, round=0, samples=1, weights=request.weights + np.float32(client),
            simulated=True,
        ),
    )  # fmt: skip
    scene.completed()
    first, second, third = sorted(client for client, _ in scene.asked[:3])
    expected = 0.5 * first
    expected += 0.5 / 2 * (second - expected)
    expected += 0.5 / 3 * (third - expected)
    assert scene.weights == pytest.approx([expected] * 4, rel=1e-6)


@pytest.mark.parametrize("mode", [BUFFERED, ASYNC])
@pytest.mark.parametrize("liar_s", [0.01, 0.9])
def test_the_first_update_to_come_does_not_decide_a_training(mode: str, liar_s: float) -> None:
    """A fast client answers first, and more often than others: it is not what is ordinary."""

    def lying(client: int, request: TrainRequest) -> TrainReport:
        report = moving(client, request)
        assert report.weights is not None
        return report if client else report.model_copy(update={"weights": report.weights + 1e5})

    def trained(client: Any) -> float:
        scene = Scene(
            tables=mode, rounds=6, client=client, clients=10,
            server={"clients_per_round": 4, "concurrency": 4, "buffer_size": 2},
            seconds=lambda each: 1.0 + each / 8 if each else liar_s,
        )  # fmt: skip
        scene.completed()
        assert scene.weights is not None
        return float(np.abs(scene.weights).max())

    assert trained(lying) < 10 * trained(moving)


def test_an_update_may_be_of_more_clients_than_norms_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(robust, "_NORMS", 3)
    scene = Scene(tables=BUFFERED, server={"clients_per_round": 5})
    assert scene.completed().learned.rounds == 4


def test_private_updates_are_not_waited_for_to_be_compared() -> None:
    private = {"dp_clip": 1.0, "dp_noise": 0.0}
    scene = Scene(tables=ASYNC, server={"clients_per_round": 4, "concurrency": 1, **private})
    assert scene.run(answers=2) is None
    _, request = scene.asked[-1]
    assert isinstance(request, TrainRequest)
    assert np.abs(request.weights).max() > 0


@pytest.mark.parametrize("name", SCENES)
def test_every_mode_asks_as_many_clients_in_all(name: str) -> None:
    scene = Scene(**SCENES[name])
    scene.completed()
    over = float(SCENES[name]["server"].get("over_selection", 1.0))
    trained = sum(isinstance(request, TrainRequest) for _, request in scene.asked)
    failures = scene.completed().learned.failures
    assert trained + failures.get("out_of_memory", 0) <= 4 * 4 * over
    if over == 1.0:
        assert trained + failures.get("out_of_memory", 0) == 4 * 4


@pytest.mark.parametrize("mode", [BUFFERED, ASYNC])
def test_devices_may_be_fewer_than_may_train_at_a_time(mode: str) -> None:
    timeline = RealTimeline(clock=lambda: 0.0)
    scene = Scene(
        tables=mode, server={"clients_per_round": 4, "concurrency": 20}, timeline=timeline
    )
    assert scene.completed().learned.rounds == 4


def test_fast_clients_are_not_held_up_by_slow_ones_in_a_buffer() -> None:
    slow: dict[str, Any] = {"rounds": 8, "seconds": lambda client: 100.0 if client > 7 else 1.0}
    waiting = Scene(server={"clients_per_round": 4}, **slow).completed().learned.timing
    buffered = Scene(server={"clients_per_round": 4}, tables=BUFFERED, **slow).completed()
    assert waiting is not None
    assert buffered.learned.timing is not None
    assert buffered.learned.timing.time_s < waiting.time_s / 2


@pytest.mark.parametrize("tables", ["", BUFFERED])
def test_the_time_to_an_error_is_that_of_the_update_before_it_was_found(tables: str) -> None:
    scene = Scene(tables=tables, rounds=6, looks=(2, 4), target=Target(0.3, 9.0))
    learned = scene.completed().learned  # every evaluation finds an error of 0.25
    assert learned.measures["time_to_error_h"] == learned.curve[2]["time_h"]
    assert learned.measures["time_to_error_h"] < learned.measures["time_h"]
    assert sorted(learned.curve) == [2, 4]


def test_an_error_that_is_not_reached_counts_with_the_penalty() -> None:
    learned = Scene(looks=(2,), target=Target(0.2, 9.0)).completed().learned
    assert learned.measures["time_to_error_h"] == learned.curve[2]["time_to_error_h"] == 9.0


def test_a_rung_is_not_missed_where_many_reports_come_together() -> None:
    scene = Scene(
        tables=BUFFERED, server={"clients_per_round": 2, "concurrency": 8}, rungs=(1, 2),
        seconds=lambda client: 1.0, artefact_bytes=0, rounds=6,
    )  # fmt: skip
    assert sorted(scene.completed().learned.curve) == [1, 2]


@pytest.mark.parametrize("mode", [BUFFERED, ASYNC])
@pytest.mark.parametrize("per_round", [1, 2])
def test_a_rung_before_the_first_update_judges_the_model_after_it(
    mode: str, per_round: int
) -> None:
    server = {"clients_per_round": per_round, "concurrency": per_round}
    scene = Scene(tables=mode, server=server, rungs=(1,), rounds=6)
    assert sorted(scene.completed().learned.curve) == [1]
    judged = [each for _, each in scene.asked if isinstance(each, EvaluateRequest)]
    assert not np.array_equal(judged[0].weights, WEIGHTS)
