"""The contract with the parts of Flower that are not public; holds for flwr 1.41."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict

from fieldtune.client.flower import (
    empty_run,
    identify_process,
    message_from_bytes,
    message_to_bytes,
    number_message,
)


def test_this_contract_holds_for_the_installed_flower() -> None:
    assert version("flwr").split(".")[:2] == ["1", "41"]


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
    number_message(message, "m1")
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
    number_message(message, "m2")
    reply = Message(Error(code=2, reason="why"), reply_to=message)
    arrived = message_from_bytes(message_to_bytes(reply))
    assert arrived.metadata.reply_to_message_id == "m2"
    assert (arrived.error.code, arrived.error.reason) == (2, "why")


def test_an_empty_run_has_its_number() -> None:
    assert empty_run(7).run_id == 7
