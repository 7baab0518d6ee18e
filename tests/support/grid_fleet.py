"""A fleet over a Flower Grid, for tests that need nothing more of a coordinator."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from flwr.serverapp import Grid

from fieldtune.client.contract.messages import Description
from fieldtune.server.federation.descriptions import admitted
from fieldtune.server.federation.fleet import Addressed, Reply, refuse_if
from fieldtune.server.federation.flower_messages import (
    describe_message,
    described,
    reported,
    request_message,
)

TTL_S = 300.0
_POLL_S = 0.02


class GridFleet:
    """A :class:`~fieldtune.server.federation.fleet.Fleet` whose nodes stay connected and answer."""

    def __init__(self, grid: Grid, notes: Callable[[str], None] = lambda _: None) -> None:
        self._grid, self._notes = grid, notes
        self._nodes: dict[int, int] = {}
        self._contracts: dict[int, int] = {}
        self._open: dict[str, tuple[Addressed, bool]] = {}
        self._held: set[tuple[int, str]] = set()
        self._closed = False

    def close(self) -> None:
        self._closed = True

    def members(self) -> list[Description]:
        """Ask every node to describe itself."""
        messages = [describe_message(node, TTL_S) for node in self._grid.get_node_ids()]
        found = []
        for reply in self._grid.send_and_receive(messages, timeout=TTL_S):
            member = described(reply)
            if isinstance(member, Description):
                found.append(member)
                self._nodes.setdefault(member.client, reply.metadata.src_node_id)
                self._contracts[member.client] = member.contract
        return list(admitted(found, self._notes).values())

    def joined(self) -> list[Description]:
        return []

    def connected(self) -> None:
        return None

    def send(self, requests: Sequence[Addressed]) -> None:
        """Push the requests, with the artefact where the device does not have it."""
        refuse_if(self._closed)
        for addressed in requests:
            key = (addressed.client, addressed.request.artefact)
            new = key not in self._held
            self._held.add(key)
            message = request_message(
                addressed, self._nodes[addressed.client], TTL_S, new,
                self._contracts.get(addressed.client, 1),
            )  # fmt: skip
            (message_id,) = self._grid.push_messages([message])
            self._open[message_id] = addressed, new

    def receive(self, timeout_s: float) -> list[Reply]:
        """Replies that have come in; a request whose artefact a device lacks is sent again."""
        give_up, replies = time.monotonic() + timeout_s, list[Reply]()
        while self._open and not replies:
            for message in self._grid.pull_messages(list(self._open)):
                addressed, with_model = self._open.pop(message.metadata.reply_to_message_id)
                report = reported(message, addressed.request)
                if report.failure == "artefact_missing" and not with_model:
                    self._held.discard((addressed.client, addressed.request.artefact))
                    self.send([addressed])
                else:
                    replies.append(Reply(addressed.client, report))
            if time.monotonic() >= give_up:
                break
            time.sleep(0 if replies else _POLL_S)
        return replies
