"""The contract of timelines, on both: see :mod:`support.timeline_contract`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fieldtune.server.federation.exchange import Collect
from fieldtune.server.federation.timeline import Arrival, RealTimeline
from fieldtune.server.federation.virtual_timeline import VirtualTimeline
from support.timeline_contract import TimelineContract, report, request


class TestVirtual(TimelineContract):
    """Simulated clients: all have answered before anything is delivered."""

    @pytest.fixture(autouse=True)
    def _opened(self) -> None:
        self.timeline = VirtualTimeline(seed=0)

    def answers(self, seconds: dict[int, float]) -> list[Arrival]:  # type: ignore[override]
        for client, each in seconds.items():
            if client in self.timeline._unanswered:  # type: ignore[attr-defined]
                failed = {"failure": "error", "weights": None} if each < 0 else {}
                self.timeline.put(client, report(abs(each), **failed))
        came = self.timeline.arrived()
        assert came is not None
        return came


class TestReal(TimelineContract):
    """Devices, on a clock that moves to the next answer."""

    @pytest.fixture(autouse=True)
    def _opened(self) -> None:
        self.clock, self.asked = 0.0, dict[int, float]()
        self.timeline = RealTimeline(clock=lambda: self.clock)

    def answers(self, seconds: dict[int, float]) -> list[Arrival]:  # type: ignore[override]
        timeline = self.timeline
        assert isinstance(timeline, RealTimeline)
        for client in seconds:
            self.asked.setdefault(client, self.clock)
        ends = min(
            timeline._asked.until_s,  # type: ignore[union-attr]
            *(each.expires_s for each in timeline._open.values() if each.waited_for),
        )
        due = sorted((self.asked[client] + abs(s), client) for client, s in seconds.items())
        for at, client in due:
            if at > ends:
                self.clock = ends
                break
            self.clock = max(at, self.clock)
            failed = {"failure": "error", "weights": None} if seconds[client] < 0 else {}
            timeline.put(client, report(abs(seconds[client]), **failed))
            self.asked.pop(client)
            if (came := timeline.arrived()) is not None:
                return came
        came = timeline.arrived()
        assert came is not None
        return came

    def test_only_connected_devices_are_there(self) -> None:
        connected = [1, 2]
        timeline = RealTimeline(connected=lambda: connected, clock=lambda: 0.0)
        assert timeline.there([1, 2, 3]) == [1, 2]
        connected.clear()
        assert timeline.there([1, 2, 3]) == [1, 2, 3]

    def test_where_all_work_on_earlier_requests_one_of_them_is_waited_for(self) -> None:
        timeline = RealTimeline(clock=lambda: self.clock)
        timeline.begin(Collect(dict.fromkeys((1, 2), request()), until_s=4.0))
        self.clock = 4.0
        assert timeline.arrived() == []
        assert timeline.free([1, 2]) == []
        timeline.begin(Collect({}, until_s=timeline.someone_there_s([1, 2])))
        assert timeline.arrived() is None
        timeline.put(2, report(9.0))
        assert [each.in_time for each in timeline.arrived() or ()] == [False]
        assert timeline.free([1, 2]) == [2]
        assert timeline.someone_there_s([1, 2]) == timeline.now_s

    def test_nobody_else_is_waited_for_where_all_are_asked(self) -> None:
        asked = Collect(dict.fromkeys((1, 2), request()), leaves_open=True)
        self.timeline.begin(replace(asked, until_s=self.timeline.someone_there_s([])))
        assert self.timeline.arrived() is None

    def test_the_clock_stands_still_while_nothing_is_waited_for(self) -> None:
        self.test_a_round_waits_for_all_and_delivers_them_in_the_order_of_arrival()
        before = self.timeline.now_s
        self.clock += 1000
        assert self.timeline.now_s == before
