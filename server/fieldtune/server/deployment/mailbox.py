"""What SuperLink's process knows of the messages for a device without a look at the database."""

from __future__ import annotations

import asyncio

NOTHING_TAKEN: tuple[bytes, list[bytes]] = (b"", [])


class Mailbox:
    """What is known of the messages for a node.

    Nothing is known of those from before, nor of those that were sent in Flower's calls: until a
    TAKE finds none, there may be another.

    Attributes:
        news: set where it may have a message to take.
        latest: number and answer of its latest call TAKE.
        changes: how often messages came in; read by a TAKE before it looks for one.
    """

    def __init__(self) -> None:
        self.news, self.latest, self.changes = asyncio.Event(), NOTHING_TAKEN, 0
        self.news.set()
        self._waiting: int | None = None
        """Messages to take; None: unknown."""

    def add(self) -> None:
        """A message has been stored for the node."""
        self._change(None if self._waiting is None else self._waiting + 1)

    def add_unknown(self) -> None:
        """Any number of messages may have been stored for the node."""
        self._change(None)

    def _change(self, waiting: int | None) -> None:
        self._waiting = waiting
        self.changes += 1
        self.news.set()

    def taken(self, number: bytes, answer: list[bytes], found: bool, changes: int) -> None:
        """The node was given an answer to TAKE.

        Args:
            number: of the call.
            answer: to it.
            found: whether it has a message.
            changes: as they were before it was looked for.
        """
        self.latest = (number, answer) if found else NOTHING_TAKEN
        if found and self._waiting:
            self._waiting -= 1
        elif not found and changes == self.changes:  # otherwise one has come in since
            self._waiting = 0
        if self._waiting == 0:
            self.news.clear()
