"""The interface between the fleet of devices and SuperLink: one run, its nodes and messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from flwr.app import Message


class RunLostError(Exception):
    """SuperLink has dropped this run: it was unreachable too long, or the run was stopped."""


@dataclass(frozen=True)
class ConnectedDevice:
    """A connected device."""

    node_id: int
    name: str
    """The name under which it was enrolled, authenticated by its key."""
    activated: str
    """When it last connected; a new value means that it has reconnected."""


class Run(Protocol):
    """A run on SuperLink; methods raise :class:`RunLostError` once SuperLink has dropped it."""

    @property
    def outages(self) -> int:
        """How often SuperLink has not answered for a while; messages may be lost each time."""

    def nodes(self) -> Sequence[ConnectedDevice]:
        """The connected devices."""

    def push(self, messages: Sequence[Message]) -> Sequence[str | None]:
        """Send messages; the id of each, or None where SuperLink did not accept it."""

    def pull(self, message_ids: Iterable[str]) -> Sequence[Message]:
        """The replies to these messages that have come in."""

    def close(self, failed: str | None = None) -> None:
        """End the run."""
