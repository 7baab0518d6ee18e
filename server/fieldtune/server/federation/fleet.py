"""The interface between the tuning loop and the clients: members, send, receive."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from fieldtune.client.contract.encoding import encoded_bytes
from fieldtune.client.contract.messages import (
    Description,
    EvaluateReport,
    Failure,
    TrainReport,
    TrainRequest,
)
from fieldtune.profiles.common.errors import FleetError
from fieldtune.profiles.common.text import printable
from fieldtune.server.federation.exchange import Report, Request


class Addressed(NamedTuple):
    """A request to a client."""

    client: int
    request: Request
    model: bytes
    """The artefact; sent only to a client that does not have it yet."""
    work_s: float = 0.0
    """How long the client may work on it, in seconds, beyond what every request is given."""


class Reply(NamedTuple):
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

    def connected(self) -> Collection[int] | None:
        """The clients that are connected now; None where all of them always are."""

    def close(self) -> None:
        """Close the fleet; open requests are dropped."""


def failure(request: Request, kind: Failure, detail: str) -> Report:
    """A failure report to a request, made on behalf of the device."""
    return report_kind(request)(
        trial=request.trial, round=request.round, failure=kind, detail=detail[:500]
    )


def in_place_of_report(request: TrainRequest) -> TrainReport:
    """A failure ``late``, of the size of what a device that is still at work will send."""
    late = TrainReport(trial=request.trial, round=request.round, failure="late")
    if request.update is None:
        return late.model_copy(update={"weights": request.weights})
    size = encoded_bytes(request.update, request.weights.size, request.topk_share or 1.0)
    return late.model_copy(update={"encoded": bytes(size)})


def validated(request: Request, fields: Mapping[str, Any]) -> Report:
    """The report with these fields; a failure where it is not a valid report on this request."""
    try:
        report: Report = report_kind(request).model_validate(fields)
    except Exception as malformed:  # a device's values may make pydantic raise anything
        return not_a_report(request, malformed)
    if report.trial != request.trial or report.round != request.round:
        return failure(request, "implausible", f"answers trial {report.trial} round {report.round}")
    return report


def report_kind(request: Request) -> type[Report]:
    """Of the reports on such a request."""
    return TrainReport if isinstance(request, TrainRequest) else EvaluateReport


def not_a_report(request: Request, why: Exception) -> Report:
    """The failure of a client whose reply is not a valid report."""
    return failure(request, "implausible", printable(f"not a report: {why}", 500))


def no_reply(addressed: Addressed, detail: str) -> Reply:
    """The reply on behalf of a client that does not answer."""
    return Reply(addressed.client, failure(addressed.request, "no_reply", detail))


def refuse_if(closed: bool) -> None:
    """Raise FleetError if the fleet is closed."""
    if closed:
        raise FleetError("This fleet has been closed: open another one")
