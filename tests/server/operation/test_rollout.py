"""Rollouts: the canary first, then the rest; and back again."""

from __future__ import annotations

from typing import Any

import pytest
from flwr.app import Message
from flwr.clientapp import ClientApp

from fieldtune.client.contract.deployment import DEPLOY, ROLL_BACK, STATUS
from fieldtune.profiles.common.errors import DeploymentError, FleetError, UsageError
from fieldtune.server.deployment.fleet_state import FleetState
from fieldtune.server.operation import deploy as commands
from fieldtune.server.operation.delivery import canary_of
from fieldtune.server.operation.rollouts import RolloutStore
from fieldtune.server.operation.watch import Watch
from support.deployed import GOOD
from support.fleet_scene import TYPES, Scene, states


def test_each_device_gets_what_is_recommended_for_its_type(scene: Scene) -> None:
    rollout = scene.deploy()
    assert states(rollout) == dict.fromkeys(TYPES, "switched")
    assert scene.trials() == [GOOD] * 3
    assert RolloutStore(scene.folder.path).all() == [rollout]
    assert "pi-a runs the new model: error " in " ".join(scene.notes)
    seen = FleetState(scene.folder.path).read()
    assert {name: each.status.order for name, each in seen.items()} == dict.fromkeys(
        TYPES, rollout.number
    )
    again = scene.deploy(chosen=["raspberry-pi-5"])
    assert states(again) == {"pi-b": "unchanged", "pi-c": "unchanged"}
    assert not list((scene.folder.path / "rollouts/models").iterdir()), "nobody waits for it"


def test_a_canary_that_switches_lets_the_others_follow(scene: Scene) -> None:
    rollout = scene.deploy(canary=(0.1, None))
    assert rollout.canary == ("pi-a", "pi-b")
    assert scene.link.asked(DEPLOY) == ["pi-a", "pi-b", "pi-c"]
    assert states(rollout) == dict.fromkeys(TYPES, "switched")


def test_a_canary_that_keeps_its_model_stops_the_rollout(scene: Scene) -> None:
    scene.boards["pi-b"].write("data/a.npz", shift=1)
    rollout = scene.deploy(canary=(None, 2))
    assert scene.link.asked(DEPLOY) == ["pi-a", "pi-b"]
    assert states(rollout) == {"pi-a": "switched", "pi-b": "kept", "pi-c": "stopped"}
    assert rollout.stopped.startswith("pi-b: its error on 120 own test samples is ")
    assert scene.trials() == [GOOD, None, None]
    assert scene.go_on() == []
    assert states(scene.deploy(force=True)) == {
        "pi-a": "unchanged", "pi-b": "switched", "pi-c": "switched",
    }  # fmt: skip


def test_a_device_that_was_off_gets_it_when_it_is_back(scene: Scene) -> None:
    scene.link.there.remove("pi-c")
    rollout = scene.deploy()
    assert states(rollout)["pi-c"] == "waiting"
    assert "pi-c: once connected" in scene.notes[-1]
    (still,) = scene.go_on()
    assert still.waiting() == ["pi-c"]
    scene.link.there.add("pi-c")
    (done,) = scene.go_on()
    assert states(done) == dict.fromkeys(TYPES, "switched")
    assert done.number == rollout.number
    assert scene.go_on() == []


def test_with_wait_a_deployment_ends_when_every_device_has_answered(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.link.there.remove("pi-c")
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        scene.link.there.update(["pi-c"] * (len(waited) == 3))

    monkeypatch.setattr(commands.time, "sleep", sleep)
    assert states(scene.deploy(wait=True)) == dict.fromkeys(TYPES, "switched")
    assert len(waited) == 3


def test_watching_delivers_too_and_says_each_thing_once(scene: Scene) -> None:
    scene.link.there.remove("pi-c")
    scene.deploy()
    notes: list[str] = []
    watching = Watch(scene.folder, notes.append, lambda: commands.Exchange(scene.start))
    assert watching.step()
    assert notes == ["pi-c: waits for a model that was deployed while it was off"]
    scene.link.there.add("pi-c")
    assert watching.step()
    assert scene.trials() == [GOOD] * 3
    scene.boards["pi-a"].write("data/fresh/1.npz", shift=3)
    for _ in range(2):
        assert watching.step()
    assert sum(note.startswith("pi-a: error ") for note in notes) == 1
    with scene.folder.in_use():
        assert not watching.step()
    watching.close()
    assert scene.link.closed[-1] is None


def test_watching_says_again_what_has_happened_again(scene: Scene) -> None:
    notes: list[str] = []
    watching = Watch(scene.folder, notes.append, lambda: commands.Exchange(scene.start))
    for lost in (True, True, False, True):
        scene.link.before = lambda board, message, lost=lost: not (lost and board.name == "pi-a")
        assert watching.step()
    assert notes == ["pi-a has not answered in time"] * 2


def test_a_rollback_takes_the_devices_of_the_last_deployment(scene: Scene) -> None:
    with pytest.raises(DeploymentError, match="nothing was deployed"):
        scene.roll_back()
    scene.deploy()
    rollout = scene.roll_back()
    assert scene.link.asked(ROLL_BACK) == list(TYPES)
    assert {m.why for m in rollout.devices.values()} == {"there is no model before it"}
    for board in scene.boards.values():
        earlier = board.slots.current()
        assert earlier is not None
    scene.link.there.remove("pi-a")
    off = scene.roll_back("pi-a")
    assert states(off) == {"pi-a": "waiting"}


def test_a_rollback_replaces_a_deployment_that_a_device_still_waits_for(scene: Scene) -> None:
    scene.link.there.remove("pi-c")
    scene.deploy()
    scene.roll_back()
    scene.link.there.add("pi-c")
    assert scene.go_on() == []
    assert scene.boards["pi-c"].trial is None
    older = RolloutStore(scene.folder.path).all()[-1]
    assert states(older)["pi-c"] == "superseded"


def test_an_old_client_is_named_with_the_version_that_it_needs(scene: Scene) -> None:
    scene.boards["pi-b"].app = ClientApp()
    rollout = scene.deploy()
    assert states(rollout) == {"pi-a": "switched", "pi-b": "left out", "pi-c": "switched"}
    assert "upgrade its fieldtune to >= 0.2" in rollout.devices["pi-b"].why


def test_a_device_of_a_type_without_recommendation_is_left_out(scene: Scene) -> None:
    scene.boards["pi-b"].status.profile = "orange-pi-5"
    rollout = scene.deploy()
    assert states(rollout)["pi-b"] == "left out"
    assert "fieldtune retarget" in rollout.devices["pi-b"].why


def test_a_device_without_recommendation_is_no_canary(scene: Scene) -> None:
    scene.boards["pi-a"].status.profile = "x; reboot"
    rollout = scene.deploy(canary=(0.1, None))
    assert rollout.canary == ("pi-b",)
    assert states(rollout) == {"pi-a": "left out", "pi-b": "switched", "pi-c": "switched"}
    assert "--device 'x; reboot'" in rollout.devices["pi-a"].why


def test_a_forged_answer_is_not_believed(scene: Scene) -> None:
    board = scene.boards["pi-c"]
    honest = board.answer

    def lie(message: Message) -> Message:
        reply = honest(message)
        if message.metadata.message_type == DEPLOY:
            reply.content.config_records["message"]["number"] = 5
        if message.metadata.message_type == STATUS:
            reply.content.config_records["message"]["last_failure"] = "\x1b[2J\nfine"
        return reply

    board.answer = lie  # type: ignore[method-assign]
    rollout = scene.deploy()
    assert rollout.devices["pi-c"].why == "answered order 5"
    assert FleetState(scene.folder.path).read()["pi-c"].status.last_failure == " [2J fine"
    assert not any("\x1b" in note for note in scene.notes)


@pytest.mark.parametrize("outcome", ["switched", "unchanged"])
@pytest.mark.parametrize(
    ("forged", "why"),
    [
        ({"number": 0}, "answered order 0"),
        ({"runs": "e" * 64}, "says that it has followed the order, and runs eeeeeeee"),
        ({"runs": None}, "says that it has followed the order, and runs nothing"),
    ],
)
def test_a_switch_that_did_not_happen_is_not_believed(
    scene: Scene, outcome: str, forged: dict[str, Any], why: str
) -> None:
    board = scene.boards["pi-c"]
    honest = board.answer

    def lie(message: Message) -> Message:
        reply = honest(message)
        if message.metadata.message_type == DEPLOY:
            record = reply.content.config_records["message"]
            for field, value in {"outcome": outcome, **forged}.items():
                record.pop(field, None)
                if value is not None:
                    record[field] = value
        return reply

    board.answer = lie  # type: ignore[method-assign]
    rollout = scene.deploy()
    assert states(rollout) == {"pi-a": "switched", "pi-b": "switched", "pi-c": "kept"}
    assert rollout.devices["pi-c"].why == why


@pytest.mark.parametrize(
    ("options", "error", "why"),
    [
        ({"chosen": ["pi-z"]}, UsageError, "neither an enrolled device nor a device type here"),
        ({"chosen": ["raspberry-pi-3b"]}, UsageError, "neither an enrolled device"),
        ({"variant": "int8"}, UsageError, "There is no variant 'int8'"),
    ],
)
def test_what_cannot_be_deployed_is_one_sentence(
    scene: Scene, options: dict[str, Any], error: type[Exception], why: str
) -> None:
    with pytest.raises(error, match=why):
        scene.deploy(**options)
    assert scene.link.asked(DEPLOY) == []


def test_a_canary_needs_a_connected_device(scene: Scene) -> None:
    scene.link.there.clear()
    with pytest.raises(FleetError, match="no device is connected that could go first"):
        scene.deploy(canary=(0.5, None))


@pytest.mark.parametrize(
    ("share", "count", "first"),
    [
        (0.1, None, ("pi-a", "pi-b")),
        (1.0, None, ("pi-a", "pi-b", "pi-c")),
        (None, 1, ("pi-a",)),
        (None, 2, ("pi-a", "pi-b")),
        (None, 9, ("pi-a", "pi-b", "pi-c")),
        (None, None, ()),
    ],
)
def test_a_canary_has_a_device_of_each_type_first(
    share: float | None, count: int | None, first: tuple[str, ...]
) -> None:
    assert canary_of(TYPES, TYPES, share, count) == first
