"""Questions about the status of a study's devices, now and then while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from flwr.app import Message, RecordDict

from fieldtune.client.contract.deployment import STATUS, StatusReport
from fieldtune.server.deployment.run import ConnectedDevice, Run

EVERY_S = 300.0
"""A device answers between two requests, so a question disturbs no measurement."""
_TTL_S = 280.0
_RAISED = 2
"""Flower's error of a client that raised an exception, as one does that does not know a message."""


class StatusPolls:
    """Asks each connected device every five minutes, and keeps what it says.

    A device that cannot answer, such as one with an older client, is not asked again.

    Args:
        keep: keeps the status of devices, by name.
        clock: seconds; only differences count.
    """

    def __init__(
        self,
        keep: Callable[[Mapping[str, StatusReport]], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keep, self._clock = keep, clock
        self._next = clock() + EVERY_S
        self._asked: dict[str, str] = {}
        """Open message -> name of the device."""
        self._unable: set[str] = set()

    @property
    def open_messages(self) -> list[str]:
        """Ids of messages whose answers go to :meth:`take`."""
        return list(self._asked)

    def ask(self, there: Iterable[ConnectedDevice], run: Run) -> None:
        """Ask the connected devices, if it is time to."""
        if self._clock() < self._next:
            return
        self._next = self._clock() + EVERY_S
        nodes = [node for node in there if node.name not in self._unable]
        if not nodes:
            return
        messages = [Message(RecordDict(), node.node_id, STATUS, ttl=_TTL_S) for node in nodes]
        self._asked = {
            message_id: node.name
            for node, message_id in zip(nodes, run.push(messages), strict=True)
            if message_id is not None
        }

    def take(self, message: Message) -> bool:
        """Process an answer; False if the message answers none of :attr:`open_messages`."""
        name = self._asked.pop(message.metadata.reply_to_message_id, None)
        if name is None:
            return False
        if message.has_error():
            if message.error.code == _RAISED:
                self._unable.add(name)
            return True  # otherwise the question or its answer was lost
        try:
            told = StatusReport.parse(dict(message.content.config_records["message"]))
        except Exception:  # a device's bytes may make Flower or pydantic raise anything
            self._unable.add(name)
        else:
            self._keep({name: told})
        return True

    def run_is_lost(self) -> None:
        """Forget the open messages of the lost run."""
        self._asked.clear()
