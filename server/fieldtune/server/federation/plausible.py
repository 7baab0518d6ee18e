"""Plausibility checks: a report with a number that its device cannot have measured is rejected.

Before a report is used, each number in it is compared with the device's description of itself
(:class:`Description`) and with general bounds (:mod:`report_checks`). A number outside of them
turns the report into a failure ``implausible``: the round continues without it, a note names the
device once for each kind of number, and a device that is refused three times in a row sits out
(:mod:`refusals`). No device counts as more than ten times the fleet's median number of samples
(:mod:`descriptions`).
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fieldtune.client.contract.messages import Description, TrainReport
from fieldtune.server.federation.descriptions import SampleCaps
from fieldtune.server.federation.exchange import Answers, Exchange, Report
from fieldtune.server.federation.fleet import Reply, failure
from fieldtune.server.federation.losses import odd_losses
from fieldtune.server.federation.refusals import IN_A_ROW, Refusals, RefusalStore
from fieldtune.server.federation.report_checks import (
    SLACK,
    SLACK_S,
    WEIGHTS,
    decoded,
    largest_weights,
    memory_mib,
    out_of_bounds,
    runaway_weights,
    unusable,
)


def boot_time_s() -> float:
    """Seconds since this machine was booted, including time in suspend."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(frozen=True)
class Asked:
    """An exchange, when it was sent by the coordinator's clock, and the task's classes."""

    exchange: Exchange
    since_s: float
    classes: int | None = None
    by_itself: bool = False
    """Whether each report is to be judged without regard to the others."""


class Bounds:
    """Checks the reports of one session.

    Args:
        members: the fleet.
        notes: prints a sentence about a device whose report is rejected.
        clock: seconds; only differences count.
        store: keeps what was refused in earlier studies.
    """

    def __init__(
        self,
        members: Sequence[Description],
        notes: Callable[[str], None],
        clock: Callable[[], float] = boot_time_s,
        store: RefusalStore | None = None,
    ) -> None:
        self._clock, self._notes = clock, notes
        self._members: dict[int, Description] = {}
        self._names: dict[int, str] = {}
        self._trained, self._odd = Counter[int](), Counter[tuple[int, str]]()
        self.refusals = Refusals(self._names, notes, store)
        self.set_members(members)

    @property
    def names(self) -> Mapping[int, str]:
        """Client -> its name, of real devices only."""
        return self._names

    def set_members(self, members: Sequence[Description]) -> None:
        """The whole fleet, when devices have joined it."""
        self._caps = SampleCaps.of(members)
        for member in members:
            if member.client not in self._members:
                self._members[member.client] = member
                if member.name:
                    self._names[member.client] = member.name
                if over := self._caps.over(member):
                    self._notes(f"{self.refusals.name(member.client)}: {over}")

    def ask(
        self, exchange: Exchange, classes: int | None = None, *, by_itself: bool = False
    ) -> Asked:
        """Note the time at which an exchange is sent: now."""
        return Asked(exchange, self._clock(), classes, by_itself)

    def sitting_out(self, exchange: Exchange) -> dict[int, Report]:
        """A failure for each client that is not to be asked."""
        return {
            client: failure(request, "sits_out", f"{self.refusals.name(client)} sits out")
            for client, request in exchange.items()
            if self.refusals.sits_out(client)
        }

    def hear(self, reply: Reply) -> None:
        """Update the bounds where a device has reconnected with other data.

        Replies about its earlier data may still arrive, so the largest numbers of samples and the
        largest memory of the session count.
        """
        now, before = reply.described, self._members.get(reply.client)
        if now is None or before is None:
            return
        self._members[reply.client] = before.model_copy(
            update={
                "train_samples": max(before.train_samples, now.train_samples),
                "test_samples": max(before.test_samples, now.test_samples),
                "memory_mib": max(memory_mib(before), memory_mib(now)),
            }
        )

    def judge(self, asked: Asked, answers: Answers) -> dict[int, Report]:
        """The answers in the given order, implausible ones replaced by failures."""
        limit_s = SLACK * (self._clock() - asked.since_s) + SLACK_S
        read = {c: decoded(report, asked.exchange[c]) for c, report in answers.items()}
        answers = {client: report for client, (report, _) in read.items()}
        largest = largest_weights(answers)
        wrong = {} if asked.by_itself else dict(runaway_weights(asked.exchange, largest))
        for client, report in answers.items():
            member, request = self._members[client], asked.exchange[client]
            checks = (
                out_of_bounds(report, request, member, limit_s),
                [why] if (why := read[client][1]) else [],
                unusable(report, request, asked.classes),
            )
            if first := next((each for check in checks for each in check), None):
                wrong[client] = first
        judged = {}
        for client, report in answers.items():
            if client in wrong:
                judged[client] = self._refused(client, report, *wrong[client])
            elif largest[client] == math.inf and not report.failure:
                self._refused(client, report, WEIGHTS, "it reports weights that are not finite")
                judged[client] = report.model_copy(update={"failure": "diverged", "weights": None})
            else:
                if not report.failure:
                    self.refusals.accept(client, _message(report))
                    self._trained[client] += isinstance(report, TrainReport)
                judged[client] = self._caps.apply(report)
        self._limit_losses(asked.exchange, judged)
        return judged

    def _limit_losses(self, exchange: Exchange, judged: dict[int, Report]) -> None:
        """Have no real device give the fleet's loss any value, and name the one that tries."""
        of_devices = {client: judged[client] for client in judged if client in self._names}
        for client, report, sentence in odd_losses(exchange, of_devices):
            judged[client] = report
            self.refusals.note(client, report.trial, report.round, "loss", sentence)

    def clipped(self, trial: int) -> Callable[[int, int, float], None]:
        """Counts the updates of a trial that were scaled down: ``(client, round, times)``."""
        return self._suspected(
            trial, "clipped",
            lambda times: "update scaled down (said once): it is "
            f"{times:.3g} times as large as the median",
        )  # fmt: skip

    def opposed(self, trial: int) -> Callable[[int, int, float], None]:
        """Counts the updates of a trial that were left out: ``(client, round, evidence)``."""
        return self._suspected(
            trial, "direction",
            lambda evidence: "update left out (said once): its updates point against those of the "
            'others; if several devices may do that, set aggregation = "multi_krum" in [server]',
        )  # fmt: skip

    def _suspected(
        self, trial: int, reason: str, sentence: Callable[[float], str]
    ) -> Callable[[int, int, float], None]:
        """Counts what was done about a client's updates, with a figure that shows how odd each is.

        An honest client's update is odd now and then, where it alone has still to learn. So a
        client is named once more than half of its updates were, and three at least.
        """

        def note(client: int, round: int, figure: float) -> None:
            self._odd[client, reason] += 1
            count = self._odd[client, reason]
            if count < IN_A_ROW or 2 * count <= self._trained[client]:
                return
            said = count if count == IN_A_ROW else 1
            self.refusals.note(client, trial, round, reason, sentence(figure), said)

        return note

    def _refused(self, client: int, report: Report, number: str, sentence: str) -> Report:
        message = _message(report)
        self.refusals.refuse(client, report.trial, report.round, message, number, sentence)
        detail = f"{self.refusals.name(client)}: {sentence}"[:500]
        failed = {"failure": "implausible", "detail": detail}
        if number == WEIGHTS:  # its other numbers are plausible, and count as usage
            return report.model_copy(update=failed)
        return type(report).parse({"trial": report.trial, "round": report.round, **failed})


def _message(report: Report) -> str:
    return "train" if isinstance(report, TrainReport) else "evaluate"
