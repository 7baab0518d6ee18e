"""Single reports, and one round's together: numbers that no device can have measured.

Only impossible values are rejected. False values within the bounds are accepted, as is everything
that only the device can know, such as the number of its test samples that the model gets right.

Losses far above the others' are handled in :mod:`losses`. Losses and metrics that are not finite
are handled in :mod:`local_training` and :mod:`evaluation`, since diverged trainings give them on
honest devices too. Temperatures and the training loss are not checked, so that a broken sensor does
not exclude a device: no cost or objective follows from them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from statistics import median

import numpy as np

from fieldtune.client.contract.encoding import decode
from fieldtune.client.contract.messages import (
    METRICS,
    Description,
    EvaluateReport,
    EvaluateRequest,
    TrainReport,
    TrainRequest,
    Weights,
)
from fieldtune.server.federation.descriptions import MOST_MEMORY_MIB
from fieldtune.server.federation.evaluation import inconsistent
from fieldtune.server.federation.exchange import Answers, Exchange, Report, Request

MOST_WATTS = 3700.0
"""The power of a mains socket (16 A at 230 V); a Raspberry Pi takes less than 10 W."""
MOST_CORES = 1024
MOST_SIMULATED_S = 30 * 86400.0
"""The most simulated seconds for one request; they cannot be compared with a clock."""

SLACK, SLACK_S = 1.1, 5.0
"""Tolerance for clocks that differ in speed: a factor, and seconds."""

RUNAWAY, ORDINARY = 1e6, 1e3
"""Multiples of the largest weight sent out (at least 1): a runaway weight is above the first one;
ordinary training stays below the second one."""

WEIGHTS = "weights"
"""The reason of a report whose weights alone are wrong: its other numbers count as usage."""
Wrong = tuple[str, str]
"""The name of an implausible number, and a sentence about it that follows a device's name."""


def unusable(report: Report, request: Request, classes: int | None) -> Iterator[Wrong]:
    """Why a report that claims success cannot be used.

    Args:
        report: of the device.
        request: that it answers.
        classes: of the task; 0 where the model reconstructs its input, None if not known.
    """
    if report.failure == "implausible":  # it could not be read
        yield "message", report.detail or "it says so itself"
    elif report.failure:
        return
    elif isinstance(report, TrainReport):
        if isinstance(request, TrainRequest):
            sent = request.weights.shape
            got = None if report.weights is None else report.weights.shape
            if got != sent:
                yield WEIGHTS, f"it reports weights of shape {got}, and {sent} were asked for"
            if report.samples == 0:
                yield "training samples", "it reports that it trained on 0 samples"
    elif classes is not None and (why := inconsistent(report, classes)) and "add up" in why:
        yield "counts", why


def decoded(report: Report, request: Request) -> tuple[Report, Wrong | None]:
    """The report with weights in place of an encoded update, and why that cannot be done.

    The size of an encoding follows from the request, so that none is larger than was asked for.
    """
    if not isinstance(report, TrainReport) or not isinstance(request, TrainRequest):
        return report, None
    if report.failure:
        return report, None
    if report.encoded is None and request.update is None:
        return report, None
    if report.encoded is None or request.update is None or report.weights is not None:
        asked = request.update or "float32"
        return report, (WEIGHTS, f"its update is not encoded as {asked}, which was asked for")
    size, share = request.weights.size, request.topk_share or 1.0
    try:
        update = decode(report.encoded, request.update, size, share)
    except ValueError as wrong:
        return report, (WEIGHTS, f"its update cannot be decoded: {wrong}")
    with np.errstate(over="ignore"):  # the sum is then infinite, as of a training that diverged
        return report.model_copy(update={"weights": request.weights + update}), None


Sizes = Mapping[int, float | None]
"""Client -> its largest weight after a training: infinite if it diverged, None if it failed
otherwise or has not trained."""


def largest_weights(answers: Answers) -> Sizes:
    """The largest absolute weight that each client reports."""
    return {client: _size(report) for client, report in answers.items()}


def out_of_bounds(
    report: Report, request: Request, member: Description, limit_s: float
) -> Iterator[Wrong]:
    """The numbers of a report that this device cannot have measured.

    Args:
        report: of the device.
        request: that it answers.
        member: the device's description.
        limit_s: the most seconds that it can have worked, by the coordinator's clock.
    """
    if isinstance(report, TrainReport):
        yield from _too_many_samples("training", report.samples, member.train_samples)
        if isinstance(request, TrainRequest):
            yield from _above("steps", report.steps, request.local_epochs * member.train_samples,
                             "calls of the model for its samples")  # fmt: skip
    else:
        personal = request.personal if isinstance(request, EvaluateRequest) else None
        most = personal.steps * personal.batch_size if personal else 0
        yield from _above("steps", report.steps, most, "calls of the model before its evaluation")
        yield from _too_many_samples("test", report.samples, member.test_samples)
        yield from _implausible_evaluation(report, getattr(request, "metric", ""))
    yield from _above("host_cpu_s", report.host_cpu_s, MOST_CORES * limit_s, "CPU seconds")
    if report.simulated and not member.name:
        limit_s = MOST_SIMULATED_S
    yield from _above("wall_s", report.wall_s, limit_s, "seconds of work")
    busy_s = limit_s if report.wall_s is None else report.wall_s
    yield from _above("energy_j", report.energy_j, MOST_WATTS * busy_s, "J in that time")
    most_mib = SLACK * memory_mib(member)
    yield from _above("peak_memory_mib", report.peak_memory_mib, most_mib, "MiB of memory")
    calls = [report.call_p50_ms, report.call_p90_ms, report.call_p99_ms]
    if isinstance(report, EvaluateReport):
        calls.append(report.inference_ms)
    for call_ms in calls:
        yield from _above("call_ms", call_ms, 1e3 * SLACK * busy_s, "ms for one call in that time")


def memory_mib(member: Description) -> float:
    """The memory that a device describes, in MiB; the most that is possible where it does not."""
    return MOST_MEMORY_MIB if member.memory_mib is None else member.memory_mib


def _too_many_samples(part: str, samples: int, described: int) -> Iterator[Wrong]:
    if samples > described:
        yield (
            f"{part} samples",
            f"it reports {samples} {part} samples and described {described}; if its data has "
            "grown, restart its client",
        )


def _above(number: str, reported: float | None, most: float, what: str) -> Iterator[Wrong]:
    if reported is not None and reported > most:
        sentence = f"it reports {number} = {reported:g}, and at most {most:g} {what} are possible"
        yield number, sentence


def _implausible_evaluation(report: EvaluateReport, metric: str) -> Iterator[Wrong]:
    """A loss is not negative; a built-in metric is in 0..1, and its weight at most its samples.

    All but ``auc`` follow from the counts, and so have no value of their own.
    """
    if math.isfinite(report.loss_sum) and report.loss_sum < -1e-3 * report.samples:
        yield "loss_sum", f"it reports loss_sum = {report.loss_sum:g}, and no loss is negative"
    if metric in METRICS:
        yield from _above("weight", report.weight, report.samples, "test samples")
        value = report.value
        if value is not None and metric != "auc":
            yield "value", f"it reports a value of {metric}, which follows from its counts"
        elif value is not None and math.isfinite(value) and not 0 <= value <= 1:
            yield "value", f"it reports {metric} = {value:g}, which is not within 0..1"


def runaway_weights(exchange: Exchange, largest: Sizes) -> Iterator[tuple[int, Wrong]]:
    """Clients whose trained weights are finite, but far larger than those of the other clients.

    With a learning rate that is too high, weights grow without bound on honest devices as well, by
    any factor in one round, until they are no longer finite. So large weights are rejected only if
    most of the round did not diverge: the client's largest weight is above ``RUNAWAY``, and the
    median of the others' largest weights is at most ``ORDINARY``, both times the largest weight
    sent out (at least 1). Among the others, a diverged training counts as infinitely large. So
    nothing is rejected in a round in which half of the trainings or more diverge, and the trial
    ends as diverged.

    Trainings are compared with those of the same hyperparameters, since with FedEx a single
    configuration may diverge; if no other client in the round has them, nothing is rejected. An
    honest device whose training alone diverges, for example one with far more data, is left out as
    if its weights were not finite.
    """
    groups: dict[tuple[object, ...], dict[int, float]] = defaultdict(dict)
    sent: dict[tuple[object, ...], Weights] = {}
    for client, size in largest.items():
        request = exchange[client]
        if isinstance(request, TrainRequest) and size is not None:
            settings = (request.batch_size, request.local_epochs, request.hyperparameter_values)
            groups[settings][client] = size
            sent[settings] = request.weights
    for shared, sizes in groups.items():
        scale = max(1.0, _largest(sent[shared]))
        for client, size in sizes.items():
            if not RUNAWAY * scale < size < math.inf:
                continue
            others = [other for at, other in sizes.items() if at != client]
            if others and median(others) <= ORDINARY * scale:
                sentence = (
                    f"its largest weight is {size:.2g}, that of the others {median(others):.2g} in "
                    "the median: it is false, or this device's training alone diverged"
                )
                yield client, (WEIGHTS, sentence)


def _size(report: Report) -> float | None:
    """The largest weight after a training: infinite if it diverged, None if it failed otherwise."""
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
