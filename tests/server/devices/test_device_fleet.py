"""Devices that come, go, restart, answer late or twice: every request is answered exactly once."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from flwr.app import Error, Message, RecordDict

from fieldtune.profiles.common.errors import FleetError
from fieldtune.server.federation.fleet import Addressed, Reply
from support.scripted_devices import Scene, answers, description, failed, good


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
