"""A fleet over a Flower Grid, and the conversion between requests, Flower messages and reports.

:class:`GridFleet` assumes that nodes stay connected, as the simulator's do; real devices use
:class:`~fieldtune.server.devices.device_fleet.DeviceFleet`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid
from numpy.lib.format import MAGIC_PREFIX

from fieldtune.client.contract.messages import (
    Description,
    EvaluateReport,
    EvaluateRequest,
    TrainReport,
    TrainRequest,
    VariantRequest,
    Weights,
    group_of,
)
from fieldtune.profiles.common.errors import FleetError
from fieldtune.profiles.common.text import printable
from fieldtune.server.federation.descriptions import implausible, other_board, outliers
from fieldtune.server.federation.fedavg import Report, Request
from fieldtune.server.federation.fleet import Addressed, Reply, failure, no_reply, refuse_if

_DESCRIBE = "query.describe"
_KINDS = {
    TrainRequest: "train",
    EvaluateRequest: "evaluate",
    VariantRequest: "evaluate.variant",
}
REPLY_REFUSED = 1009
"""Code of the error in place of a reply that is too large or cannot be read; Flower uses others."""
_POLL_S = (0.0005, 0.05)
_MOST_HEADER_BYTES = 1024
"""The most that the header of a .npy array may take; that of a flat vector takes 128."""


class GridFleet:
    """A :class:`~fieldtune.server.federation.fleet.Fleet` over a Flower Grid.

    Args:
        grid: in-process or a SuperLink's.
        ttl_s: a message without an answer after this time counts as a failure ``no_reply``.
        notes: prints a sentence about each client that is left out.
    """

    def __init__(
        self, grid: Grid, ttl_s: float = 600.0, notes: Callable[[str], None] = lambda _: None
    ) -> None:
        self._grid, self._ttl_s, self._notes = grid, ttl_s, notes
        self._nodes: dict[int, int] = {}
        self._open: dict[str, _Open] = {}
        self._refused: list[Reply] = []
        """Failure replies to requests for clients that are not members."""
        self._held: set[tuple[int, str]] = set()
        self._closed = False

    def close(self) -> None:
        """Refuse all further calls; the caller closes the grid itself."""
        self._closed = True

    def members(self) -> list[Description]:
        """Ask every node to describe itself; of two with the same client number one is left out.

        Raises:
            FleetError: no node answers.
        """
        refuse_if(self._closed)
        nodes = list(self._grid.get_node_ids())
        messages = [describe_message(node, self._ttl_s) for node in nodes]
        found: dict[int, Description] = {}
        for reply in self._grid.send_and_receive(messages, timeout=self._ttl_s):
            member = described(reply)
            if isinstance(member, str):
                continue
            if why := implausible(member):
                self._notes(f"client {member.client} cannot take part: {why}")
                continue
            if found.setdefault(member.client, member) is member:
                self._nodes[member.client] = reply.metadata.src_node_id
        for client, why in outliers(found).items():
            self._notes(f"client {client} cannot take part: {why}")
            del found[client], self._nodes[client]
        for client, member in found.items():
            if other := other_board(member):
                self._notes(f"client {client} {other}")
        if not found:
            raise FleetError(f"None of {len(nodes)} connected devices described itself")
        return [found[client] for client in sorted(found)]

    def joined(self) -> list[Description]:
        """None: the nodes of this fleet stay the same."""
        refuse_if(self._closed)
        return []

    def send(self, requests: Sequence[Addressed]) -> None:
        """Push the requests, with the artefact where the device does not have it."""
        refuse_if(self._closed)
        expires = time.monotonic() + self._ttl_s
        sent, messages = [], []
        for addressed in requests:
            node = self._nodes.get(addressed.client)
            if node is None:
                self._refused.append(no_reply(addressed, "it is not in this fleet"))
                continue
            key = (addressed.client, addressed.request.artefact)
            sent.append(_Open(addressed, expires, with_model=key not in self._held))
            messages.append(request_message(addressed, node, self._ttl_s, key not in self._held))
            self._held.add(key)
        for each, message_id in zip(sent, self._grid.push_messages(messages), strict=True):
            self._open[message_id] = each

    def receive(self, timeout_s: float) -> list[Reply]:
        """Replies that have come in; a request whose artefact a device lacks is sent again."""
        refuse_if(self._closed)
        if self._refused:
            refused, self._refused = self._refused, []
            return refused
        give_up, pause = time.monotonic() + timeout_s, _POLL_S[0]
        while self._open:
            replies = [*self._pull(self._grid.pull_messages(list(self._open))), *self._expired()]
            if replies or time.monotonic() >= give_up:
                return replies
            time.sleep(pause)
            pause = min(2 * pause, _POLL_S[1])
        return []

    def _pull(self, messages: Iterable[Message]) -> list[Reply]:
        replies, again = [], []
        for message in messages:
            each = self._open.pop(message.metadata.reply_to_message_id)
            report = reported(message, each.addressed.request)
            if report.failure == "artefact_missing" and not each.with_model:
                # The device has lost the artefact, perhaps in a restart: send it again.
                self._held.discard((each.addressed.client, each.addressed.request.artefact))
                again.append(each.addressed)
            else:
                replies.append(Reply(each.addressed.client, report))
        self.send(again)
        return replies

    def _expired(self) -> list[Reply]:
        now = time.monotonic()
        late = [message_id for message_id, each in self._open.items() if each.expires < now]
        return [no_reply(each.addressed, "too late") for each in map(self._open.pop, late)]


@dataclass(frozen=True)
class _Open:
    """A message without an answer so far."""

    addressed: Addressed
    expires: float
    with_model: bool


def describe_message(node: int, ttl_s: float) -> Message:
    """A message that asks a node to describe itself."""
    return Message(RecordDict(), node, _DESCRIBE, ttl=ttl_s, group_id="describe")


def described(message: Message) -> Description | str:
    """The description in a reply; a string with the reason where there is no valid one."""
    if message.has_error():
        return flower_error(message)
    try:
        return Description.parse(_scalars(message))
    except Exception as malformed:  # a device's bytes may make Flower or pydantic raise anything
        return printable(f"not a description: {malformed}", 500)


def request_message(addressed: Addressed, node: int, ttl_s: float, with_model: bool) -> Message:
    """The message for a request, with the artefact or without."""
    request = addressed.request
    scalars = request.scalars()
    if with_model:
        scalars["model"] = addressed.model
    content = RecordDict({"message": ConfigRecord(scalars)})
    if not isinstance(request, VariantRequest):
        content["weights"] = ArrayRecord({"all": Array(request.weights)})
    return Message(
        content,
        node,
        _KINDS[type(request)],
        ttl=ttl_s,
        group_id=group_of(request.trial, request.round),
    )


def reported(message: Message, request: Request) -> Report:
    """The report in a reply; a failure where it is not a valid report on this request."""
    if message.has_error():
        if message.error.code == REPLY_REFUSED:
            return failure(request, "implausible", printable(message.error.reason or "", 500))
        return failure(request, "error", flower_error(message))
    kind = TrainReport if isinstance(request, TrainRequest) else EvaluateReport
    try:
        report = kind.parse(_scalars(message), _weights(message, request))
    except Exception as malformed:  # the bytes may make Flower, NumPy or pydantic raise anything
        return failure(request, "implausible", printable(f"not a report: {malformed}", 500))
    if (report.trial, report.round) != (request.trial, request.round):
        return failure(request, "implausible", f"answers trial {report.trial} round {report.round}")
    return report


def flower_error(message: Message) -> str:
    """The error in place of a reply; its reason may come from the device."""
    return printable(f"Flower error {message.error.code}: {message.error.reason}", 500)


def _scalars(message: Message) -> dict[str, Any]:
    return dict(message.content.config_records["message"])


def _weights(message: Message, request: Request) -> Weights | None:
    """The weights in a reply, if they are float32 and as many as in the request.

    A malicious device may send a zip archive or claim any shape, so the bytes are checked before
    NumPy loads them.
    """
    if "weights" not in message.content.array_records:
        return None
    if isinstance(request, VariantRequest):
        raise ValueError("weights that were not asked for")
    array, size = message.content.array_records["weights"]["all"], request.weights.size
    if (array.stype, array.dtype) != ("numpy.ndarray", "float32"):
        raise ValueError("weights must be float32, as NumPy saves them")
    header_bytes = len(array.data) - request.weights.nbytes
    if not (array.data.startswith(MAGIC_PREFIX) and 0 < header_bytes <= _MOST_HEADER_BYTES):
        raise ValueError(f"{len(array.data)} bytes are not {size} weights, as NumPy saves them")
    return np.asarray(array.numpy())
