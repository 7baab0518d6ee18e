"""What devices reported against what their profiles predicted, and what is learned from it.

A trial leaves one ratio for each device type and quantity: the median over its clients' reports,
which no few of them can move far. From the ratios of the trials told so far come the type's
corrections (:mod:`fieldtune.profiles.costmodel.calibration`). Reports are compared to the
catalogue's own predictions, never to corrected ones, so that a correction does not feed on itself.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal, get_args

from fieldtune.client.contract.messages import EvaluateReport, TrainReport
from fieldtune.profiles.common.estimate import Estimate
from fieldtune.profiles.costmodel.calibration import Correction, Corrections, correction
from fieldtune.server.outcomes.trial import Failed, Observation, Observed, Outcome, Trained

Report = TrainReport | EvaluateReport
Quantity = Literal["training", "inference", "memory", "power"]
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)

_STEP = 0.02
"""Factors are rounded to whole multiples of this, in natural logarithms (2 %). A correction moves a
little with every trial, and whatever is computed from it would have to be computed again."""


@dataclass(frozen=True)
class Expected:
    """What the catalogue predicts that a client will report."""

    profile: str
    micro_batch: int
    training: Estimate
    """Milliseconds of a call of ``train``."""
    inference: Estimate
    """Milliseconds of a call of ``evaluate``: a forward pass of a micro-batch."""
    memory: Estimate
    """MiB of the training process at its peak."""
    power: Estimate | None = None
    """Watts of the device while it trains; None where its profile does not tell."""


class Watch:
    """Collects the reports of one training.

    Args:
        expected: client -> what is predicted for it.
    """

    def __init__(self, expected: Mapping[int, Expected]) -> None:
        self._expected = expected
        self._pairs: dict[tuple[str, Quantity, bool], list[tuple[Estimate, float]]] = defaultdict(
            list
        )
        self._left_out: dict[str, int] = defaultdict(int)

    def take(self, answers: Mapping[int, Report]) -> None:
        """Take the reports of one exchange; a throttled or swapping device's are only counted."""
        for client, report in answers.items():
            expected = self._expected.get(client)
            if expected is None or report.failure is not None:
                continue
            if not report.is_sound:
                self._left_out[expected.profile] += 1
                continue
            for quantity, reported in _reported(report, expected.micro_batch):
                predicted: Estimate | None = getattr(expected, quantity)
                if predicted is not None and predicted.value > 0 and reported > 0:
                    key = (expected.profile, quantity, report.simulated)
                    self._pairs[key].append((predicted, reported))

    def observed(self) -> dict[str, Observed]:
        """Of each device type that reported, what it said."""
        found: dict[str, dict[str, Observation]] = defaultdict(dict)
        for (profile, quantity, simulated), pairs in sorted(self._pairs.items(), reverse=True):
            # Sorted this way a device's own word comes after a simulated one, and replaces it.
            ratio = median(reported / predicted.value for predicted, reported in pairs)
            middle = sorted(pairs, key=_by_prediction)[len(pairs) // 2][0]
            found[profile][quantity] = Observation(
                middle, ratio * middle.value, len(pairs), simulated
            )
        return {
            profile: Observed(found[profile], self._left_out[profile])
            for profile in sorted({*found, *self._left_out})
        }


def _by_prediction(pair: tuple[Estimate, float]) -> float:
    return pair[0].value


def _reported(report: Report, micro_batch: int) -> Iterator[tuple[Quantity, float]]:
    """What a report says of each quantity.

    A device's latency is its median call after warm-up; with too few calls for one it says nothing.
    Simulated calls all take equally long.
    """
    if isinstance(report, TrainReport):
        if (call_ms := _call_ms(report, report.steps)) is not None:
            yield "training", call_ms
        if report.peak_memory_mib is not None:
            yield "memory", report.peak_memory_mib
        if report.energy_j is not None and report.wall_s:
            yield "power", report.energy_j / report.wall_s
        return
    if (call_ms := _call_ms(report, math.ceil(report.samples / micro_batch))) is not None:
        yield "inference", call_ms


def _call_ms(report: Report, calls: int) -> float | None:
    if report.call_p50_ms is not None:
        return report.call_p50_ms
    if report.simulated and report.wall_s is not None and calls:
        return 1e3 * report.wall_s / calls
    return None


def pairs_of(outcomes: Iterable[Outcome], profile: str, quantity: str) -> list[Observation]:
    """What a device type said of a quantity, one entry a trial; measured, if anything was."""
    said = [
        observation
        for outcome in outcomes
        if isinstance(outcome, Trained)
        and profile in outcome.observed
        and (observation := outcome.observed[profile].quantities.get(quantity)) is not None
    ]
    return [each for each in said if not each.simulated] or said


def corrections(outcomes: Sequence[Outcome]) -> dict[str, Corrections]:
    """Device type -> what these outcomes teach about it."""
    profiles = {
        profile
        for outcome in outcomes
        if isinstance(outcome, Trained)
        for profile in outcome.observed
    }
    return {
        profile: Corrections(
            **{quantity: _correction(outcomes, profile, quantity) for quantity in QUANTITIES}
        )
        for profile in sorted(profiles)
    }


def _correction(outcomes: Iterable[Outcome], profile: str, quantity: str) -> Correction:
    said = pairs_of(outcomes, profile, quantity)
    pairs = [(each.predicted, each.reported) for each in said]
    found = correction(pairs, simulated=any(each.simulated for each in said))
    return replace(found, factor=math.exp(_STEP * round(math.log(found.factor) / _STEP)))


def known_before(
    number: float, outcomes: Iterable[Outcome], in_flight: Collection[int], parallel: int
) -> list[Outcome]:
    """The outcomes that had been told when a trial was asked for.

    The latest ``parallel - 1`` trials sent to devices before it were still in flight then. That
    follows from the numbers alone, so a study that was killed and taken up again, which by then may
    have been told more, judges its trials by the same knowledge.

    Args:
        number: of the trial; infinity for the next one.
        outcomes: all told so far.
        in_flight: numbers of the trials that devices are working on.
        parallel: trials in flight at a time.
    """
    told = {outcome.proposal.number: outcome for outcome in outcomes}
    sent = sorted({*in_flight, *(n for n, outcome in told.items() if _was_sent(outcome))})
    before = [n for n in sent if n < number]
    return [told[n] for n in before[: max(len(before) - (parallel - 1), 0)] if n in told]


def _was_sent(outcome: Outcome) -> bool:
    return isinstance(outcome, Trained) or (isinstance(outcome, Failed) and outcome.sent)
