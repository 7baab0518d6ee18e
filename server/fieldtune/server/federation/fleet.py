"""The interface between the tuning loop and the clients: members, send, receive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fieldtune.client.contract.messages import (
    Description,
    EvaluateReport,
    Failure,
    TrainReport,
    TrainRequest,
)
from fieldtune.profiles.common.errors import FleetError
from fieldtune.server.federation.fedavg import Report, Request


@dataclass(frozen=True)
class Addressed:
    """A request to a client."""

    client: int
    request: Request
    model: bytes
    """The artefact; sent only to a client that does not have it yet."""
    work_s: float = 0.0
    """How long the client may work on it, in seconds, beyond what every request is given."""


@dataclass(frozen=True)
class Reply:
    """A report of a client."""

    client: int
    report: Report
    described: Description | None = None
    """The client's latest description, where it may have changed since the study began."""


class Fleet(Protocol):
    """Clients, simulated or real. Every request gets exactly one reply, if need be a failure.

    A request to a client that is not a member gets a failure ``no_reply`` at once. All methods of a
    closed fleet but ``close`` raise FleetError. ``tests/support/fleet_contract.py`` tests this
    contract.
    """

    def members(self) -> Sequence[Description]:
        """The clients that requests can be sent to."""

    def joined(self) -> Sequence[Description]:
        """Clients that have become members since :meth:`members` or the last call."""

    def send(self, requests: Sequence[Addressed]) -> None:
        """Send requests; returns without waiting for replies."""

    def receive(self, timeout_s: float) -> Sequence[Reply]:
        """Replies that have come in, after waiting up to ``timeout_s`` for the first."""

    def close(self) -> None:
        """Close the fleet; open requests are dropped."""


def failure(request: Request, kind: Failure, detail: str) -> Report:
    """A failure report to a request, made on behalf of the device."""
    report = TrainReport if isinstance(request, TrainRequest) else EvaluateReport
    return report(trial=request.trial, round=request.round, failure=kind, detail=detail[:500])


def no_reply(addressed: Addressed, detail: str) -> Reply:
    """The reply on behalf of a client that does not answer."""
    return Reply(addressed.client, failure(addressed.request, "no_reply", detail))


def refuse_if(closed: bool) -> None:
    """Raise FleetError if the fleet is closed."""
    if closed:
        raise FleetError("This fleet has been closed: open another one")
