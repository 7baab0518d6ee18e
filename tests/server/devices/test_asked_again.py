"""What is asked again: messages that were lost, and those of clients that died at their work."""

from __future__ import annotations

import pytest
from flwr.app import Error

from fieldtune.server.deployment.run import ConnectedDevice
from fieldtune.server.federation.fleet import Addressed
from support.scripted_devices import Scene, answers, failed, good


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


def test_a_run_that_superlink_has_lost_is_started_again_and_nothing_is_lost() -> None:
    scene = Scene(lambda m: good(m) if len(scene.runs) == 2 else None)
    scene.ask(0, 1)
    scene.fleet.receive(1.0)
    scene.run.lost = True
    assert sorted(scene.reports()) == [0, 1]
    assert len(scene.runs) == 2
    assert scene.runs[0].closed == ["lost"]
