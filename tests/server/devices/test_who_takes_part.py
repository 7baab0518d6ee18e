"""Which devices take part in a study, and what becomes of those that come back changed."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flwr.app import Error, Message, RecordDict

from fieldtune.client.contract.version import CONTRACT
from fieldtune.server.deployment.run import ConnectedDevice
from fieldtune.server.devices.device_fleet import DeviceFleet
from fieldtune.server.devices.needs import needed_contract
from fieldtune.server.study.load import parse_study
from support.scripted_devices import (
    NUMBERS,
    PROFILES,
    Scene,
    ScriptedRun,
    Time,
    answers,
    description,
    good,
)


def members(
    run: ScriptedRun, wanted: int = 2, time: Time | None = None, **options: Any
) -> tuple[list[str], list[str]]:
    """Who takes part, by name, and what was said."""
    notes, time = list[str](), time or Time()
    fleet = DeviceFleet(
        lambda: run, profiles=PROFILES, wanted=wanted, notes=notes.append, clock=time.clock,
        sleep=time.sleep, **{"numbers": NUMBERS, **options},
    )  # fmt: skip
    return [member.name for member in fleet.members()], notes


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"profile": "raspberry-pi-4b"}, "pi-b is a raspberry-pi-4b, which fleet.devices does not"),
        ({"profile": ""}, "pi-b is a device of unknown type"),
        ({"problem": "the data has no labels"}, "pi-b cannot take part: the data has no labels"),
    ],
)
def test_a_device_that_cannot_take_part_is_left_out_and_why_is_said(
    changes: dict[str, object], sentence: str
) -> None:
    def answer(message: Message) -> RecordDict:
        return description(message, **(changes if message.metadata.dst_node_id == 101 else {}))

    there, notes = members(ScriptedRun(answer), wanted=1)
    assert there == ["pi-a"]
    assert any(re.match(sentence, note) for note in notes), notes


STUDY = """
[study]
name = "s"
trials = 3
rounds = 2
[task]
model = "mlp"
[fleet]
clients = 1
devices = { "raspberry-pi-4b" = 1 }
[space.client]
"""


@pytest.mark.parametrize(
    ("asks", "needed"),
    [
        ("learning_rate = { low = 0.01, high = 1.0 }", 1),
        ('update = { choices = ["int8"] }', 2),
        ("personal_steps = { low = 0, high = 5 }", 2),
        ('[space.server]\naggregation = { choices = ["mean", "qfedavg"] }', 2),
    ],
)
def test_only_what_a_study_asks_for_needs_a_newer_device(asks: str, needed: int) -> None:
    assert needed_contract(parse_study(STUDY + asks, "s")) == needed


@pytest.mark.parametrize(
    ("stated", "needs", "sentence"),
    [
        ({}, 1, None),  # fieldtune 0.1 states no contract
        ({"contract": 2, "version": "0.2.3"}, 2, None),
        ({}, 2, "pi-b is left out: its fieldtune is 0.1, and this study needs >= 0.2: upgrade it"),
        (
            {"contract": CONTRACT + 1, "version": "0.7.0"},
            1,
            "pi-b is left out: its fieldtune is 0.7.0, which is newer than the coordinator's",
        ),
    ],
)
def test_a_device_of_another_version_takes_part_if_it_knows_what_the_study_asks(
    stated: dict[str, object], needs: int, sentence: str | None
) -> None:
    def answer(message: Message) -> RecordDict:
        new = {"contract": CONTRACT, "version": "0.2.0", "a field of a later version": 1.0}
        return description(message, **(stated if message.metadata.dst_node_id == 101 else new))

    names, notes = members(ScriptedRun(answer), wanted=1, needs=needs)
    assert names == (["pi-a", "pi-b"] if sentence is None else ["pi-a"])
    assert sentence is None or any(note.startswith(sentence) for note in notes), notes


def members_of(kinds: dict[int, dict[str, object]], wanted: int) -> tuple[list[str], list[str]]:
    """Who takes part of devices 100, 101, 102 of such data, and what was said."""
    run = ScriptedRun(description)
    run.answer = lambda message: description(message, **kinds.get(message.metadata.dst_node_id, {}))
    run.there.append(ConnectedDevice(102, "pi-c", "t0"))
    return members(run, wanted, numbers={**NUMBERS, "pi-c": 2})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"classes": 9}, "pi-a is left out: its data have 9 classes, those of the others 10; "),
        (
            {"input_shape": (64,)},
            "pi-a is left out: its samples have shape [64], those of the others [8, 8, 1]; ",
        ),
    ],
)
def test_a_device_whose_data_are_of_another_kind_than_most_is_left_out_and_named(
    changes: dict[str, object], sentence: str
) -> None:
    names, notes = members_of({100: changes}, wanted=2)
    assert names == ["pi-b", "pi-c"]
    assert [note.startswith(sentence) for note in notes].count(True) == 1, notes


def test_where_no_kind_of_data_is_most_devices_the_first_enrolled_decides() -> None:
    names, notes = members_of({101: {"classes": 9}, 102: {"classes": 8}}, wanted=1)
    assert names == ["pi-a"]
    assert {note.split(" is left out")[0] for note in notes if "left out" in note} == {
        "pi-b", "pi-c",
    }  # fmt: skip


@pytest.mark.parametrize("broken_by", [{"problem": "no data"}, {"classes": 9}])
def test_a_device_whose_data_was_mended_joins_while_others_are_waited_for(
    broken_by: dict[str, object],
) -> None:
    mended = False

    def answer(message: Message) -> RecordDict:
        broken = message.metadata.dst_node_id == 101 and not mended
        return description(message, **(broken_by if broken else {}))

    class Mending(Time):
        def sleep(self, seconds: float) -> None:
            nonlocal mended
            super().sleep(seconds)
            mended = self.now > 5

    there, _ = members(ScriptedRun(answer), time=Mending())
    assert there == ["pi-a", "pi-b"]


def test_a_device_that_is_not_enrolled_takes_no_part() -> None:
    run = ScriptedRun(description)
    run.there.append(ConnectedDevice(102, "stranger", "t0"))
    there, notes = members(run)
    assert there == ["pi-a", "pi-b"]
    assert "stranger is not enrolled here: left out" in notes


def test_a_wait_for_devices_says_who_is_missing() -> None:
    run, waits = ScriptedRun(description, there=["pi-a"]), list[str]()

    class Arriving(Time):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            if self.now > 60 and len(run.there) == 1:
                run.there.append(ConnectedDevice(101, "pi-b", "t0"))

    there, _ = members(run, time=Arriving(), waiting=waits.append)
    assert there == ["pi-a", "pi-b"]
    assert "waiting for 1 more of pi-b (no time limit)" in waits
    assert waits[-1] == ""


def come_back(scene: Scene, activated: str, **changes: object) -> None:
    """Device pi-a connects anew, and describes itself with these changes."""

    def answer(message: Message) -> RecordDict:
        if message.metadata.message_type != "query.describe":
            return good(message)
        return description(message, **changes)

    scene.run.there[0] = ConnectedDevice(100, "pi-a", activated)
    scene.run.answer = answer
    scene.time.now += 10


def descriptions(scene: Scene) -> int:
    return [m.metadata.message_type for m in scene.run.sent].count("query.describe")


def test_a_device_that_comes_back_as_it_was_is_described_again_and_nothing_is_said() -> None:
    scene = Scene(good)
    before, said = descriptions(scene), list(scene.notes)
    come_back(scene, "t1")
    scene.ask(0)
    assert scene.reports()[0].failure is None
    assert descriptions(scene) == before + 1
    assert scene.notes == said


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"profile": "raspberry-pi-4b"}, "as a raspberry-pi-4b, not as a raspberry-pi-5"),
        ({"input_shape": (64,)}, "with samples of shape [64], not [8, 8, 1]"),
        ({"classes": 9}, "with data of 9 classes, not 10"),
    ],
)
def test_a_device_that_comes_back_as_another_is_left_out_until_it_is_as_before(
    changes: dict[str, object], sentence: str
) -> None:
    scene = Scene(good)
    come_back(scene, "t1", **changes)
    scene.ask(0)
    scene.reports()  # whoever is there is looked at while answers are awaited
    sent = len(scene.run.trainings())
    for _ in range(2):
        scene.ask(0)
        report = scene.reports()[0]
        assert (report.failure, report.detail) == ("bad_data", f"pi-a has reconnected {sentence}")
    assert len(scene.run.trainings()) == sent
    said = [note for note in scene.notes if note.endswith("left out until this is undone")]
    assert said == [f"pi-a has reconnected {sentence}: left out until this is undone"]
    come_back(scene, "t2")
    scene.ask(0)
    scene.reports()
    scene.ask(0)
    assert scene.reports()[0].failure is None
    assert scene.notes.count("pi-a is unchanged again: it takes part again") == 1


def test_a_device_that_is_left_out_does_not_get_in_with_a_description_that_makes_no_sense() -> None:
    scene = Scene(good)
    come_back(scene, "t1", classes=9)
    scene.ask(0)
    scene.reports()
    scene.ask(0)
    assert scene.reports()[0].failure == "bad_data"
    come_back(scene, "t2", classes="many")
    scene.ask(0)
    scene.reports()
    scene.ask(0)
    assert scene.reports()[0].failure == "bad_data"
    assert "pi-a is unchanged again: it takes part again" not in scene.notes


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"train_samples": 20},
            "pi-a has reconnected with other data: 20 + 3 samples, not 9 + 3 (training + test)",
        ),
        ({"problem": "no data"}, "pi-a has reconnected, but cannot train: no data"),
        (
            {"train_samples": 10**12},
            "pi-a has reconnected, but cannot train: it describes itself with 1000000000000 "
            "training samples, and more than 100000000 are refused",
        ),
    ],
)
def test_other_data_of_the_same_kind_are_said_and_the_device_is_asked(
    changes: dict[str, object], sentence: str
) -> None:
    scene = Scene(good)
    come_back(scene, "t1", **changes)
    scene.ask(0)
    assert scene.reports()[0].failure is None
    assert scene.notes.count(sentence) == 1


@pytest.mark.parametrize(("train_samples", "known"), [(20, 20), (10**12, 9)])
def test_a_reply_says_how_its_device_describes_itself_now(train_samples: int, known: int) -> None:
    scene = Scene(good)
    come_back(scene, "t1", train_samples=train_samples)
    scene.ask(0)
    scene.reports()  # whoever is there is looked at while answers are awaited
    scene.ask(0)
    (reply,) = scene.fleet.receive(60.0)
    assert reply.described is not None
    assert reply.described.train_samples == known


def test_a_description_that_was_lost_is_asked_for_again() -> None:
    scene = Scene(good)
    come_back(scene, "t1")
    lost = answers(Error(4, "lost"), description(Message(RecordDict(), 100, "query.describe")))
    scene.run.answer = lambda message: (
        lost(message) if message.metadata.message_type == "query.describe" else good(message)
    )
    before = descriptions(scene)
    for _ in range(2):
        scene.ask(0)
        assert scene.reports()[0].failure is None
    assert descriptions(scene) == before + 2
