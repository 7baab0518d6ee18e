"""What the light node does when the coordinator is slower than it, without one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fieldtune.client.contract.combined_calls import LONGEST_WAIT_S
from fieldtune.client.contract.messages import group_of
from fieldtune.client.node.fleet_api import (
    HEARTBEAT_S,
    Link,
    PendingMessage,
    Waited,
    identify_process,
    set_message_id,
)
from fieldtune.client.node.link_errors import (
    ContentPendingError,
    LinkError,
    NotOfferedError,
    RunEndedError,
    TooLargeError,
    UnreachableError,
)
from fieldtune.client.node.node import LightNode
from fieldtune.client.node.state import ClientFolders, Status
from fieldtune.client.node.waiting import Backoff, held_call_s

pytestmark = pytest.mark.integration  # waits for real connections


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

    def wait(self, node_id: int, seconds: float) -> Waited:
        return Waited.MESSAGE

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


def test_a_message_that_is_too_large_is_answered_in_a_sentence_and_not_tried_again(
    tmp_path: Path,
) -> None:
    link = SlowCoordinator([TooLargeError("999 MiB were sent")], "train")
    serve(link, tmp_path)
    told = link.replies[0].content.config_records["message"]
    assert (told["trial"], told["round"]) == (3, 2)
    assert (told["failure"], told["detail"]) == ("error", "999 MiB were sent")


def test_an_order_that_is_too_large_is_answered_with_an_error(tmp_path: Path) -> None:
    link = SlowCoordinator([TooLargeError("999 MiB were sent")], "query.deploy")
    serve(link, tmp_path)
    assert link.replies[0].error.reason == "999 MiB were sent"


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


class Patient(SlowCoordinator):
    """Has its message only once the node has waited for it in each of these ways."""

    def __init__(self, waits: Sequence[Waited | LinkError]) -> None:
        super().__init__([])
        self.waits, self.announced = list(waits), list[float]()
        self.pulls = 0
        self.activated = self.deactivated = 0

    def activate(self) -> int:
        self.activated += 1
        return super().activate()

    def deactivate(self, node_id: int) -> None:
        self.deactivated += 1

    def heartbeat(self, node_id: int) -> bool:
        return False  # for a node that has just been told that it is unknown

    def pull(self, node_id: int) -> PendingMessage | None:
        self.pulls += 1
        return None if self.waits else super().pull(node_id)

    def wait(self, node_id: int, seconds: float) -> Waited:
        self.announced.append(seconds)
        outcome = self.waits.pop(0)
        if isinstance(outcome, LinkError):
            raise outcome
        return outcome


def test_a_node_without_a_message_waits_at_the_coordinator(tmp_path: Path) -> None:
    link = Patient([Waited.NOTHING, Waited.NOTHING, Waited.MESSAGE])
    serve(link, tmp_path)
    assert len(link.replies) == link.activated == link.deactivated == 1
    assert link.announced == [20.0] * 3
    assert link.pulls == 2


def test_a_node_that_is_told_that_it_is_unknown_connects_anew(tmp_path: Path) -> None:
    link = Patient([Waited.UNKNOWN_NODE, Waited.MESSAGE])
    serve(link, tmp_path)
    assert len(link.replies) == 1
    assert link.activated == 2


def test_a_node_polls_where_the_coordinator_cannot_hold_a_call(tmp_path: Path) -> None:
    link = Patient([NotOfferedError(""), NotOfferedError("")])
    serve(link, tmp_path)
    assert len(link.replies) == link.activated == 1


class StoppedAsItWaits(Patient):
    """A signal to stop comes while the call is held."""

    def wait(self, node_id: int, seconds: float) -> Waited:
        assert self.node is not None
        self.node.stop()
        raise AssertionError("it goes on waiting")


def test_a_signal_to_stop_ends_the_wait(tmp_path: Path) -> None:
    link = StoppedAsItWaits([Waited.MESSAGE])
    serve(link, tmp_path)
    assert link.deactivated == 1


@pytest.mark.parametrize("idle_s", [0.0, 119.0, 121.0, 1e6])
def test_a_node_that_waits_is_never_taken_for_offline(idle_s: float) -> None:
    assert held_call_s(idle_s) <= LONGEST_WAIT_S
    assert held_call_s(idle_s) + 20 <= 2 * HEARTBEAT_S  # the call after it may take as long


class EndedRun(SlowCoordinator):
    """Has nothing more once its errors are used up."""

    def pull(self, node_id: int) -> PendingMessage | None:
        if self.errors:
            return super().pull(node_id)
        assert self.node is not None
        self.node.stop()
        return None


def test_what_a_power_cut_has_left_of_an_interrupted_message_is_passed_over(tmp_path: Path) -> None:
    folders = ClientFolders("kitchen", tmp_path, tmp_path)
    folders.begin(b"\xff", 1, 2)
    link = SlowCoordinator([])
    serve(link, tmp_path)
    assert len(link.replies) == 1
    assert folders.unfinished() is None


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
