"""The time in a training: which reports come first, and which too late.

:class:`RealTimeline` takes reports as they come from devices.
:class:`~fieldtune.server.federation.virtual_timeline.VirtualTimeline` orders those of simulated
clients by the time at which their devices would have sent them. The federated algorithm is the same
on both; ``tests/support/timeline_contract.py`` tests the contract.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from fieldtune.client.contract.messages import TrainReport, TrainRequest
from fieldtune.server.federation.exchange import Collect, Report, Situation
from fieldtune.server.federation.faults import FINE, Fate


@dataclass(frozen=True)
class Arrival:
    """A report that has come."""

    client: int
    request: TrainRequest
    report: Report | None
    """As the device has sent it; None of a device that was given up before it answered."""
    fate: Fate = FINE
    in_time: bool = True
    """Whether it came before the algorithm stopped to wait for it."""
    given_up: bool = False
    """Whether the algorithm stops to wait for this client now."""
    took_s: float = 0.0
    """Seconds that the device worked on it, transfers included."""


_LOOK_AGAIN_S = 1.0
"""Where all devices still work on earlier requests, and none has answered meanwhile."""


class Timeline(Situation, Protocol):
    """Tells when reports come. Each client has one open request at most."""

    def begin(self, asked: Collect) -> Mapping[int, TrainRequest]:
        """Open requests, and wait as stated; those that the fleet is to answer."""

    def put(self, client: int, report: Report) -> None:
        """Take the fleet's answer."""

    def arrived(self) -> list[Arrival] | None:
        """What was waited for, in the order in which it came; None while it has not come."""

    def idle_s(self) -> float:
        """See :attr:`~fieldtune.server.outcomes.trial.Timing.idle_s`."""

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` needs to continue, as JSON values."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a stored state: the requests that were open then have to be begun anew."""


@dataclass
class IdleTime:
    """Idle time of the clients that were asked, added up over a training."""

    open_s: float = 0.0
    """Sum over all requests of the seconds for which each was open."""
    worked_s: float = 0.0
    """Of these, the seconds in which the clients worked on them."""

    @property
    def idle_s(self) -> float:
        """Seconds in which a client with an open request did not work on it."""
        return max(self.open_s - self.worked_s, 0.0)


@dataclass
class _Open:
    """A request to a device."""

    request: TrainRequest
    since_s: float
    expires_s: float
    waited_for: bool = True
    report: Report | None = None
    at_s: float = 0.0


@dataclass
class RealTimeline:
    """The time of real devices, by the coordinator's clock.

    Attributes:
        connected: the clients that are connected now; None where that is not known.
        clock: seconds; only differences count.
    """

    connected: Callable[[], Collection[int] | None] = lambda: None
    clock: Callable[[], float] = time.monotonic
    _open: dict[int, _Open] = field(default_factory=dict)
    _took_s: dict[int, float] = field(default_factory=dict)
    _idle: IdleTime = field(default_factory=IdleTime)
    _again: set[int] = field(default_factory=set)
    """Clients whose requests were open in a stored state, until they are begun anew."""
    _asked: Collect | None = None
    _began: float | None = None
    """When the current wait began, by the clock; None where there is none."""
    _before_s: float = 0.0
    """Seconds of earlier waits."""
    _counted_s: float = 0.0
    """Point in time up to which open requests are counted."""

    @property
    def now_s(self) -> float:
        """Seconds in which reports of training were waited for."""
        return self._before_s + (0.0 if self._began is None else self.clock() - self._began)

    def free(self, clients: Collection[int]) -> list[int]:
        """Those without an open request."""
        return [c for c in clients if c not in self._open and c not in self._again]

    def there(self, clients: Collection[int]) -> list[int]:
        """Those that are connected; all of them where none is: who connects first will answer."""
        connected = self.connected()
        if connected is None:
            return list(clients)
        known = set(connected)
        return [client for client in clients if client in known] or list(clients)

    def someone_there_s(self, clients: Collection[int]) -> float:
        """Now: a request to a device that is not connected waits for it.

        A little later where all of them still work on earlier requests.
        """
        if not clients:
            return math.inf
        return self.now_s if self.free(clients) else self.now_s + _LOOK_AGAIN_S

    def took_s(self, client: int) -> float | None:
        """Seconds from request to report of the client's latest training."""
        return self._took_s.get(client)

    def begin(self, asked: Collect) -> Mapping[int, TrainRequest]:
        """Open requests; the fleet is to answer all of them."""
        if self._began is None:
            self._began = self.clock()
        self._count()
        self._asked, self._again = asked, set()
        for client, request in asked.requests.items():
            now = self.now_s
            self._open[client] = _Open(request, now, now + asked.patience_s)
        return asked.requests

    def put(self, client: int, report: Report) -> None:
        """Take a report, which has come now."""
        each = self._open[client]
        each.report, each.at_s = report, self.now_s
        if report.failure is None:
            self._took_s[client] = each.at_s - each.since_s

    def arrived(self) -> list[Arrival] | None:
        """The reports that have come, if they are enough or the time is over."""
        asked = self._asked
        assert asked is not None
        waited = [each for each in self._open.values() if each.waited_for]
        here = [each for each in waited if each.report is not None]
        usable = sum(each.report is not None and not each.report.failure for each in here)
        if waited or math.isinf(asked.until_s):
            ready = len(here) == len(waited)
        else:  # until a device is free
            ready = any(each.report is not None for each in self._open.values())
        ready = ready or self.now_s >= asked.until_s
        overdue = {
            client: each.request
            for client, each in self._open.items()
            if asked.leaves_open
            and each.waited_for
            and each.report is None
            and self.now_s >= each.expires_s
        }
        if not ready and not (here or overdue if asked.leaves_open else usable >= asked.usable):
            return None
        self._count()
        came = {client: each for client, each in self._open.items() if each.report is not None}
        self._idle.worked_s += sum(_took_s(each) for each in came.values())
        self._before_s, self._began = self.now_s, None
        for client in came:
            del self._open[client]
        for client, each in self._open.items():
            if not asked.leaves_open or client in overdue:
                each.waited_for = False
        given_up = [
            Arrival(client, request, None, in_time=False, given_up=True)
            for client, request in overdue.items()
        ]
        return given_up + [
            Arrival(
                client, each.request, each.report, in_time=each.waited_for, took_s=_took_s(each)
            )
            for client, each in sorted(came.items(), key=lambda item: (item[1].at_s, item[0]))
            if each.report is not None
        ]

    def idle_s(self) -> float:
        """Seconds of open requests beyond what the devices report to have worked."""
        return self._idle.idle_s

    def state(self) -> dict[str, Any]:
        """The time so far, and the idle time."""
        took = {str(client): took_s for client, took_s in self._took_s.items()}
        places = [self._idle.open_s, self._idle.worked_s]
        waited = sorted(client for client, each in self._open.items() if each.waited_for)
        return {"now_s": self.now_s, "took_s": took, "places": places, "open": waited}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from the time of the state."""
        self._before_s = self._counted_s = state["now_s"]
        self._took_s = {int(client): took_s for client, took_s in state["took_s"].items()}
        self._idle, self._again = IdleTime(*state["places"]), set(state["open"])

    def _count(self) -> None:
        """Add up the open requests until now."""
        now = self.now_s
        self._idle.open_s += len(self._open) * (now - self._counted_s)
        self._counted_s = now


def _took_s(each: _Open) -> float:
    """Seconds that the device says to have worked; without its word, since the request was sent."""
    assert each.report is not None
    wall_s = each.report.wall_s if isinstance(each.report, TrainReport) else None
    return each.at_s - each.since_s if wall_s is None else min(wall_s, each.at_s - each.since_s)
