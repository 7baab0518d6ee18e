"""The seam between the devices' fleet and SuperLink: one run, its nodes and its messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from flwr.app import Message


class RunLostError(Exception):
    """SuperLink no longer knows this run: it was away too long, or somebody stopped it."""


@dataclass(frozen=True)
class Node:
    """A device that is connected now."""

    node_id: int
    name: str
    """As it was enrolled; vouched for by its key."""
    activated: str
    """When it last connected; another value means that it has been away."""


class Run(Protocol):
    """A run on a SuperLink; raises :class:`RunLostError` where there is none any more."""

    def nodes(self) -> Sequence[Node]:
        """Devices that are connected now."""

    def push(self, messages: Sequence[Message]) -> Sequence[str | None]:
        """Send; each message's id, or None where it was not taken."""

    def pull(self, message_ids: Iterable[str]) -> Sequence[Message]:
        """What has come in for these messages."""

    def close(self, failed: str | None = None) -> None:
        """End the run."""
