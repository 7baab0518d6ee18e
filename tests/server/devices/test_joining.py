"""Devices that connect, or are enrolled, after a study began."""

from __future__ import annotations

import pytest

from fieldtune.server.deployment.run import ConnectedDevice
from support.scripted_devices import Scene, description, good


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


def test_a_device_that_was_enrolled_after_the_study_began_joins_it() -> None:
    scene = Scene(good, there=["pi-a"])
    scene.enrolled["pi-c"] = 2
    scene.run.there.append(ConnectedDevice(102, "pi-c", "t0"))
    scene.ask(0)
    scene.reports()
    assert [member.client for member in scene.fleet.joined()] == [2]
