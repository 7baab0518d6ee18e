"""What every timeline does, that of simulated clients and that of real devices alike."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fieldtune.client.contract.messages import TrainReport, TrainRequest
from fieldtune.server.federation.exchange import Collect
from fieldtune.server.federation.timeline import Arrival, Timeline

WEIGHTS = np.zeros(2, np.float32)


def request(number: int = 0) -> TrainRequest:
    return TrainRequest(
        trial=1, round=number, artefact="a" * 64, weights=WEIGHTS, seed=0, batch_size=8,
        local_epochs=1, hyperparameter_names=(), hyperparameter_values=(),
    )  # fmt: skip


def report(seconds: float, number: int = 0, **changes: object) -> TrainReport:
    done = TrainReport(
        trial=1, round=number, weights=WEIGHTS, samples=1, wall_s=seconds, simulated=True
    )
    return done.model_copy(update=changes)


class TimelineContract:
    """A subclass has ``timeline``, and ``answers``, which has clients answer.

    ``answers(seconds)`` has each client answer so many seconds after it was asked, or fail where
    they are negative, until the timeline delivers; the order is that of the seconds.
    """

    timeline: Timeline
    answers: Callable[[dict[int, float]], list[Arrival]]

    def clients_of(self, arrivals: list[Arrival]) -> list[int]:
        return [each.client for each in arrivals if each.in_time]

    def test_a_round_waits_for_all_and_delivers_them_in_the_order_of_arrival(self) -> None:
        sent = self.timeline.begin(Collect({client: request() for client in (3, 1, 2)}))
        assert set(sent) == {1, 2, 3}
        came = self.answers({1: 5.0, 2: 9.0, 3: 2.0})
        assert self.clients_of(came) == [3, 1, 2]
        assert self.timeline.now_s >= 9.0
        assert self.timeline.took_s(2) >= 9.0 > self.timeline.took_s(3)  # type: ignore[operator]

    def test_a_round_ends_when_enough_have_come(self) -> None:
        self.timeline.begin(Collect(dict.fromkeys((1, 2, 3), request()), usable=2))
        assert self.clients_of(self.answers({1: 5.0, 2: 90.0, 3: 2.0})) == [3, 1]
        assert 5.0 <= self.timeline.now_s < 90.0

    def test_a_failure_is_not_one_of_enough(self) -> None:
        self.timeline.begin(Collect(dict.fromkeys((1, 2, 3), request()), usable=2))
        assert self.clients_of(self.answers({1: 5.0, 2: 9.0, 3: -2.0})) == [3, 1, 2]

    def test_a_round_ends_at_its_deadline(self) -> None:
        self.timeline.begin(Collect(dict.fromkeys((1, 2), request()), until_s=4.0))
        assert self.clients_of(self.answers({1: 3.0, 2: 90.0})) == [1]
        assert 4.0 <= self.timeline.now_s < 90.0

    def test_who_is_late_is_not_free(self) -> None:
        self.timeline.begin(Collect(dict.fromkeys((1, 2), request()), until_s=4.0))
        self.answers({1: 3.0, 2: 90.0})
        assert self.timeline.free([1, 2, 3]) == [1, 3]

    def test_others_stay_open_where_the_next_one_is_waited_for(self) -> None:
        self.timeline.begin(Collect(dict.fromkeys((1, 2, 3), request()), leaves_open=True))
        assert self.clients_of(self.answers({1: 5.0, 2: 9.0, 3: 2.0})) == [3]
        assert self.timeline.free([1, 2, 3]) == [3]
        self.timeline.begin(Collect({}, leaves_open=True))
        assert self.clients_of(self.answers({1: 5.0, 2: 9.0})) == [1]
        self.timeline.begin(Collect({3: request(1)}, leaves_open=True))
        assert self.clients_of(self.answers({2: 9.0, 3: 20.0})) == [2]
        self.timeline.begin(Collect({}))
        assert self.clients_of(self.answers({3: 20.0})) == [3]

    def test_who_does_not_answer_in_time_is_given_up(self) -> None:
        asked = Collect(dict.fromkeys((1, 2), request()), leaves_open=True, patience_s=6.0)
        self.timeline.begin(asked)
        assert self.clients_of(self.answers({1: 3.0, 2: 90.0})) == [1]
        self.timeline.begin(Collect({}, leaves_open=True))
        (late,) = self.answers({2: 90.0})
        assert (late.client, late.given_up, late.in_time) == (2, True, False)
        assert 6.0 <= self.timeline.now_s < 90.0
        assert self.timeline.free([1, 2]) == [1]

    def test_time_without_anyone_to_wait_for_is_idle(self) -> None:
        self.timeline.begin(Collect(dict.fromkeys((1, 2), request())))
        self.answers({1: 2.0, 2: 10.0})
        assert 7.9 < self.timeline.idle_s() < 8.5

    def test_nothing_is_waited_for_where_nothing_is_wanted(self) -> None:
        self.timeline.begin(Collect({}))
        assert self.timeline.arrived() == []
