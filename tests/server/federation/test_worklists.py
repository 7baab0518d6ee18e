"""Requests that clients work off at the same time, each client one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from fieldtune.client.contract.messages import Description, EvaluateReport, VariantRequest
from fieldtune.server.federation.fleet import Addressed, Reply, no_reply
from fieldtune.server.federation.worklists import worked_off


def addressed(client: int, number: int, model: bytes = b"model") -> Addressed:
    request = VariantRequest(
        trial=0, round=number, artefact="0" * 64, metric="accuracy", loss="cross_entropy"
    )
    return Addressed(client, request, model)


class Drawn:
    """Clients that answer in an order that is drawn, but for those that never do."""

    def __init__(self, order: Sequence[int], silent: frozenset[int] = frozenset()) -> None:
        self._order, self._silent = list(order), silent
        self.open: list[Addressed] = []
        self.asked: list[tuple[int, int]] = []

    def members(self) -> Sequence[Description]:
        raise AssertionError("nobody asks")

    def send(self, requests: Sequence[Addressed]) -> None:
        self.open += requests
        self.asked += [(each.client, each.request.round) for each in requests]
        clients = [each.client for each in self.open]
        assert len(set(clients)) == len(clients), "a client has more than one request"

    def receive(self, timeout_s: float) -> Sequence[Reply]:
        assert self.open, "nothing is asked, but an answer is waited for"
        each = self.open.pop((self._order.pop() if self._order else 0) % len(self.open))
        if each.client in self._silent:
            return [no_reply(each, "away")]
        return [Reply(each.client, EvaluateReport(trial=0, round=each.request.round))]

    def close(self) -> None: ...


def test_a_client_does_not_wait_for_a_slower_one() -> None:
    fleet = Drawn([1] * 3)  # the second client is always the one that answers
    requests = [addressed(client, number) for number in range(3) for client in (0, 1)]
    answers = worked_off(fleet, requests)
    assert [(r.client, r.report.round) for r, _ in zip(answers, range(3), strict=False)] == [
        (1, 0), (1, 1), (1, 2),
    ]  # fmt: skip
    assert (0, 1) not in fleet.asked


@given(
    lengths=st.lists(st.integers(0, 4), max_size=5),
    order=st.lists(st.integers(0, 9), max_size=20),
    silent=st.frozensets(st.integers(0, 4)),
)
def test_every_request_is_answered_once_and_who_is_silent_is_asked_once(
    lengths: list[int], order: list[int], silent: frozenset[int]
) -> None:
    fleet = Drawn(order, silent)
    requests = [
        addressed(c, number) for c, length in enumerate(lengths) for number in range(length)
    ]
    replies = list(worked_off(fleet, requests))
    assert sorted((r.client, r.report.round) for r in replies) == sorted(
        (each.client, each.request.round) for each in requests
    )
    for client, length in enumerate(lengths):
        own = [r.report for r in replies if r.client == client]
        assert [report.round for report in own] == list(range(length))
        assert {report.failure for report in own} <= {"no_reply" if client in silent else None}
        asked = sum(each == client for each, _ in fleet.asked)
        assert asked == (min(length, 1) if client in silent else length)
