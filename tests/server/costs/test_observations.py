"""What devices report corrects what is predicted for them, the same however a study is run."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.client.contract.messages import EvaluateReport, TrainReport
from fieldtune.profiles.common.estimate import Estimate
from fieldtune.server.costs.calibration import (
    Expected,
    ObservationCollector,
    corrections,
    finished_before,
    pairs_of,
    was_sent,
)
from fieldtune.server.outcomes.trial import (
    Completed,
    Failed,
    Forecast,
    Infeasible,
    Learned,
    Observation,
    Observed,
    Outcome,
    Proposal,
)
from fieldtune.server.study.space import Configuration

PI = Expected(
    "pi", 8, Estimate(2.0, 0.5, 8.0), Estimate(1.0, 0.2, 5.0), Estimate(100, 80, 130),
    Estimate(5.0, 2.0, 7.0),
)  # fmt: skip
NOWHERE = Forecast(devices={}, participants=(), constraints={})


def proposal(number: int) -> Proposal:
    return Proposal(number, Configuration(model={}, client={}, server={}))


def completed(number: int, **observed: Observed) -> Completed:
    learned = Learned({}, 1, 0.0, {}, simulated=False)
    return Completed(proposal(number), NOWHERE, learned, {}, 0, observed)


def train(**changes: Any) -> TrainReport:
    values = {"trial": 0, "round": 0, "steps": 10, "call_p50_ms": 3.0, "peak_memory_mib": 90.0}
    return TrainReport(**(values | changes))


def watched(*reports: TrainReport | EvaluateReport) -> Observed:
    watch = ObservationCollector(dict.fromkeys(range(len(reports)), PI))
    watch.take(dict(enumerate(reports)))
    return watch.observed()["pi"]


def test_a_report_is_set_beside_what_was_predicted_for_its_client() -> None:
    evaluated = EvaluateReport(trial=0, round=1, samples=20, call_p50_ms=1.5)
    found = watched(train(), evaluated)
    assert found.quantities == {
        "training": Observation(PI.training, 3.0, 1, simulated=False, devices=2),
        "inference": Observation(PI.inference, 1.5, 1, simulated=False, devices=2),
        "memory": Observation(PI.memory, 90.0, 1, simulated=False, devices=2),
    }


@pytest.mark.parametrize(("devices", "most"), [(1, 3.0), (2, 10.0), (0, 10.0)])
@pytest.mark.parametrize("ratio", [1e-6, 1e6])
def test_a_correction_is_bounded_more_narrowly_for_the_only_device_of_a_type(
    devices: int, most: float, ratio: float
) -> None:
    said = Observation(PI.training, 2.0 * ratio, 5, simulated=False, devices=devices)
    outcomes = [completed(n, pi=Observed({"training": said}, 0)) for n in range(30)]
    factor = corrections(outcomes)["pi"].training.factor
    assert factor == pytest.approx(most if ratio > 1 else 1 / most, rel=0.011)


def test_power_is_known_only_where_the_board_and_its_profile_tell_it() -> None:
    told = train(energy_j=12.0, wall_s=2.0)
    assert watched(told).quantities["power"] == Observation(
        PI.power, 6.0, 1, simulated=False, devices=1
    )
    assert "power" not in watched(train(wall_s=2.0)).quantities
    watch = ObservationCollector({0: replace(PI, power=None)})
    watch.take({0: told})
    assert "power" not in watch.observed()["pi"].quantities


def test_a_few_liars_do_not_move_what_a_type_reports() -> None:
    honest = [train() for _ in range(5)]
    liars = [train(call_p50_ms=1e300, peak_memory_mib=1e300), train(call_p50_ms=1e-300)]
    found = watched(*honest, *liars)
    assert found.quantities["training"].reported == 3.0
    assert found.quantities["memory"].reported == 90.0


@pytest.mark.parametrize("spoiled", [{"throttled": True}, {"swapping": True}])
def test_a_throttled_or_swapping_device_is_counted_and_not_believed(
    spoiled: dict[str, bool],
) -> None:
    found = watched(train(), train(call_p50_ms=30.0, **spoiled))
    assert found.quantities["training"].reported == 3.0
    assert found.quantities["training"].reports == 1
    assert found.left_out == 1


def test_too_few_calls_to_have_warmed_up_say_nothing_of_latency() -> None:
    cold = train(call_p50_ms=None, wall_s=5.0)
    assert set(watched(cold).quantities) == {"memory"}


def test_simulated_calls_need_no_warm_up_and_stay_marked() -> None:
    found = watched(train(call_p50_ms=None, wall_s=0.05, simulated=True)).quantities["training"]
    assert (found.reported, found.simulated) == (5.0, True)


def test_what_devices_measured_stands_above_what_simulated_ones_say() -> None:
    said = [
        Observed({"training": Observation(PI.training, 2.0, 9, simulated=True)}, 0),
        Observed({"training": Observation(PI.training, 4.0, 1, simulated=False)}, 0),
    ]
    outcomes = [completed(n, pi=each) for n, each in enumerate(said)]
    assert [each.reported for each in pairs_of(outcomes, "pi", "training")] == [4.0]
    assert not corrections(outcomes)["pi"].training.simulated


def test_corrections_come_nearer_to_the_reports_as_trials_are_told() -> None:
    said = Observed({"training": Observation(PI.training, 4.0, 9, simulated=False)}, 0)
    factors = [
        corrections([completed(n, pi=said) for n in range(count)])["pi"].training.factor
        for count in (1, 2, 5, 20)
    ]
    assert factors == sorted(factors)
    assert 1.0 < factors[0] < factors[-1]
    assert factors[-1] == pytest.approx(2.0, rel=0.02)


@st.composite
def studies(draw: st.DrawFn) -> tuple[int, list[str]]:
    """Trials in flight at a time, and what becomes of each trial that is asked for."""
    kinds = st.sampled_from(["completed", "failed", "infeasible", "refused"])
    return draw(st.integers(1, 5)), draw(st.lists(kinds, max_size=25))


def outcome_of(number: int, kind: str) -> Outcome:
    if kind == "completed":
        return completed(number)
    if kind == "infeasible":
        return Infeasible(proposal(number), NOWHERE)
    return Failed(proposal(number), "x", sent=kind == "failed")


@given(studies(), st.data())
def test_a_trial_is_judged_by_the_same_knowledge_after_any_interruption(
    study: tuple[int, list[str]], data: st.DataObject
) -> None:
    parallel, kinds = study
    in_flight, told = deque[int](), list[Outcome]()
    states = list[tuple[list[Outcome], list[int]]]()
    knew: dict[int, list[Outcome]] = {}
    for number, kind in enumerate(kinds):  # the coordinator's loop, without the waiting
        knew[number] = [o for o in told if isinstance(o, Completed) or _sent(o)]
        sent = [each for each in told if was_sent(each)]
        assert finished_before(math.inf, sent, set(in_flight), parallel) == knew[number]
        if kind in ("infeasible", "refused"):
            told.append(outcome_of(number, kind))
        else:
            in_flight.append(number)
        states.append((list(told), list(in_flight)))
        if len(in_flight) == parallel:
            first = in_flight.popleft()
            told.append(outcome_of(first, kinds[first]))
            states.append((list(told), list(in_flight)))
    if not states:
        return
    # Killed at any of these moments and taken up again: what was in flight is asked anew, in order.
    told, left = data.draw(st.sampled_from(states))
    sent = [each for each in told if was_sent(each)]
    for place, number in enumerate(left):
        assert finished_before(number, sent, left[:place], parallel) == knew[number]


def _sent(outcome: Outcome) -> bool:
    return isinstance(outcome, Failed) and outcome.sent
