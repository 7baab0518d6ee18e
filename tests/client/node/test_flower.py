"""The contract with the parts of Flower that are not public; see FLOWER_VERSIONS."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from importlib.metadata import version

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict

from fieldtune.client.node.clock import clock_behind_s
from fieldtune.client.node.fleet_api import (
    FLOWER_VERSIONS,
    head_to_bytes,
    identify_process,
    message_from_bytes,
    message_to_bytes,
    set_message_id,
)


def test_this_contract_holds_for_the_installed_flower() -> None:
    assert ".".join(version("flwr").split(".")[:2]) in FLOWER_VERSIONS


def test_a_message_survives_the_journey() -> None:
    identify_process(11, 22)
    weights = np.arange(5, dtype=np.float32)
    message = Message(
        RecordDict(
            {
                "message": ConfigRecord({"a": 1, "b": 0.5, "c": "x", "d": b"\0\1", "e": [1, 2]}),
                "weights": ArrayRecord({"all": Array(weights)}),
            }
        ),
        33,
        "train",
        group_id="g",
    )
    set_message_id(message, "m1")
    arrived = message_from_bytes(message_to_bytes(message))
    assert arrived.metadata.message_id == "m1"
    assert (arrived.metadata.src_node_id, arrived.metadata.dst_node_id) == (22, 33)
    assert arrived.metadata.run_id == 11
    assert dict(arrived.content.config_records["message"]) == {
        "a": 1, "b": 0.5, "c": "x", "d": b"\0\1", "e": [1, 2],
    }  # fmt: skip
    assert (arrived.content.array_records["weights"]["all"].numpy() == weights).all()


def test_a_reply_names_what_it_answers_and_an_error_survives() -> None:
    identify_process(1, 1)
    message = Message(RecordDict(), 5, "query.describe")
    set_message_id(message, "m2")
    reply = Message(Error(code=2, reason="why"), reply_to=message)
    arrived = message_from_bytes(message_to_bytes(reply))
    assert arrived.metadata.reply_to_message_id == "m2"
    assert (arrived.error.code, arrived.error.reason) == (2, "why")


def test_the_head_of_a_message_is_enough_to_reply_to_it_and_carries_no_content() -> None:
    identify_process(1, 9)
    message = Message(
        RecordDict({"message": ConfigRecord({"a": b"x" * 1000})}), 5, "train", group_id="g"
    )
    set_message_id(message, "m3")
    head = head_to_bytes(message)
    assert len(head) < 300
    reply = Message(RecordDict(), reply_to=message_from_bytes(head))
    assert reply.metadata.reply_to_message_id == "m3"
    assert (reply.metadata.src_node_id, reply.metadata.dst_node_id) == (5, 9)
    assert (reply.metadata.message_type, reply.metadata.group_id) == ("train", "g")


def test_the_clock_is_held_against_an_http_date() -> None:
    ahead = format_datetime(datetime.now(UTC) + timedelta(minutes=10), usegmt=True)
    behind_s = clock_behind_s(ahead)
    assert behind_s is not None
    assert 595 < behind_s < 605
    assert clock_behind_s(None) is None
    assert clock_behind_s("noon") is None
