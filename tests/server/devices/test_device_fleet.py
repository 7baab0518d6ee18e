"""Devices that come, go, restart, answer late or twice: every request is answered exactly once."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from flwr.app import Error, Message, RecordDict

from fieldtune.profiles.common.errors import FleetError
from fieldtune.server.deployment.run import ConnectedDevice
from fieldtune.server.federation.fleet import Addressed, Reply
from support.scripted_devices import (
    NUMBERS,
    Scene,
    answers,
    description,
    failed,
    good,
)


def test_devices_are_known_by_the_name_of_their_key_and_not_by_what_they_claim() -> None:
    scene = Scene(good)
    assert [(member.client, member.name) for member in scene.members] == [(0, "pi-a"), (1, "pi-b")]
    assert scene.notes[-1].startswith("2 of 2 are here: pi-a (raspberry-pi-5, 9 samples)")


def replies(scene: Scene, seconds: float) -> Iterator[Reply]:
    give_up = scene.time.now + seconds
    while scene.time.now < give_up:
        yield from scene.fleet.receive(5.0)
        scene.time.sleep(1.0)


def test_each_answer_goes_to_whom_it_is_from() -> None:
    scene = Scene(good)
    scene.ask(0, 1)
    reports = scene.reports()
    for client, node in ((0, 100), (1, 101)):
        weights = reports[client].weights
        assert weights is not None
        assert weights[0] == node


def test_every_message_has_a_time_to_live() -> None:
    scene = Scene(good)
    scene.ask(0)
    scene.reports()
    assert all(0 < message.metadata.ttl <= 600 for message in scene.run.sent)


@pytest.mark.parametrize("code", [3, 4, 5])
def test_a_message_that_was_lost_is_sent_again(code: int) -> None:
    scene = Scene(answers(Error(code, "lost")))
    scene.ask(0)
    assert scene.reports()[0].failure is None
    assert len(scene.run.trainings()) == 2


def test_a_message_that_is_lost_each_time_is_a_failure() -> None:
    scene = Scene(lambda _: Error(3, "lost"))
    scene.ask(0)
    report = scene.reports()[0]
    assert report.failure == "no_reply"
    assert "sent to pi-a 3 times" in report.detail
    assert len(scene.run.trainings()) == 3


def test_a_device_that_superlink_has_not_heard_of_for_a_while_is_waited_for() -> None:
    scene = Scene(answers(*[Error(5, "no heartbeat")] * 5))
    scene.ask(0)
    assert scene.reports()[0].failure is None
    assert len(scene.run.trainings()) == 6


def test_one_that_is_never_heard_of_again_is_a_failure_in_the_end() -> None:
    scene = Scene(lambda _: Error(5, "no heartbeat"))
    scene.ask(0)
    report = scene.reports()[0]
    assert (report.failure, report.detail) == ("no_reply", "pi-a has not answered for 600 s")
    assert len(scene.run.trainings()) <= 301  # one each 2 s


def test_a_client_that_dies_twice_of_a_message_has_run_out_of_memory() -> None:
    scene = Scene(lambda _: Error(8, "crashed"))
    scene.ask(0)
    assert scene.reports()[0].failure == "out_of_memory"
    assert len(scene.run.trainings()) == 2


def test_a_client_that_died_once_is_asked_again() -> None:
    scene = Scene(answers(Error(8, "crashed")))
    scene.ask(0)
    assert scene.reports()[0].failure is None


@pytest.mark.parametrize("code", [1, 2, 7])
def test_an_exception_in_the_client_is_a_failure_at_once(code: int) -> None:
    scene = Scene(lambda _: Error(code, "ValueError: no"))
    scene.ask(0)
    report = scene.reports()[0]
    assert (report.failure, len(scene.run.trainings())) == ("error", 1)
    assert "ValueError: no" in report.detail


def test_a_client_that_was_killed_at_its_work_is_asked_once_more() -> None:
    scene = Scene(answers(failed("error", "interrupted: its process was killed")))
    scene.ask(0)
    assert scene.reports()[0].failure is None


@pytest.mark.parametrize("kind", ["out_of_memory", "diverged", "bad_data", "bad_artefact"])
def test_what_a_device_cannot_do_it_is_asked_only_once(kind: str) -> None:
    scene = Scene(lambda _: failed(kind))
    scene.ask(0)
    assert scene.reports()[0].failure == kind
    assert len(scene.run.trainings()) == 1


def test_a_device_that_has_connected_anew_is_asked_again() -> None:
    scene = Scene(answers(None))
    scene.ask(0)
    scene.fleet.receive(1.0)
    scene.run.there[0] = ConnectedDevice(100, "pi-a", "t1")
    assert scene.reports()[0].failure is None
    assert len(scene.run.trainings()) == 2


def test_a_late_answer_to_an_earlier_message_counts_and_the_second_is_dropped() -> None:
    ready: set[str] = set()
    scene = Scene(lambda m: good(m) if m.metadata.message_id in ready else None)
    scene.ask(0)
    scene.fleet.receive(1.0)
    scene.run.there[0] = ConnectedDevice(100, "pi-a", "t1")
    scene.fleet.receive(5.0)
    first, second = scene.run.trainings()
    ready |= {first.metadata.message_id, second.metadata.message_id}
    assert list(scene.reports()) == [0]
    assert scene.fleet.receive(5.0) == []


def test_a_device_that_never_stays_is_a_failure_and_not_asked_for_ever() -> None:
    scene = Scene(lambda _: None)
    scene.ask(0)
    for number in range(1, 9):
        found = scene.fleet.receive(5.0)
        if found:
            break
        scene.run.there[0] = ConnectedDevice(100, "pi-a", f"t{number}")
    assert found[0].report.failure == "no_reply"
    assert "reconnected 3 times" in found[0].report.detail
    assert len(scene.run.trainings()) == 3


def test_a_device_that_is_away_is_waited_for() -> None:
    scene = Scene(good)
    away = scene.run.there.pop(0)
    scene.time.now += 10
    scene.ask(1)
    assert list(scene.reports(60.0)) == [1]
    scene.ask(0)
    assert scene.reports(60.0) == {}
    scene.run.there.insert(0, away)
    assert scene.reports(60.0)[0].failure is None
    assert scene.notes[-2:] == ["pi-a has disconnected", "pi-a is connected"]


def test_a_device_that_stays_away_fails_and_does_not_hold_up_later_rounds() -> None:
    scene = Scene(lambda m: good(m) if m.metadata.dst_node_id == 101 else None)
    scene.ask(0, 1)
    scene.run.there.pop(0)
    reports = scene.reports()
    assert reports[1].failure is None
    assert (reports[0].failure, reports[0].detail) == ("no_reply", "pi-a is disconnected")
    assert 150 < scene.time.now < 250
    before = scene.time.now
    scene.ask(0, 1)
    assert scene.reports()[0].failure == "no_reply"
    assert scene.time.now - before < 10
    assert "pi-a has disconnected" in scene.notes


@pytest.mark.parametrize("client", [1, 6], ids=["off", "not-enrolled"])
def test_a_device_that_was_not_there_when_the_study_began_is_not_waited_for(client: int) -> None:
    scene = Scene(good, there=["pi-a"])
    scene.ask(client)
    (reply,) = scene.fleet.receive(1.0)
    assert (reply.client, reply.report.failure) == (client, "no_reply")
    name = {1: "pi-b", 6: "device 6"}[client]
    assert reply.report.detail == f"{name} does not take part"


def test_a_device_that_connects_after_the_study_began_joins_it() -> None:
    scene = Scene(good, there=["pi-a"])
    scene.ask(0)
    scene.reports()
    assert scene.fleet.joined() == []
    scene.run.there.append(ConnectedDevice(101, "pi-b", "t0"))
    scene.time.sleep(5.0)
    scene.ask(0)
    scene.reports()
    (joined,) = scene.fleet.joined()
    assert (joined.client, joined.name, joined.train_samples) == (1, "pi-b", 9)
    assert scene.notes[-1] == (
        "pi-b has joined (raspberry-pi-5, 9 samples): it takes part in new trials"
    )
    assert scene.fleet.joined() == []
    scene.ask(0, 1)
    assert {client: each.failure for client, each in scene.reports().items()} == {0: None, 1: None}


def test_a_device_that_does_not_fit_joins_once_it_does() -> None:
    scene = Scene(good, there=["pi-a"])
    shape = (9, 9, 1)
    scene.run.answer = lambda message: (
        description(message, input_shape=shape)
        if message.metadata.message_type == "query.describe"
        else good(message)
    )
    scene.run.there.append(ConnectedDevice(101, "pi-b", "t0"))

    def some_rounds() -> list[str]:
        for _ in range(30):
            scene.ask(0)
            scene.reports()
            scene.time.sleep(2.0)
        return [member.name for member in scene.fleet.joined()]

    assert some_rounds() == []
    said = [note for note in scene.notes if "pi-b" in note]
    assert len(said) == 1
    assert said[0].startswith("pi-b is left out: its samples have shape [9, 9, 1], those of")
    shape = (8, 8, 1)
    assert some_rounds() == ["pi-b"]
    assert [note.partition(" (")[0] for note in scene.notes[-2:]] == [
        "pi-b is not left out any more", "pi-b has joined",
    ]  # fmt: skip


def test_a_device_that_was_enrolled_after_the_study_began_joins_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(good, there=["pi-a"])
    monkeypatch.setattr(scene.fleet, "_renumber", lambda: {**NUMBERS, "pi-c": 2})
    scene.run.there.append(ConnectedDevice(102, "pi-c", "t0"))
    scene.ask(0)
    scene.reports()
    assert [member.client for member in scene.fleet.joined()] == [2]


def test_a_wait_for_a_device_that_is_away_says_its_name_and_how_long_it_may_last() -> None:
    scene = Scene(lambda m: good(m) if m.metadata.dst_node_id == 101 else None)
    scene.ask(0, 1)
    scene.run.there.pop(0)
    began = scene.time.now
    scene.reports()
    said = [sentence for _, sentence in scene.waits if sentence]
    assert said[0] == "waiting for pi-a (disconnected, 180 s more at most)"
    assert said[-1] == "waiting for pi-a (disconnected, 0 s more at most)"
    times = [began, *(at for at, _ in scene.waits if at >= began)]
    assert max(later - at for at, later in pairwise(times)) < 5
    assert scene.waits[-1][1] == ""


def test_a_wait_for_a_device_that_does_not_answer_says_at_what_it_is() -> None:
    scene = Scene(lambda _: None)
    scene.ask(0, 1)
    scene.reports()
    said = [sentence for _, sentence in scene.waits if sentence]
    assert said[0] == (
        "waiting for pi-a (at trial 1 round 2, 570 s more at most), "
        "pi-b (at trial 1 round 2, 570 s more at most)"
    )
    assert scene.waits[-1][1] == ""


def test_devices_that_answer_soon_are_no_wait_to_speak_of() -> None:
    scene = Scene(good)
    scene.ask(0, 1)
    scene.reports()
    assert {sentence for _, sentence in scene.waits} == {""}


def test_a_message_is_sent_again_once_its_device_has_answered_a_later_one() -> None:
    lost = "m2"  # two descriptions come before it
    scene = Scene(lambda message: None if message.metadata.message_id == lost else good(message))
    scene.ask(0)
    scene.time.sleep(1.0)
    scene.fleet.send([Addressed(0, scene.request(trial=2), b"model")])
    (later,) = scene.fleet.receive(5.0)
    assert len(scene.run.trainings()) == 2
    began = scene.time.now
    (earlier,) = scene.fleet.receive(300.0)
    assert 5 <= scene.time.now - began < 10
    assert earlier.report.failure is None
    assert later.report.failure is None
    assert len(scene.run.trainings()) == 3


def test_a_request_that_was_lost_in_an_outage_of_superlink_is_sent_again_within_seconds() -> None:
    scene = Scene(lambda message: None if message.metadata.message_id == "m2" else good(message))
    scene.ask(0)
    scene.fleet.receive(5.0)
    scene.run.outages += 1
    began = scene.time.now
    assert scene.reports()[0].failure is None
    assert scene.time.now - began < 15
    assert len(scene.run.trainings()) == 2


def test_a_device_that_is_still_at_work_after_an_outage_is_left_alone() -> None:
    done = 300.0
    scene = Scene(lambda message: good(message) if scene.time.now > done else None)
    answer = scene.run.answer
    # It works on one message after the other.
    scene.run.answer = lambda message: answer(message) if scene.time.now > done else None
    scene.ask(0)
    scene.fleet.receive(5.0)
    scene.run.outages += 1
    assert scene.reports()[0].failure is None
    assert len(scene.run.trainings()) == 1


def test_a_device_that_does_not_answer_in_time_is_a_failure() -> None:
    scene = Scene(lambda _: None)
    scene.ask(0)
    assert scene.reports()[0].failure == "no_reply"
    assert 590 < scene.time.now < 620


def test_a_round_may_take_as_long_as_its_device_may_work_on_it_and_on_earlier_ones() -> None:
    scene = Scene(lambda m: good(m) if scene.time.now > 4000 else None)
    scene.ask(0, work_s=3600.0)
    assert scene.reports(9000.0)[0].failure is None

    scene = Scene(lambda _: None)
    began = scene.time.now
    scene.ask(0, work_s=3600.0)
    scene.fleet.send([Addressed(0, scene.request(trial=2), b"model", 3600.0)])
    late = [(reply.report.trial, scene.time.now - began) for reply in replies(scene, 20000.0)]
    assert [(trial, round(at, -2)) for trial, at in late] == [(1, 4200), (2, 7800)]


def test_a_device_that_is_away_for_a_moment_of_a_long_round_is_waited_for() -> None:
    scene = Scene(lambda m: good(m) if scene.time.now > 2000 else None)
    scene.ask(0, work_s=3600.0)
    scene.fleet.receive(5.0)
    away = scene.run.there.pop(0)
    assert scene.reports(500.0) == {}  # 180 s and a tenth of the hour
    scene.run.there.insert(0, away)
    assert scene.reports(4000.0)[0].failure is None


def test_a_run_that_superlink_has_lost_is_started_again_and_nothing_is_lost() -> None:
    scene = Scene(lambda m: good(m) if len(scene.runs) == 2 else None)
    scene.ask(0, 1)
    scene.fleet.receive(1.0)
    scene.run.lost = True
    assert sorted(scene.reports()) == [0, 1]
    assert len(scene.runs) == 2
    assert scene.runs[0].closed == ["lost"]


def test_an_artefact_travels_once_and_again_only_to_a_device_that_lost_it() -> None:
    scene = Scene(answers(None))
    scene.run.answer = lambda m: (
        description(m) if m.metadata.message_type == "query.describe" else planned(m)
    )
    planned = answers(good(Message(RecordDict(), 100, "train")), failed("artefact_missing"))
    for _ in range(2):
        scene.ask(0)
        assert scene.reports()[0].failure is None
    carried = [
        "model" in message.content.config_records["message"] for message in scene.run.trainings()
    ]
    assert carried == [True, False, True]


def test_a_fleet_that_is_closed_ends_its_run() -> None:
    scene = Scene(good)
    scene.fleet.close()
    assert scene.run.closed == [None]


def test_a_fleet_that_is_closed_refuses_whatever_it_is_asked() -> None:
    scene = Scene(good)
    scene.fleet.close()
    scene.fleet.close()
    for ask in (scene.fleet.members, lambda: scene.ask(0), lambda: scene.fleet.receive(1.0)):
        with pytest.raises(FleetError, match="has been closed"):
            ask()
    assert scene.run.closed == [None]
