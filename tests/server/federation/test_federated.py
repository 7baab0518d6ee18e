"""Federated averaging as a conversation: what is asked, and what is made of the answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from fieldtune.client.contract.messages import EvaluateReport, TrainReport, TrainRequest
from fieldtune.server.federation.exchange import Report
from fieldtune.server.federation.tally import NothingLearnedError
from fieldtune.server.study.server_options import ServerSection
from fieldtune.server.study.space import Configuration
from support.conversation import converse, honest, plan


def test_each_round_asks_some_and_the_end_evaluates_all() -> None:
    weights, learned, exchanges = converse(plan())
    assert [len(exchange) for exchange in exchanges] == [3, 3, 3, 3, 10]
    assert weights.tolist() == [4, 4]
    assert learned.measures["accuracy"] == 0.75
    assert learned.measures["error"] == 0.25
    assert learned.samples == 40
    assert learned.device_s == 24.0


def test_the_same_seed_asks_the_same_clients_and_another_seed_others() -> None:
    asked = [[sorted(exchange) for exchange in converse(plan(seed=seed))[2]] for seed in (5, 5, 6)]
    assert asked[0] == asked[1] != asked[2]


def test_failures_are_counted_and_do_not_count_in_the_average() -> None:
    def client(number: int, request: Any) -> Report:
        if isinstance(request, TrainRequest) and number % 2:
            return TrainReport(trial=1, round=request.round, failure="out_of_memory")
        return honest(number, request)

    everyone = Configuration({}, {}, {"clients_per_round": 10})
    weights, learned, _ = converse(plan(configuration=everyone), client)
    assert weights.tolist() == [4, 4]
    assert learned.failures == {"out_of_memory": 20}


def test_a_client_whose_updates_point_against_the_others_is_left_out() -> None:
    def client(number: int, request: Any) -> Report:
        report = honest(number, request)
        if number == 4 and isinstance(request, TrainRequest):
            return report.model_copy(update={"weights": request.weights - 1})
        return report

    out: list[tuple[int, int]] = []
    everyone = Configuration({}, {}, {"clients_per_round": 10})
    weights, _, _ = converse(
        plan(
            configuration=everyone,
            on_opposed=lambda client, round, evidence: out.append((client, round)),
            rounds=9,
        ),
        client,
    )
    first = out[0][1]
    assert out == [(4, round) for round in range(first, 9)]
    share = (55 - 2 * 5) / 55  # of the samples, until it is left out
    assert weights == pytest.approx(first * share + 9 - first)
    unchecked = ServerSection(check_direction=False)
    all_in = plan(configuration=everyone, rounds=9, server=unchecked)
    assert converse(all_in, client)[0] == pytest.approx(9 * share)


def test_one_device_cannot_have_a_measured_trial_count_as_simulated() -> None:
    def client(number: int, request: Any) -> Report:
        report = honest(number, request)
        return report.model_copy(update={"simulated": True}) if number in liars else report

    everyone = plan(configuration=Configuration({}, {}, {"clients_per_round": 10}))
    liars = {7}
    assert not converse(everyone, client)[1].simulated
    liars = {*range(10)}
    assert converse(everyone, client)[1].simulated


def test_each_rounds_loss_is_that_of_the_median_client() -> None:
    def client(number: int, request: Any) -> Report:
        report = honest(number, request)
        wrong = {0: 1e30, 1: float("nan")}  # one client's word does not move it
        loss = wrong.get(number, 2.0 / (1 + request.round))
        trains = isinstance(report, TrainReport)
        return report.model_copy(update={"loss": loss}) if trains else report

    everyone = Configuration({}, {}, {"clients_per_round": 10})
    assert converse(plan(configuration=everyone), client)[1].losses == (2, 1, 2 / 3, 0.5)


def test_a_device_that_misses_the_deadline_does_not_count() -> None:
    deadlines = dict.fromkeys(range(10), 1.0) | {3: 5.0}
    everyone = Configuration({}, {}, {"clients_per_round": 10})
    _, learned, _ = converse(plan(configuration=everyone, deadline_s=deadlines))
    assert learned.failures == {"deadline": 36}


@pytest.mark.parametrize(
    "weights", [np.full(2, np.nan, np.float32), np.full(2, np.inf, np.float32)]
)
def test_numbers_that_are_not_finite_end_training_with_the_last_good_weights(
    weights: np.ndarray,
) -> None:
    def client(number: int, request: Any) -> Report:
        if isinstance(request, TrainRequest) and request.round == 2:
            return TrainReport(trial=1, round=2, weights=weights, samples=1)
        return honest(number, request)

    final, learned, exchanges = converse(plan(), client)
    assert final.tolist() == [2, 2]
    assert len(exchanges) == 4
    assert learned.failures == {"diverged": 3}


@pytest.mark.parametrize(
    "forged",
    [
        {"samples": 400},
        {"hits": (4, 4)},
        {"hits": (2, 1, 0)},
        {"predicted": (-1, 5)},
        {"loss_sum": float("nan")},
    ],
)
def test_counts_that_do_not_add_up_are_not_believed(forged: dict[str, Any]) -> None:
    def client(number: int, request: Any) -> Report:
        report = honest(number, request)
        if number == 0 and isinstance(report, EvaluateReport):
            return report.model_copy(update=forged)
        return report

    _, learned, _ = converse(plan(), client)
    assert learned.samples == 36
    assert learned.measures["accuracy"] == 0.75
    assert learned.failures["error"] == 1


def test_weights_of_another_shape_are_not_believed() -> None:
    def client(number: int, request: Any) -> Report:
        if isinstance(request, TrainRequest) and number == request.seed % 10:
            return honest(number, request)
        if isinstance(request, TrainRequest):
            return TrainReport(
                trial=1, round=request.round, weights=np.ones(7, np.float32), samples=1
            )
        return honest(number, request)

    with pytest.raises(NothingLearnedError, match="x error"):
        converse(plan(), client)


def test_the_auc_that_clients_report_is_the_metric_and_a_measure_of_its_own() -> None:
    def client(number: int, request: Any) -> Report:
        answer = honest(number, request)
        auc = {"value": 0.9 if number else 0.5, "weight": 9.0 if number else 81.0}
        return answer.model_copy(update=auc) if isinstance(answer, EvaluateReport) else answer

    _, learned, _ = converse(plan(metric="auc"), client)
    assert learned.measures["auc"] == learned.measures["metric"] == pytest.approx(0.7)
    assert learned.measures["error"] == pytest.approx(0.3)


def test_a_metric_of_ones_own_is_the_weighted_mean_over_clients() -> None:
    def client(number: int, request: Any) -> Report:
        report = honest(number, request)
        if isinstance(report, EvaluateReport):
            return report.model_copy(update={"value": float(number), "weight": float(number == 7)})
        return report

    _, learned, _ = converse(plan(metric="mine:metric"), client)
    assert learned.measures["metric"] == 7.0


def test_the_clients_that_are_worst_off_are_measured_by_themselves() -> None:
    def client(number: int, request: Any) -> Report:
        report = honest(number, request)
        if number == 3 and isinstance(report, EvaluateReport):
            return report.model_copy(update={"hits": (1, 0), "predicted": (3, 1)})
        return report

    _, learned, _ = converse(plan(), client)
    assert learned.measures["error"] == pytest.approx(0.3)
    assert learned.measures["worst_error"] == 0.75
    assert learned.measures["error_spread"] == pytest.approx(0.05)
    _, own, _ = converse(
        plan(metric="mine:metric"),
        lambda number, request: (
            report.model_copy(update={"value": number / 10, "weight": 1.0})
            if isinstance(report := honest(number, request), EvaluateReport)
            else report
        ),
    )
    assert own.measures["worst_error"] == 1.0


@pytest.mark.parametrize(
    ("forged", "said"),
    [
        ({"value": float("nan"), "weight": 1.0}, "its metric is nan"),
        ({"loss_sum": float("inf")}, "its loss is inf"),
        ({"samples": 5}, "its counts do not add up"),
    ],
)
def test_figures_that_no_client_can_have_are_said_to_be_why(
    forged: dict[str, Any], said: str
) -> None:
    def client(number: int, request: Any) -> Report:
        report = honest(number, request)
        trains = isinstance(report, TrainReport)
        return report if trains else report.model_copy(update=forged)

    with pytest.raises(NothingLearnedError, match=rf"\(10 x error\): {said}"):
        converse(plan(metric="mine:metric"), client)


def test_at_a_rung_everyone_evaluates_and_training_goes_on_or_ends_there() -> None:
    asked: list[tuple[int, float]] = []

    def goes_on(rounds: int, measures: Mapping[str, float]) -> bool:
        asked.append((rounds, measures["accuracy"]))
        return rounds < 3

    weights, learned, exchanges = converse(plan(rounds=9, rungs=(1, 3, 5), goes_on=goes_on))
    assert asked == [(1, 0.75), (3, 0.75)]
    assert [len(exchange) for exchange in exchanges] == [3, 10, 3, 3, 10]
    assert {request.round for request in exchanges[1].values()} == {1}
    assert weights.tolist() == [3, 3]
    assert (learned.rounds, learned.stopped, learned.device_s) == (3, True, 18.0)
    assert list(learned.curve) == [1, 3]
    assert learned.measures == learned.curve[3]


def test_a_rung_that_stops_nobody_changes_nothing_but_what_is_known_on_the_way() -> None:
    weights, plain, _ = converse(plan())
    same, learned, exchanges = converse(plan(rungs=(2, 4)))  # the last round is no rung
    assert same.tolist() == weights.tolist()
    assert (learned.measures, learned.rounds, learned.stopped) == (plain.measures, 4, False)
    assert [len(exchange) for exchange in exchanges] == [3, 3, 10, 3, 3, 10]
