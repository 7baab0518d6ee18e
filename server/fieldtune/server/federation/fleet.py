"""The seam between the loop and the clients: who is there, send, receive."""

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
    """A request and the client it is for."""

    client: int
    request: Request
    model: bytes
    """The artefact; it travels only to a client that does not hold it yet."""


@dataclass(frozen=True)
class Reply:
    """A report and the client it is from."""

    client: int
    report: Report
    described: Description | None = None
    """How the client describes itself now, where that may differ from when the study began."""


class Fleet(Protocol):
    """Clients, simulated or real. Every request sent is answered once, if only by a failure.

    A request for a client that is not one of the members is answered at once by a failure
    ``no_reply``. ``tests/fleet_contract.py`` is the contract. A fleet that has been closed raises
    FleetError whatever it is asked.
    """

    def members(self) -> Sequence[Description]:
        """Who can be asked."""

    def send(self, requests: Sequence[Addressed]) -> None:
        """Have these done; returns at once."""

    def receive(self, timeout_s: float) -> Sequence[Reply]:
        """Replies that have come in, after waiting up to ``timeout_s`` for the first."""

    def close(self) -> None:
        """End it; what has not been answered is dropped."""


def failure(request: Request, kind: Failure, detail: str) -> Report:
    """The report of a device that did not do what it was asked."""
    report = TrainReport if isinstance(request, TrainRequest) else EvaluateReport
    return report(trial=request.trial, round=request.round, failure=kind, detail=detail[:500])


def no_reply(addressed: Addressed, detail: str) -> Reply:
    """What stands in for the answer of a client that gives none."""
    return Reply(addressed.client, failure(addressed.request, "no_reply", detail))


def refuse_if(closed: bool) -> None:
    """FleetError where a fleet has been closed."""
    if closed:
        raise FleetError("This fleet has been closed: open another one")
