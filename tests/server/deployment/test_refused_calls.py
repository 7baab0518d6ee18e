"""What is refused of the combined calls, whose senders are not believed.

Part of the contract with Flower's private parts, like ``test_combined_calls.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress

import httpx
import pytest
from flwr.app import Message, RecordDict
from flwr.proto.message_pb2 import ObjectTree

from fieldtune.client.contract.combined_calls import COLLECT, MOST_BYTES, REPLY, TAKE, WAIT, Parts
from fieldtune.client.node import fleet_api
from fieldtune.client.node.fleet_api import Link
from fieldtune.client.node.link_errors import KeyRefusedError, RunEndedError, TooLargeError
from fieldtune.server.deployment import combined_calls
from fieldtune.server.deployment.flower_private import (
    PullAppMessagesRequest,
    PullAppMessagesResponse,
)
from fieldtune.server.deployment.superlink_handlers import TASK_TOKEN_HEADER
from support.calls_scene import Scene, seed


def test_replies_are_collected_with_the_token_of_the_run_alone(scene: Scene) -> None:
    asked = PullAppMessagesRequest(message_ids=["m"]).SerializeToString()
    body = Parts(asked, b"", b"1" * 8).SerializeToString()
    (nothing,) = scene.run._combined(COLLECT, asked, b"", b"2" * 8)
    assert nothing == PullAppMessagesResponse().SerializeToString()
    for headers in ({}, {TASK_TOKEN_HEADER: "guessed"}):
        refused = httpx.Client(transport=scene.superlink).post(
            f"https://localhost{COLLECT}", content=body, headers=headers
        )
        assert refused.status_code in (401, 403)


def test_a_message_larger_than_the_device_takes_is_not_received(scene: Scene) -> None:
    scene.ask(weights=MOST_BYTES)
    link, node = scene.links[0], scene.nodes[0]
    link._most_mib = lambda: 0.9
    pending = link.pull(node)
    assert pending is not None
    with pytest.raises(TooLargeError, match=r"1 MiB or more were sent, 1 MiB are taken"):
        link.fetch(node, pending)


@pytest.mark.parametrize(
    "call",
    [
        lambda link, node, message: link.wait(node, 0.0),
        lambda link, node, message: link.pull(node),
        lambda link, node, message: link.push(
            node, Message(message.content, reply_to=message), 0.1
        ),
    ],
    ids=[WAIT, TAKE, REPLY],
)
def test_a_device_speaks_for_itself_only(
    scene: Scene, call: Callable[[Link, int, Message], object]
) -> None:
    scene.ask()
    message = scene.answer(0)
    with pytest.raises((KeyRefusedError, RunEndedError)):
        call(scene.links[0], scene.nodes[1], message)


def test_a_reply_in_the_name_of_another_device_is_refused(scene: Scene) -> None:
    sent = scene.ask(devices=2)
    pending = scene.links[1].pull(scene.nodes[1])
    assert pending is not None
    message = scene.links[1].fetch(scene.nodes[1], pending)
    with pytest.raises(RunEndedError):
        scene.links[0].push(scene.nodes[0], Message(message.content, reply_to=message), 0.1)
    assert scene.run.pull(sent) == []


@pytest.mark.parametrize("field", ["_created_at", "_ttl"])
@pytest.mark.parametrize("time", [math.nan, math.inf])
def test_a_reply_of_no_time_keeps_no_other_reply_from_being_collected(
    scene: Scene, field: str, time: float
) -> None:
    sent = scene.ask(devices=2)
    link, node = scene.links[0], scene.nodes[0]
    pending = link.pull(node)
    assert pending is not None
    message = link.fetch(node, pending)
    reply = Message(message.content, reply_to=message)
    reply.metadata.__dict__[field] = time
    with pytest.raises(RunEndedError, match="403"):
        link.push(node, reply, 0.1)
    scene.answer(1)
    (collected,) = scene.run.pull(sent)
    assert seed(collected) == 1


def test_a_device_cannot_claim_what_objects_the_coordinators_messages_consist_of(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question without content has an id that each device knows."""
    scene.ask()
    link, node = scene.links[0], scene.nodes[0]
    pending = link.pull(node)
    assert pending is not None
    asked = link.fetch(node, pending)
    claim = ObjectTree(object_id=RecordDict().object_id, children=[ObjectTree(object_id="0" * 64)])

    def claimed(message: Message) -> ObjectTree:
        return ObjectTree(object_id=message.object_id, children=[claim])

    with monkeypatch.context() as lying, suppress(KeyError):  # of an object that it does not have
        lying.setattr(fleet_api, "get_object_tree", claimed)
        link.push(node, Message(asked.content, reply_to=asked), 0.1)
    assert claim.object_id in scene.superlink.state.object_store
    assert all(scene.run.push([Message(RecordDict(), scene.nodes[1], "train", ttl=600.0)]))
    pending = scene.links[1].pull(scene.nodes[1])
    assert pending is not None
    received = scene.links[1].fetch(scene.nodes[1], pending)
    assert received.content == RecordDict()


def test_a_reply_that_is_sent_again_brings_no_more_objects(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SuperLink would keep them until the run ends, and a device could fill its disk."""
    scene.ask()
    link, node = scene.links[0], scene.nodes[0]
    pending = link.pull(node)
    assert pending is not None
    asked = link.fetch(node, pending)
    reply = Message(asked.content, reply_to=asked)
    link.push(node, reply, 0.1)
    before = scene.left_objects()
    for number in range(3):
        more = ObjectTree(object_id=f"{number:064}")
        monkeypatch.setattr(fleet_api, "get_object_tree", lambda reply, more=more: more)
        with pytest.raises(RunEndedError, match="403"):
            link.push(node, reply, 0.1)
    assert scene.left_objects() == before


def test_replies_to_messages_that_a_device_makes_up_take_no_memory(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(combined_calls, "_MOST_REPLIED", 2)
    sent, link, node = scene.ask(), scene.links[0], scene.nodes[0]
    pending = link.pull(node)
    assert pending is not None
    asked = link.fetch(node, pending)
    for made_up in (*(f"{number:064}" for number in range(5)), "x" * 9999):
        reply = Message(asked.content, reply_to=asked)
        reply.metadata.__dict__["_reply_to_message_id"] = made_up
        link.push(node, reply, 0.1)
        assert len(scene.superlink.calls._replied) <= 2
    link.push(node, Message(asked.content, reply_to=asked), 0.1)
    assert len(scene.run.pull(sent)) == 1


def test_a_reply_to_a_run_that_has_ended_is_refused_as_ended(scene: Scene) -> None:
    scene.ask()
    link, node = scene.links[0], scene.nodes[0]
    pending = link.pull(node)
    assert pending is not None
    message = link.fetch(node, pending)
    scene.run.close()
    with pytest.raises(RunEndedError):
        link.push(node, Message(message.content, reply_to=message), 0.1)


def test_a_malformed_call_is_refused(scene: Scene) -> None:
    with httpx.Client(transport=scene.superlink) as client:
        for body in (b"x", b"\0\0\0\5x", b"", b"\0\0\0\1\xff\0\0\0\0"):
            assert client.post(f"https://localhost{TAKE}", content=body).status_code == 400
