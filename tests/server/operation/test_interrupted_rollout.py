"""Whatever stops a rollout, it goes on from there."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import pytest
from flwr.app import Message, RecordDict

from fieldtune.client.contract.deployment import DEPLOY, STATUS, StatusReport
from fieldtune.profiles.common.errors import FleetError, StorageError
from fieldtune.server.deployment.fleet_state import FleetState
from fieldtune.server.deployment.folder import CoordinatorFolder
from fieldtune.server.operation import deploy as commands
from fieldtune.server.operation.delivery import Delivery
from fieldtune.server.operation.exchange import Exchange, Question
from fieldtune.server.operation.rollouts import RolloutStore
from fieldtune.server.operation.watch import Watch
from support.deployed import GOOD, Board, BoardRun
from support.fleet_scene import TYPES, Scene, states
from support.full_disk import filled
from support.killed import in_child, kill_this_process


def test_watching_goes_on_where_files_cannot_be_read_or_written(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.link.there.remove("pi-c")
    scene.deploy()
    scene.link.there.add("pi-c")
    (model,) = (scene.folder.path / "rollouts/models").iterdir()
    model.unlink()
    notes: list[str] = []
    watching = Watch(scene.folder, notes.append, lambda: commands.Exchange(scene.start))
    assert watching.step()
    assert watching.step()
    assert [note.split("; ")[1] for note in notes if str(model) in note] == ["deploy again"]
    assert FleetState(scene.folder.path).read().keys() == TYPES.keys()

    def full(*_: object) -> None:
        raise StorageError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(FleetState, "keep", full)
        assert not watching.step()
    assert notes[-1] == "the disk is full"
    assert watching.step()


@pytest.mark.parametrize("survived", range(8))
def test_a_coordinator_killed_in_mid_rollout_goes_on_with_it(scene: Scene, survived: int) -> None:
    left = survived

    def before(board: Board, message: Message) -> bool:
        nonlocal left
        left -= 1
        if left < 0:
            kill_this_process()
        return True

    scene.link.before = before
    # The boards' models are files too: what they have switched to is still there.
    assert in_child(lambda: scene.deploy(canary=(None, 1))) == -signal.SIGKILL
    scene.link.before = lambda board, message: True
    store = RolloutStore(scene.folder.path)
    if not store.all():  # nothing had been sent
        assert scene.trials() == [None] * 3
        scene.deploy(canary=(None, 1))
    scene.go_on()
    (rollout,) = store.all()
    assert states(rollout) == dict.fromkeys(TYPES, "switched")
    assert scene.trials() == [GOOD] * 3
    assert all(board.slots.previous() is None for board in scene.boards.values())


def test_a_device_killed_in_mid_switch_is_asked_again(scene: Scene) -> None:
    lost = ["pi-b"]

    def before(board: Board, message: Message) -> bool:
        if message.metadata.message_type == DEPLOY and board.name in lost:
            lost.clear()
            board.answer(message)  # it has switched, and dies before it says so
            board.activated = "t1"
            board.start()
            return False
        return True

    scene.link.before = before
    assert states(scene.deploy()) == dict.fromkeys(TYPES, "switched")
    assert scene.link.asked(DEPLOY).count("pi-b") == 2
    assert scene.boards["pi-b"].slots.previous() is None


def test_a_lost_run_is_started_again(scene: Scene) -> None:
    first, begun = scene.link, BoardRun(list(scene.boards.values()))

    def before(board: Board, message: Message) -> bool:
        if message.metadata.message_type == DEPLOY:
            first.lost, scene.link = True, begun
        return True

    first.before = before
    assert states(scene.deploy()) == dict.fromkeys(TYPES, "switched")
    assert first.closed == ["lost"]


def test_where_no_other_run_can_be_started_the_command_ends_and_can_be_repeated(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = scene.link

    def before(board: Board, message: Message) -> bool:
        first.lost = message.metadata.message_type == DEPLOY
        return True

    def gone() -> BoardRun:
        raise FleetError("SuperLink does not answer")

    first.before = before
    exchanges: list[Exchange] = []

    def exchange(start: Callable[[], BoardRun]) -> Exchange:
        found = Exchange(scene.start, scene.time.clock, scene.time.sleep)
        found._start = gone
        exchanges.append(found)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(commands, "Exchange", exchange)
        with pytest.raises(FleetError, match="SuperLink does not answer"):
            scene.deploy()
    exchanges[0].close()
    assert first.closed == ["lost"]
    scene.link = BoardRun(list(scene.boards.values()))
    (rollout,) = scene.go_on()
    assert states(rollout) == dict.fromkeys(TYPES, "switched")


def test_a_device_that_disconnects_or_is_silent_is_left_for_later(scene: Scene) -> None:
    def before(board: Board, message: Message) -> bool:
        if message.metadata.message_type == DEPLOY and board.name == "pi-a":
            scene.link.there.discard("pi-a")
        return board.name == "pi-c" or message.metadata.message_type != DEPLOY

    scene.link.before = before
    rollout = scene.deploy()
    assert states(rollout) == {"pi-a": "waiting", "pi-b": "waiting", "pi-c": "switched"}
    assert "pi-a has disconnected" in scene.notes
    assert "pi-b has not answered in time" in scene.notes


def test_an_answer_at_the_last_moment_is_the_only_one(scene: Scene) -> None:
    exchange = Exchange(scene.start, scene.time.clock, scene.time.sleep)
    question = Question(STATUS, RecordDict())
    (told,) = exchange.ask({"pi-a": question}, StatusReport, limit_s=0.0)
    assert told[0] == "pi-a"
    assert isinstance(told[1], StatusReport)


def test_answers_that_came_before_a_run_was_lost_are_kept(scene: Scene) -> None:
    first, scene.link = scene.link, BoardRun(list(scene.boards.values()))
    pull = first.pull

    def last(message_ids: Iterable[str]) -> list[Message]:
        found = pull(message_ids)
        first.lost = True
        return found

    first.pull = last  # type: ignore[method-assign]
    runs = iter([first, scene.link])
    exchange = Exchange(lambda: next(runs), scene.time.clock, scene.time.sleep)
    questions = {name: Question(STATUS, RecordDict()) for name in TYPES}
    assert len(list(exchange.ask(questions, StatusReport, 60.0))) == 3
    assert scene.link.sent == []


def test_what_another_process_has_delivered_meanwhile_is_not_sent_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.link.there.discard("pi-a")
    scene.deploy()
    scene.link.there.add("pi-a")
    alone = commands.delivering

    @contextmanager
    def after_a_watch(folder: CoordinatorFolder, notes: commands.Notes) -> Iterator[Delivery]:
        watch = Watch(folder, lambda _: None, lambda: Exchange(scene.start))
        watch.step()
        with alone(folder, notes) as delivery:
            yield delivery

    monkeypatch.setattr(commands, "delivering", after_a_watch)
    assert scene.go_on() == []
    assert scene.link.asked(DEPLOY) == ["pi-b", "pi-c", "pi-a"]


def test_a_rollout_that_is_removed_while_all_are_read_is_none(scene: Scene) -> None:
    rollout = scene.deploy()
    (scene.folder.path / "rollouts/9.json").symlink_to("gone")
    assert RolloutStore(scene.folder.path).all() == [rollout]


def test_where_the_coordinators_disk_is_full_nothing_is_sent_and_the_command_can_be_repeated(
    scene: Scene,
) -> None:
    with filled(scene.folder.path / "rollouts") as disk:
        with pytest.raises(StorageError, match=r"No space left on device.*run the same command"):
            scene.deploy()
        assert scene.link.asked(DEPLOY) == []
        (disk / "filler").unlink()
        assert states(scene.deploy()) == dict.fromkeys(TYPES, "switched")
