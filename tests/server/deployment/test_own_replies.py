"""A device cannot reply in the name of another."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

import pytest
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import Message, Metadata, ObjectTree
from flwr.proto.node_pb2 import Node

from fieldtune.server.deployment.own_replies import OwnReplies


def pushed(*senders: int, node: int = 7) -> bytes:
    replies = [Message(metadata=Metadata(src_node_id=each, message_id="m")) for each in senders]
    return of_trees(replies, [ObjectTree(object_id="m") for _ in senders], node)


def of_trees(replies: Sequence[Message], trees: Sequence[ObjectTree], node: int = 7) -> bytes:
    return PushMessagesRequest(
        node=Node(node_id=node), messages_list=replies, message_object_trees=trees
    ).SerializeToString()


def answered(parts: Sequence[bytes], path: str = "/v1/fleet/push-messages") -> tuple[int, bytes]:
    """The status of the answer, and the body that SuperLink got."""
    events = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    events[-1]["more_body"] = False
    said, got = [], bytearray()

    async def receive() -> Any:
        return events.pop(0)

    async def send(event: Any) -> None:
        said.append(event.get("status"))

    async def superlink(scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            part = await receive()
            got.extend(part["body"])
            more = part["more_body"]
        said.append(200)

    asyncio.run(OwnReplies(superlink)({"type": "http", "path": path}, receive, send))
    return said[0], bytes(got)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (pushed(7), 200),
        (pushed(), 200),
        (pushed(8), 403),
        (pushed(7, 8), 403),
        (pushed(0), 403),
        (b"\xff no protobuf", 200),  # SuperLink refuses it
        (bytes(2**20 + 1), 413),
    ],
)
def test_a_reply_must_be_in_the_senders_own_name(body: bytes, status: int) -> None:
    half = len(body) // 2
    assert answered([body[:half], body[half:]]) == (status, body if status == 200 else b"")


@pytest.mark.parametrize("field", ["created_at", "ttl"])
@pytest.mark.parametrize("time", [math.nan, math.inf])
def test_a_replys_time_must_be_a_number(field: str, time: float) -> None:
    reply = Message(metadata=Metadata(src_node_id=7, message_id="m", **{field: time}))
    assert answered([of_trees([reply], [ObjectTree(object_id="m")])]) == (403, b"")


@pytest.mark.parametrize(
    "trees",
    [
        [],
        [ObjectTree(object_id="other")],
        [ObjectTree(object_id="m")] * 2,
        [ObjectTree(object_id="m", children=[ObjectTree(object_id=f"{n}") for n in range(1024)])],
    ],
)
def test_a_reply_brings_its_own_objects_only(trees: Sequence[ObjectTree]) -> None:
    reply = Message(metadata=Metadata(src_node_id=7, message_id="m"))
    assert answered([of_trees([reply], trees)]) == (403, b"")


def test_other_calls_are_passed_on_unread() -> None:
    assert answered([pushed(8)], "/v1/fleet/push-object") == (200, pushed(8))
