"""What a malicious device makes of its replies: a :data:`Forgery` changes one before it is sent.

They are played in one process (:mod:`support.malicious_devices`), and by a real device
(:mod:`support.malicious_client`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from fieldtune.client.contract.inline import from_bytes
from fieldtune.client.node.client_app import _vectors

Forgery = Callable[[Message, RecordDict], Any]
"""``(what was asked, reply)``: changes the reply."""


def says(message_type: str, **numbers: object) -> Forgery:
    """Replies to messages of this type with these numbers in the place of its own."""

    def forge(asked: Message, reply: RecordDict) -> None:
        if asked.metadata.message_type == message_type:
            reply.config_records["message"].update(numbers)  # type: ignore[arg-type]

    return forge


def fails(message_type: str, detail: str = "") -> Forgery:
    """Never does what messages of this type ask for, and says so: no lie."""

    def forge(asked: Message, reply: RecordDict) -> None:
        if asked.metadata.message_type == message_type:
            told = reply.config_records["message"]
            kept = {name: told[name] for name in ("trial", "round")}
            reply["message"] = ConfigRecord({**kept, "failure": "bad_data", "detail": detail})
            reply.array_records.pop("weights", None)

    return forge


def honest(asked: Message, reply: RecordDict) -> None:
    """Forges nothing."""


def trains_to(change: Callable[[Any, Any], Any]) -> Forgery:
    """Replies with other weights: a function of those sent out and those that it trained."""

    def forge(asked: Message, reply: RecordDict) -> None:
        if asked.metadata.message_type == "train":
            # Small weights are among the scalars; any may be in a record of their own.
            told = reply.config_records["message"]
            inline = told.pop("weights", None)
            trained = (
                from_bytes(inline)
                if isinstance(inline, bytes)
                else reply.array_records["weights"]["all"].numpy()
            )
            weights = change(_vectors(asked)["weights"], trained)
            reply["weights"] = ArrayRecord({"all": Array(np.asarray(weights, np.float32))})

    return forge


huge_weights = trains_to(lambda sent, trained: np.full(sent.size, 1e20))
"""Trains to weights of 1e20, which are finite."""


def huge_reply(mib: int) -> Forgery:
    """Replies with so many MiB of weights, whatever was asked for."""
    return trains_to(lambda sent, trained: np.random.default_rng(0).random(mib * 2**18, np.float32))


def all_right(message_type: str) -> Forgery:
    """Tested on 1e9 samples and got every one right; its counts add up."""
    counts = [10**8] * 10
    return says(
        message_type, samples=10**9, loss_sum=0.0, hits=counts, predicted=counts, actual=counts
    )
