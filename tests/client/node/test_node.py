"""What the light node does when the coordinator is slower than it, without one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fieldtune.client.contract.messages import group_of
from fieldtune.client.node.fleet_api import (
    ContentPendingError,
    Link,
    PendingMessage,
    RunEndedError,
    UnreachableError,
    identify_process,
    set_message_id,
)
from fieldtune.client.node.node import Backoff, LightNode
from fieldtune.client.node.state import ClientFolders, Status


class SlowCoordinator(Link):
    """Hands out one message, whose content is held up by these errors first."""

    def __init__(self, errors: Sequence[BaseException], kind: str = "query.describe") -> None:
        identify_process(1, 1)
        group = "" if kind.startswith("query") else group_of(trial=3, round=2)
        self.message = Message(RecordDict(), 5, kind, group_id=group)
        set_message_id(self.message, "m1")
        self.errors, self.replies, self.heartbeats = list(errors), list[Message](), 0
        self.node: LightNode | None = None

    def activate(self) -> int:
        return 5

    def heartbeat(self, node_id: int) -> bool:
        self.heartbeats += 1
        return True

    def pull(self, node_id: int) -> PendingMessage | None:
        return PendingMessage(self.message, ("m1",))

    def fetch(self, node_id: int, waiting: PendingMessage) -> Message:
        if self.errors:
            raise self.errors.pop(0)
        return self.message

    def push(self, node_id: int, reply: Message, runtime_s: float) -> None:
        self.replies.append(reply)
        assert self.node is not None
        self.node.stop()

    def deactivate(self, node_id: int) -> None: ...

    def close(self) -> None: ...


def serve(link: SlowCoordinator, folder: Path) -> None:
    """Run a node on it until it has answered."""
    app = ClientApp()

    @app.query("describe")
    def describe(message: Message, context: Context) -> Message:
        return Message(RecordDict(), reply_to=message)

    folders = ClientFolders("kitchen", folder, folder)
    link.node = LightNode(
        link, app, {}, folders, Status("kitchen", "localhost:1", "x86-mini-pc", 1), random.Random(0)
    )
    with folders.locked():
        link.node.run()


def test_content_that_comes_a_moment_after_its_message_is_not_worth_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    link = SlowCoordinator([ContentPendingError("not yet"), ContentPendingError("not yet")])
    with caplog.at_level("INFO", logger="fieldtune"):
        serve(link, tmp_path)
    assert len(link.replies) == 1
    assert link.heartbeats == 0
    assert "waits for the connection" not in caplog.text
    assert "got through" not in caplog.text


def test_an_outage_is_said_once_when_it_begins_and_once_when_it_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    link = SlowCoordinator([ContentPendingError("not yet"), *[UnreachableError("no route")] * 2])
    with caplog.at_level("INFO", logger="fieldtune"):
        serve(link, tmp_path)
    assert len(link.replies) == 1
    assert link.heartbeats == 2
    assert caplog.text.count("waits for the connection: no route") == 1
    assert caplog.text.count("got through") == 1


class Killed(BaseException):
    """Stands for a kill: nothing but what is on disk outlives it."""


def test_a_device_that_is_killed_while_a_message_is_fetched_reports_it(
    tmp_path: Path,
) -> None:
    with pytest.raises(Killed):
        serve(SlowCoordinator([Killed()], "train"), tmp_path)
    link = SlowCoordinator([])
    serve(link, tmp_path)
    told = link.replies[0].content.config_records["message"]
    assert (told["trial"], told["round"], told["failure"]) == (3, 2, "error")
    assert told["detail"] == "interrupted: its process was killed"
    assert link.replies[0].metadata.reply_to_message_id == "m1"


class EndedRun(SlowCoordinator):
    """Has nothing more once its errors are used up."""

    def pull(self, node_id: int) -> PendingMessage | None:
        if self.errors:
            return super().pull(node_id)
        assert self.node is not None
        self.node.stop()
        return None


def test_an_interrupted_message_of_an_ended_run_needs_no_report(tmp_path: Path) -> None:
    link = EndedRun([RunEndedError("it is over")], "train")
    serve(link, tmp_path)
    assert link.replies == []
    assert ClientFolders("kitchen", tmp_path, tmp_path).unfinished() is None


class StoppedMeanwhile(SlowCoordinator):
    """The device is told to stop while content is held up."""

    def fetch(self, node_id: int, waiting: PendingMessage) -> Message:
        assert self.node is not None
        self.node.stop()
        raise UnreachableError("no route")


def test_what_a_device_was_stopped_in_is_left_for_its_next_process(tmp_path: Path) -> None:
    serve(StoppedMeanwhile([], "train"), tmp_path)
    left = ClientFolders("kitchen", tmp_path, tmp_path).unfinished()
    assert left is not None
    assert (left.trial, left.round) == (3, 2)


def test_waiting_times_double_to_a_bound_are_jittered_and_begin_anew() -> None:
    backoff = Backoff(1.0, 60.0, random.Random(0))
    waits = [backoff.next_s() for _ in range(10)]
    for wait_s, whole_s in zip(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60], strict=True):
        assert whole_s / 2 <= wait_s <= whole_s
    assert len(set(waits[-4:])) == 4
    other = Backoff(1.0, 60.0, random.Random(1))
    assert other.next_s() != waits[0], "a fleet would come back all at once"
    backoff.reset()
    assert backoff.next_s() <= 1.0
