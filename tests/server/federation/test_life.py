"""When simulated clients are there, and what goes wrong on them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldtune.client.contract.messages import TrainReport
from fieldtune.profiles.common.errors import StudyError
from fieldtune.server.federation.availability import Availability, Pattern, daily
from fieldtune.server.federation.faults import fate
from fieldtune.server.study.fleet_options import AvailabilitySection, FaultsSection
from support.timed_training import Scene

HOUR = 3600.0
ROUND = TrainReport(trial=1, round=0, samples=1, wall_s=10.0, energy_j=4.0)


@settings(max_examples=50)
@given(
    changes=st.lists(st.integers(0, 99), max_size=8, unique=True).map(sorted),
    at=st.integers(0, 1000).map(lambda whole: whole + 0.5),
)
def test_a_client_is_there_once_it_was_waited_for(changes: list[float], at: float) -> None:
    pattern = Pattern(changes, 100.0)
    wait = pattern.wait_s(at)
    assert (wait == 0) == pattern.there(at)
    if changes:
        assert wait <= 100.0
        assert pattern.there(at + wait + 1e-6)


@given(
    lengths=st.lists(st.floats(1e-6, 100), min_size=2, max_size=8),
    starts_there=st.booleans(),
    at=st.floats(0, 1e4),
)
def test_a_client_can_be_asked_however_shortly_it_is_there(
    lengths: list[float], starts_there: bool, at: float
) -> None:
    *changes, period_s = [sum(lengths[: count + 1]) for count in range(len(lengths))]
    pattern = Pattern([0.0, *changes] if starts_there else changes, period_s)
    inside_s = pattern.inside_s(at)
    assert pattern.there(inside_s)
    assert at <= inside_s <= at + pattern.wait_s(at) + 1e-3


@given(at=st.floats(0, 1e6), start=st.floats(-30, 30), hours=st.floats(0.1, 23.9))
def test_a_daily_pattern_repeats_each_day(at: float, start: float, hours: float) -> None:
    pattern = daily(start * HOUR, hours * HOUR)
    assert pattern.there((start + hours / 2) * HOUR + 240 * HOUR)
    assert not pattern.there((start + hours + (24 - hours) / 2) * HOUR + 240 * HOUR)


def test_with_a_probability_so_many_are_there_at_any_time() -> None:
    options = AvailabilitySection(kind="probability", available=0.7, cycle_s=100)
    found = Availability(options, seed=3)
    for at in (0.0, 777.0, 5000.0):
        there = sum(found.of(client).there(at) for client in range(2000))
        assert 0.66 < there / 2000 < 0.74
    again = Availability(options, seed=3)
    assert again.of(7) == found.of(7) != Availability(options, seed=4).of(7)


def test_by_day_and_night_clients_are_there_at_their_own_hours() -> None:
    options = AvailabilitySection(kind="day_night", from_h=22, until_h=6, zones_h=(0, -12))
    found = Availability(options, seed=1)
    at_two, at_two_pm = (
        {client for client in range(200) if found.of(client).there(hour * HOUR)} for hour in (2, 14)
    )
    assert len(at_two) > 60
    assert len(at_two_pm) > 60
    assert not at_two & at_two_pm


def test_on_a_battery_a_client_is_there_while_it_charges_and_until_it_is_low() -> None:
    options = AvailabilitySection(kind="battery", charges_h=8, lasts_h=8, lowest=0.5)
    found = Availability(options, seed=1)
    hours = [sum(found.of(c).there((h + 0.5) * HOUR) for h in range(24)) for c in range(50)]
    assert {*hours} <= {11, 12, 13}


def test_a_trace_in_csv_says_when_a_client_is_there(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("client,start_s,end_s\nx,0,10\ny,5,20\nx,10,12\nx,30,40\n")
    found = Availability(AvailabilitySection(kind="trace", file="a.csv"), 0, tmp_path)
    assert found.of(0) == Pattern([0, 12, 30, 40], 40)
    assert found.of(1) == found.of(3) == Pattern([5, 20], 40)  # the file's clients again


def test_times_too_short_to_ask_anyone_are_no_times(tmp_path: Path) -> None:
    lines = "x,0,9e-7\ny,0,6e-7\ny,6e-7,2e-6\n"
    (tmp_path / "a.csv").write_text(f"client,start_s,end_s\n{lines}")
    found = Availability(AvailabilitySection(kind="trace", file="a.csv"), 0, tmp_path)
    assert found.of(0) == Pattern([], 2e-6)
    assert found.of(1) == Pattern([0, 2e-6], 2e-6)


def test_a_training_ends_where_clients_are_there_for_a_millisecond(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("client,start_s,end_s\nx,3,3.0005\nx,9,9.0005\n")
    tables = '[fleet.availability]\nkind = "trace"\nfile = "a.csv"\n[server]\nselection = "oort"'
    timing = Scene(tables=tables, rounds=2, folder=tmp_path).completed().learned.timing
    assert timing is not None
    assert 9 < timing.time_s < 9 * 9


def test_a_trace_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("client,start_s,end_s\nx,0,10\n", encoding="utf-8-sig")
    found = Availability(AvailabilitySection(kind="trace", file="a.csv"), 0, tmp_path)
    assert found.of(0) == Pattern([0, 10], 10)


def test_a_trace_of_fedscale_is_read_as_json(tmp_path: Path) -> None:
    """An entry of the shape that FedScale's documentation states, of the first client there."""
    one = {"duration": 18, "inactive": [10, 20, 5], "finish_time": 100, "active": [2, 15, 95],
           "model": "CPH1801"}  # fmt: skip
    (tmp_path / "t.json").write_text(json.dumps({"0": one}))
    found = Availability(AvailabilitySection(kind="trace", file="t.json"), 0, tmp_path).of(0)
    assert found == Pattern([0, 10, 15, 20, 95, 100], 100)


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.csv", "who,when\n1,2\n", "its first line must be client,start_s,end_s"),
        ("a.csv", "client,start_s,end_s\n1,5,2\n", "has the times 5 to 2 in line 2"),
        ("a.csv", "client,start_s,end_s\n1,5,inf\n", "they must be finite and ascend from 0"),
        ("a.csv", "client,start_s,end_s\n1,x,2\n", "has no times in line 2: 'x', '2'"),
        ("a.csv", "client,start_s,end_s\n", "has no client"),
        ("a.json", "[1]", "must map clients to their times"),
        ("a.json", '{"0": {"active": [1], "inactive": []}}', "has no trace of client 0"),
        ("a.json", "{", "Expecting property name"),
        ("b.csv", "", "there is no file"),
    ],
)
def test_a_wrong_trace_is_refused_with_its_reason(
    tmp_path: Path, name: str, text: str, why: str
) -> None:
    if name != "b.csv":
        (tmp_path / name).write_text(text)
    with pytest.raises(StudyError, match=r"fleet\.availability: ") as refused:
        Availability(AvailabilitySection(kind="trace", file=name), 0, tmp_path)
    assert why in str(refused.value)


def test_faults_come_as_often_as_stated_and_follow_from_the_seed() -> None:
    options = FaultsSection(dropout=0.2, lost_upload=0.1, out_of_memory=0.05, throttling=0.3)
    drawn = [fate(options, 1, number, client) for number in range(40) for client in range(50)]
    counts = Counter(each.fault for each in drawn)
    for kind, share in (("dropout", 0.2), ("lost_upload", 0.1), ("out_of_memory", 0.05)):
        assert abs(counts[kind] / 2000 - share) < 0.03
    assert abs(sum(each.slower == 3 for each in drawn) / 2000 - 0.3) < 0.04
    assert fate(options, 1, 3, 4) == fate(options, 1, 3, 4)
    assert [fate(options, 2, n, 0) for n in range(99)] != [
        fate(options, 1, n, 0) for n in range(99)
    ]


def test_a_device_that_drops_out_is_paid_for_the_work_that_it_did() -> None:
    dropped = fate(FaultsSection(dropout=1.0), 1, 0, 0)
    worked = dropped.worked(ROUND)
    assert worked.wall_s == pytest.approx(10.0 * dropped.share)
    assert worked.energy_j == pytest.approx(4.0 * dropped.share)
    assert 0 < dropped.share < 1
    assert dropped.received(worked).failure == "dropout"


def test_throttled_work_takes_longer_and_does_not_calibrate_the_profile() -> None:
    hot = fate(FaultsSection(throttling=1.0, throttling_factor=4), 1, 0, 0).worked(ROUND)
    assert hot.wall_s == 40.0
    assert not hot.is_sound


@pytest.mark.parametrize("kind", ["dropout", "lost_upload", "out_of_memory"])
def test_each_fault_is_counted_under_its_name(kind: str) -> None:
    tables = f"[fleet.faults]\n{kind} = 0.4\nnoticed_s = 7"
    scene = Scene(tables=tables, server={"clients_per_round": 10}, rounds=3)
    learned = scene.completed().learned
    failed = learned.failures[kind]
    assert set(learned.failures) == {kind}
    assert 5 < failed < 20
    assert learned.timing is not None
    assert learned.timing.wasted_s > 0
    assert (learned.timing.time_s > 3 * 7) == (kind != "out_of_memory")


def test_a_client_that_is_away_answers_when_it_is_back(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("client,start_s,end_s\na,0,100\nb,60,100\n")
    tables = '[fleet.availability]\nkind = "trace"\nfile = "a.csv"'
    scene = Scene(
        tables=tables, clients=2, rounds=1, server={"clients_per_round": 2}, folder=tmp_path
    )
    timing = scene.completed().learned.timing
    assert timing is not None
    assert 61 < timing.time_s < 62
    assert 119 < timing.idle_s < 121  # the first waits for the second, which is away for a minute


def test_without_a_client_that_is_ever_there_the_trial_fails(tmp_path: Path) -> None:
    empty = {"active": [], "inactive": [], "finish_time": 9}
    (tmp_path / "t.json").write_text(json.dumps({"0": empty}))
    tables = '[fleet.availability]\nkind = "trace"\nfile = "t.json"'
    outcome = Scene(tables=tables, folder=tmp_path).run()
    assert getattr(outcome, "reason", "") == (
        "no client returned a result (10 x no_reply): none of them is ever there"
    )
