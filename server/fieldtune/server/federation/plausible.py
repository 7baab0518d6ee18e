"""Bounds on what a client reports: no number is used that its device cannot have measured.

A device is trusted with its own data and with nothing else. Before anything is made of a report,
each number in it is held against what the device described of itself (:class:`Description`) and
against what is possible at all. One that lies beyond makes the report a failure ``implausible``:
the round goes on without it, and the device is named once for each number that it gets wrong.

Only what cannot be true is refused. A lie within the bounds passes, and so does what the device
alone can know, such as how many of its test samples the model gets right.

Numbers that are not finite are no concern of this module: diverged trainings end in them on honest
devices too, and :mod:`fieldtune.server.federation.fedavg` handles them. Temperatures, CPU seconds
and the training's own loss are not judged, since nothing is computed from them: a broken sensor
must not cost a device its part in the study.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from fieldtune.client.contract.messages import (
    METRICS,
    Description,
    EvaluateReport,
    TrainReport,
    TrainRequest,
    Weights,
)
from fieldtune.server.federation.fedavg import Answers, Exchange, Report, Request
from fieldtune.server.federation.fleet import Reply

MOST_SAMPLES = 100_000_000
"""That a device may hold: one a second for three years."""
MOST_MEMORY_MIB = 2**24
"""16 TiB, more than any single machine that trains has."""
MOST_WATTS = 3700.0
"""What a mains socket gives (16 A at 230 V); a Raspberry Pi draws under 10."""
MOST_CORES = 1024
MOST_SIMULATED_S = 30 * 86400.0
"""Seconds that a simulated device may need for one message; no clock runs with it."""

SLACK, SLACK_S = 1.1, 5.0
"""Allowed beyond a measured bound, for clocks that do not run equally fast: a factor, seconds."""

RUNAWAY, ORDINARY = 1e6, 1e3
"""Of the largest weight sent out, at least 1: a runaway weight is so many times as large, and the
weights of an ordinary training stay below so many times."""


def boot_time_s() -> float:
    """Seconds since this machine was booted, including those that it was suspended for."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def implausible(described: Description) -> str:
    """What a device cannot be as it describes itself, for a person to read; empty where it can."""
    bounds = (
        ("training samples", described.train_samples, MOST_SAMPLES),
        ("test samples", described.test_samples, MOST_SAMPLES),
        ("MiB of memory", described.memory_mib or 0.0, MOST_MEMORY_MIB),
    )
    for what, value, most in bounds:
        if value > most:
            return f"it describes itself with {value:.15g} {what}, and more than {most} are refused"
    return ""


@dataclass(frozen=True)
class Asked:
    """An exchange that was sent out, and when, by the coordinator's clock."""

    exchange: Exchange
    since_s: float


_WEIGHTS = "weights"
Wrong = tuple[str, str]
"""Which number is wrong, and what is wrong with it, in words that follow a device's name."""


class Bounds:
    """Judges the reports of one session.

    Args:
        members: the fleet.
        notes: is told, in a sentence, of a device whose report is refused.
        clock: seconds; only differences count.
    """

    def __init__(
        self,
        members: Sequence[Description],
        notes: Callable[[str], None],
        clock: Callable[[], float] = boot_time_s,
    ) -> None:
        self._members = {member.client: member for member in members}
        self._notes, self._clock = notes, clock
        self._named: set[tuple[int, str]] = set()

    def ask(self, exchange: Exchange) -> Asked:
        """Note that this is being sent out now."""
        return Asked(exchange, self._clock())

    def hear(self, reply: Reply) -> None:
        """Take note of what a device describes since it came back with other data.

        A reply from before may still be under way, so the largest amounts of the session count.
        """
        now, before = reply.described, self._members.get(reply.client)
        if now is None or before is None:
            return
        self._members[reply.client] = before.model_copy(
            update={
                "train_samples": max(before.train_samples, now.train_samples),
                "test_samples": max(before.test_samples, now.test_samples),
                "memory_mib": max(_memory_mib(before), _memory_mib(now)),
            }
        )

    def judge(self, asked: Asked, answers: Answers) -> dict[int, Report]:
        """The answers, in the order given; in the place of an implausible one is a failure."""
        limit_s = SLACK * (self._clock() - asked.since_s) + SLACK_S
        wrong = dict(_runaways(asked.exchange, answers))
        for client, report in answers.items():
            member, request = self._members[client], asked.exchange[client]
            if first := next(_beyond(report, request, member, limit_s), None):
                wrong[client] = first
        return {
            client: self._refused(client, report, *wrong[client]) if client in wrong else report
            for client, report in answers.items()
        }

    def _refused(self, client: int, report: Report, number: str, sentence: str) -> Report:
        name = self._members[client].name or f"client {client}"
        if (client, number) not in self._named:
            self._named.add((client, number))
            self._notes(
                f"{name}, trial {report.trial} round {report.round}: report refused as implausible "
                f"(said once): {sentence}"
            )
        failed = {"failure": "implausible", "detail": f"{name}: {sentence}"[:500]}
        if number == _WEIGHTS:  # what it measured is within the bounds, and is charged
            return report.model_copy(update=failed)
        return type(report).parse({"trial": report.trial, "round": report.round, **failed})


def _beyond(
    report: Report, request: Request, member: Description, limit_s: float
) -> Iterator[Wrong]:
    """The numbers of a report that lie beyond what this device can have measured.

    Args:
        report: what it answered.
        request: to this.
        member: as it described itself.
        limit_s: seconds that it can have been at it at most, by the coordinator's clock.
    """
    if isinstance(report, TrainReport):
        yield from _beyond_data("training", report.samples, member.train_samples)
        if isinstance(request, TrainRequest):
            yield from _more("steps", report.steps, request.local_epochs * member.train_samples,
                             "calls of the model for its samples")  # fmt: skip
    else:
        yield from _beyond_data("test", report.samples, member.test_samples)
        yield from _beyond_evaluation(report, getattr(request, "metric", ""))
    yield from _more("host_cpu_s", report.host_cpu_s, MOST_CORES * limit_s, "CPU seconds")
    if report.simulated and not member.name:
        limit_s = MOST_SIMULATED_S
    yield from _more("wall_s", report.wall_s, limit_s, "seconds of work")
    busy_s = limit_s if report.wall_s is None else report.wall_s
    yield from _more("energy_j", report.energy_j, MOST_WATTS * busy_s, "J in that time")
    memory_mib = SLACK * _memory_mib(member)
    yield from _more("peak_memory_mib", report.peak_memory_mib, memory_mib, "MiB of memory")
    calls = [report.call_p50_ms, report.call_p90_ms, report.call_p99_ms]
    if isinstance(report, EvaluateReport):
        calls.append(report.inference_ms)
    for call_ms in calls:
        yield from _more("call_ms", call_ms, 1e3 * SLACK * busy_s, "ms for one call in that time")


def _memory_mib(member: Description) -> float:
    return MOST_MEMORY_MIB if member.memory_mib is None else member.memory_mib


def _beyond_data(part: str, samples: int, described: int) -> Iterator[Wrong]:
    if samples > described:
        yield (
            f"{part} samples",
            f"it reports {samples} {part} samples and described {described}; if its data has "
            "grown, restart its client",
        )


def _more(number: str, reported: float | None, most: float, what: str) -> Iterator[Wrong]:
    if reported is not None and reported > most:
        sentence = f"it reports {number} = {reported:g}, and at most {most:g} {what} are possible"
        yield number, sentence


def _beyond_evaluation(report: EvaluateReport, metric: str) -> Iterator[Wrong]:
    """A loss is never negative; a built-in metric is a share and weighs at most its samples."""
    if math.isfinite(report.loss_sum) and report.loss_sum < -1e-3 * report.samples:
        yield "loss_sum", f"it reports loss_sum = {report.loss_sum:g}, and no loss is negative"
    if metric in METRICS:
        yield from _more("weight", report.weight, report.samples, "test samples")
        value = report.value
        if value is not None and math.isfinite(value) and not 0 <= value <= 1:
            yield "value", f"it reports {metric} = {value:g}, which is not within 0..1"


def _runaways(exchange: Exchange, answers: Answers) -> Iterator[tuple[int, Wrong]]:
    """Clients whose trained weights, though finite, are out of all proportion to the others'.

    With a learning rate that is too high weights grow without bound on honest devices as well, by
    any factor in one round, until they are no longer finite. So size alone proves nothing: such
    weights are refused only where most of the round did not diverge. That is, where the largest
    weight is above ``RUNAWAY`` and the median of the others' largest weights is at most
    ``ORDINARY`` times that of the weights sent out (at least 1); a training that diverged counts
    as infinitely large among the others. A round in which half of the trainings or more grow out
    of all bounds is thus left as it is, and the trial ends as diverged.

    Compared are trainings with the same hyperparameters, since a configuration of FedEx's may
    diverge alone; where nobody else in the round has them, nothing is refused. An honest device
    whose training alone diverges, as that of one with far more data may, is left out as if its
    weights were no longer finite.
    """
    groups: dict[tuple[object, ...], dict[int, float]] = defaultdict(dict)
    sent: dict[tuple[object, ...], Weights] = {}
    for client, report in answers.items():
        request, size = exchange[client], _size(report)
        if isinstance(request, TrainRequest) and size is not None:
            settings = (request.batch_size, request.local_epochs, request.hyperparameter_values)
            groups[settings][client] = size
            sent[settings] = request.weights
    for shared, sizes in groups.items():
        scale = max(1.0, _largest(sent[shared]))
        for client, size in sizes.items():
            others = [other for at, other in sizes.items() if at != client]
            if RUNAWAY * scale < size < math.inf and others and median(others) <= ORDINARY * scale:
                sentence = (
                    f"its largest weight is {size:.2g}, that of the others {median(others):.2g} in "
                    "the median: it is false, or this device's training alone diverged"
                )
                yield client, (_WEIGHTS, sentence)


def _size(report: Report) -> float | None:
    """The largest weight that a training came to; infinite where it diverged."""
    if report.failure == "diverged":
        return math.inf
    if report.failure or not isinstance(report, TrainReport) or report.weights is None:
        return None
    return _largest(report.weights)


def _largest(weights: Weights) -> float:
    """The largest absolute weight; infinite where one is not finite."""
    if not weights.size:
        return 0.0
    largest = max(-float(weights.min()), float(weights.max()))
    return largest if math.isfinite(largest) else math.inf
