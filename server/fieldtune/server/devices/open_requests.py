"""Requests to devices without an answer so far: how long each may take, and when it has failed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fieldtune.server.devices.registration import and_more
from fieldtune.server.federation.fleet import Addressed

PATIENCE_S = 600.0
"""Time limit of a request, beyond the time that the device may work on it and on earlier ones."""
AWAY_S, _AWAY_SHARE = 180.0, 0.1
"""Time limit of a request to a device that is disconnected, and the share of its work to add."""
MAX_TRIES = 3
_LONG_S = 30.0
"""A connected device is shown as waited for once it has worked on a request for this long."""


@dataclass(eq=False)
class Job:
    """A request without an answer so far."""

    addressed: Addressed
    since: float
    until: float
    away_s: float
    """Time limit while its device is disconnected."""
    tries: int = 0
    current: str | None = None
    """Id of the latest message for it; None while it waits to be sent."""
    sent: float = 0.0
    not_before: float = 0.0
    """It is not sent again before this time."""
    activated: str = ""
    """``ConnectedDevice.activated`` of the device when the message was sent."""
    with_model: bool = False
    messages: list[str] = field(default_factory=list)
    """Ids of all messages for it in this run; whichever is answered first counts."""


def new_jobs(
    requests: Sequence[Addressed],
    jobs: Iterable[Job],
    now: float,
    patience_s: float = PATIENCE_S,
    away_s: float = AWAY_S,
) -> Iterator[Job]:
    """The jobs of new requests; a device works on its requests one after the other.

    Args:
        requests: in the order in which they are sent.
        jobs: the open ones.
        now: seconds.
        patience_s: time limit beyond the work.
        away_s: time limit while a device is disconnected.
    """
    work_s: dict[int, float] = defaultdict(float)
    for job in jobs:
        work_s[job.addressed.client] += job.addressed.work_s
    for each in requests:
        work_s[each.client] += each.work_s
        until = now + patience_s + work_s[each.client]
        yield Job(each, now, until, away_s + _AWAY_SHARE * each.work_s)


def late(job: Job, now: float, left_at: float | None, connected: bool) -> str:
    """Why a request has failed, as a sentence about its device; empty where it has not.

    Args:
        job: the request.
        now: seconds.
        left_at: when its device was last connected, if it has disconnected.
        connected: whether it is connected.
    """
    if connected and job.current is None and job.tries >= MAX_TRIES:
        return (
            f"has reconnected {job.tries} times during this request: its client may be running out "
            "of memory"
        )
    if left_at is not None and now - left_at >= job.away_s:
        return "is disconnected"
    if now >= job.until:
        return f"has not answered for {now - job.since:.0f} s"
    return ""


def waited_for(
    jobs: Iterable[Job], left_at: Mapping[int, float], name: Callable[[int], str], now: float
) -> str:
    """The devices that have been waited for a while, and the time left; empty where none.

    Args:
        jobs: the open requests.
        left_at: client -> when it was last connected, of those that have disconnected.
        name: of a client.
        now: seconds.
    """
    oldest: dict[int, Job] = {}
    for job in jobs:
        oldest.setdefault(job.addressed.client, job)
    devices = []
    for client, job in sorted(oldest.items()):
        request, left_s = job.addressed.request, job.until - now
        if client in left_at:
            left_s = min(left_s, left_at[client] + job.away_s - now)
            what = "disconnected"
        elif now - job.since >= _LONG_S:
            what = f"at trial {request.trial} round {request.round}"
        else:
            continue
        devices.append(f"{name(client)} ({what}, {max(left_s, 0):.0f} s more at most)")
    return f"waiting for {and_more(devices)}" if devices else ""
