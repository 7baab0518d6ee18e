"""A virtual clock: when simulated devices would have sent their reports.

A client's time is that of the download, of the training (the report of a simulated client says how
long its device would have taken) and of the upload over its device type's link; and the time until
it can be reached, before and after its work. Reports are delivered in the order of these times, so
a training does not depend on how fast the simulation is, or in which order it answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fieldtune.client.contract.messages import TrainReport, TrainRequest
from fieldtune.profiles.costmodel.transfer import Link
from fieldtune.server.federation.availability import Availability
from fieldtune.server.federation.exchange import Collect, Report
from fieldtune.server.federation.faults import Fate, fate
from fieldtune.server.federation.fleet import failure
from fieldtune.server.federation.report_checks import MOST_SIMULATED_S
from fieldtune.server.federation.timeline import Arrival, IdleTime
from fieldtune.server.study.fleet_options import FaultsSection, FleetSection

_NO_LINK = Link()


@dataclass
class _Open:
    """A request to a simulated device."""

    request: TrainRequest
    since_s: float
    expires_s: float
    starts_s: float
    """Infinite where the client can never be reached."""
    download_s: float
    fate: Fate
    report: Report | None = None
    at_s: float = math.inf
    """When the report arrives, once it is known."""
    took_s: float = 0.0

    @property
    def earliest_s(self) -> float:
        """A time before which the report does not arrive, and the client is not given up."""
        arrives_s = self.starts_s + self.download_s if self.report is None else self.at_s
        return min(arrives_s, self.expires_s)


class VirtualTimeline:
    """The time of simulated devices.

    Args:
        fleet: when clients are there, and what goes wrong.
        availability: the clients' patterns.
        seed: of the training.
        links: client -> its link; without one, transfers take no time.
        artefact_bytes: that a client downloads with its first request.
    """

    def __init__(
        self,
        fleet: FleetSection | None = None,
        *,
        seed: int,
        availability: Availability | None = None,
        links: Callable[[int], Link] = lambda client: _NO_LINK,
        artefact_bytes: int = 0,
    ) -> None:
        self._faults: FaultsSection | None = fleet.faults if fleet else None
        self._noticed_s = (self._faults or FaultsSection()).noticed_s
        self._availability = availability or Availability(None, seed)
        self._seed, self._links, self._artefact_bytes = seed, links, artefact_bytes
        self._now_s = 0.0
        self._open: dict[int, _Open] = {}
        self._unanswered: set[int] = set()
        """Clients whose report is not known yet."""
        self._busy_until_s: dict[int, float] = {}
        """Of clients whose report was not waited for."""
        self._took_s: dict[int, float] = {}
        self._idle = IdleTime()
        self._asked = Collect({})
        self._since_s: dict[int, float] = {}
        """Client -> since when its request was open, of a stored state."""

    @property
    def now_s(self) -> float:
        """Virtual seconds since the training began."""
        return self._now_s

    def free(self, clients: Collection[int]) -> list[int]:
        """Those that have no open request, have ended earlier ones, and are there at some time."""
        if not (self._open or self._since_s or self._busy_until_s or self._availability.traced):
            return list(clients)
        return [
            client
            for client in clients
            if client not in self._open
            and client not in self._since_s
            and self._busy_until_s.get(client, 0.0) <= self._now_s
            and self._availability.of(client).changes
        ]

    def there(self, clients: Collection[int]) -> list[int]:
        """Those that can be reached at this time."""
        if self._availability.always:
            return list(clients)
        return [c for c in clients if self._availability.of(c).there(self._now_s)]

    def someone_there_s(self, clients: Collection[int]) -> float:
        """Point in time at which one of them is free and there; infinite where none ever is."""
        of = self._availability.of
        free_s = ((c, max(self._now_s, self._busy_until_s.get(c, 0.0))) for c in clients)
        return min((of(client).inside_s(at_s) for client, at_s in free_s), default=math.inf)

    def took_s(self, client: int) -> float | None:
        """Seconds that the client's latest training took, transfers included."""
        return self._took_s.get(client)

    def begin(self, asked: Collect) -> Mapping[int, TrainRequest]:
        """Open requests; those whose result does not depend on the client are answered at once."""
        self._asked, sent = asked, dict[int, TrainRequest]()
        for client, request in asked.requests.items():
            since_s = self._since_s.pop(client, self._now_s)
            artefact = 0 if client in self._took_s else self._artefact_bytes
            download_s = self._links(client).download_s(request.payload_bytes, artefact)
            happens = fate(self._faults, self._seed, request.round, client)
            starts_s = self._starts_s(client, since_s)
            self._open[client] = _Open(
                request, since_s, since_s + asked.patience_s, starts_s, download_s, happens
            )
            self._unanswered.add(client)
            if math.isinf(starts_s):
                self.put(client, failure(request, "no_reply", "it is never there"))
            elif happens.fault == "out_of_memory":
                none = failure(request, "out_of_memory", "drawn by the simulation")
                self.put(client, none.model_copy(update={"simulated": True, "wall_s": 0.0}))
            else:
                sent[client] = request
        self._since_s = {}
        return sent

    def put(self, client: int, report: Report) -> None:
        """Take the fleet's answer, and work out when the device would have sent it."""
        each, link = self._open[client], self._links(client)
        each.report = report
        self._unanswered.discard(client)
        if report.failure == "sits_out":  # it was not asked
            each.at_s = each.since_s
            return
        if math.isinf(each.starts_s):
            each.at_s = each.since_s + self._noticed_s
            return
        worked = each.fate.worked(report)
        computing_s, upload_s = worked.wall_s or 0.0, 0.0
        if computing_s > MOST_SIMULATED_S:  # such a report is refused
            computing_s = 0.0
        done_s = each.starts_s + each.download_s + computing_s
        if each.fate.fault == "dropout" and not report.failure:
            each.at_s = done_s + self._noticed_s
        else:
            sent = report.payload_bytes if isinstance(report, TrainReport) else 0
            upload_s = link.upload_s(sent)
            each.at_s = done_s + self._availability.of(client).wait_s(done_s) + upload_s
            if each.fate.fault == "lost_upload" and not report.failure:
                each.at_s += self._noticed_s
        each.took_s = each.download_s + computing_s + upload_s

    def arrived(self) -> list[Arrival] | None:
        """The reports that come first, in the order of their times; moves the clock on."""
        asked = self._asked
        if self._unanswered and not asked.leaves_open:
            return None
        waiting = sorted(self._open, key=self._order)
        if asked.leaves_open:
            unknown_s = min(
                (self._open[client].earliest_s for client in self._unanswered), default=math.inf
            )
            first_s = self._open[waiting[0]].earliest_s if waiting else math.inf
            if unknown_s <= min(first_s, asked.until_s):
                return None
            last_s = first_s if first_s <= asked.until_s else -math.inf
            due = [client for client in waiting if self._open[client].earliest_s <= last_s]
            came = [c for c in due if self._open[c].at_s <= self._open[c].expires_s]
            left, until_s = [client for client in due if client not in came], first_s
        else:
            came, left, until_s = self._first(waiting)
        if not waiting and math.isinf(asked.until_s):
            until_s = self._now_s
        ends_s = max(min(until_s, asked.until_s), self._now_s)
        found = [self._arrival(client, in_time=True) for client in came]
        for client in left:
            each = self._open[client]
            self._busy_until_s[client] = each.at_s
            late = self._arrival(client, in_time=False)
            found.append(replace(late, given_up=asked.leaves_open))
        self._idle.open_s += len(self._open) * (ends_s - self._now_s)
        for client in (*came, *left):
            each = self._open.pop(client)
            self._idle.worked_s += min(each.took_s, max(ends_s - each.since_s, 0.0))
        self._now_s = ends_s
        self._busy_until_s = {c: s for c, s in self._busy_until_s.items() if s > ends_s}
        return found

    def idle_s(self) -> float:
        """Device seconds in which a client with an open request did not work on it."""
        return self._idle.idle_s

    def state(self) -> dict[str, Any]:
        """The time, the clients that are busy, and the idle time."""
        return {
            "now_s": self._now_s,
            "since_s": {str(client): each.since_s for client, each in self._open.items()},
            "busy_until_s": {str(client): at_s for client, at_s in self._busy_until_s.items()},
            "took_s": {str(client): took_s for client, took_s in self._took_s.items()},
            "places": [self._idle.open_s, self._idle.worked_s],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from the time of the state."""
        self._now_s = state["now_s"]
        self._since_s, self._busy_until_s, self._took_s = (
            {int(client): seconds for client, seconds in state[name].items()}
            for name in ("since_s", "busy_until_s", "took_s")
        )
        self._idle = IdleTime(*state["places"])

    def _order(self, client: int) -> tuple[float, int]:
        return self._open[client].earliest_s, client

    def _first(self, waiting: list[int]) -> tuple[list[int], list[int], float]:
        """Of all reports: those that are waited for, the others, and when the wait ends."""
        usable, came, ends_s = 0, list[int](), self._now_s
        for client in waiting:
            each = self._open[client]
            if usable >= self._asked.usable or each.at_s > self._asked.until_s:
                break
            came.append(client)
            ends_s = max(ends_s, each.at_s)
            assert each.report is not None
            usable += not each.fate.received(each.report).failure
        left = waiting[len(came) :]
        over = (left or not waiting) and usable < self._asked.usable
        return came, left, self._asked.until_s if over else ends_s

    def _arrival(self, client: int, *, in_time: bool) -> Arrival:
        each = self._open[client]
        assert each.report is not None
        if not each.fate.received(each.report).failure:
            self._took_s[client] = each.took_s
        return Arrival(client, each.request, each.report, each.fate, in_time, took_s=each.took_s)

    def _starts_s(self, client: int, since_s: float | None = None) -> float:
        """When a client is there and free, from a point in time on."""
        at_s = self._now_s if since_s is None else since_s
        at_s = max(at_s, self._busy_until_s.get(client, 0.0))
        return at_s + self._availability.of(client).wait_s(at_s)
