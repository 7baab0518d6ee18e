"""Calibration of predicted costs with what devices report.

Each trial gives one ratio of reported to predicted value per device type and quantity: the median
over its clients' reports, which is robust against outliers. The ratios of the finished trials give
the correction factors (:mod:`fieldtune.profiles.costmodel.calibration`). Reports are compared with
uncalibrated predictions, so that a correction does not influence itself.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Literal, get_args

import numpy as np

from fieldtune.client.contract.messages import EvaluateReport, TrainReport
from fieldtune.profiles.common.estimate import Estimate
from fieldtune.profiles.costmodel.calibration import Correction, Corrections, Reports
from fieldtune.profiles.costmodel.transfer import Link
from fieldtune.server.outcomes.trial import Failed, Observation, Observed, Outcome, Trained

Report = TrainReport | EvaluateReport
Quantity = Literal["training", "inference", "memory", "power"]
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)

MOST_FACTOR, MOST_FACTOR_ALONE = 10.0, 3.0
"""Bounds of a correction: predictions are at most multiplied or divided by this. The second one is
for a type of which the fleet has one device, whose reports no other one confirms."""
_STEP = 0.02
"""The logarithms of factors and of their intervals' ends are rounded to multiples of this (2 %):
otherwise every trial would change them, and everything computed from them had to be recomputed."""


@dataclass(frozen=True)
class Expected:
    """What a client's device profile predicts for its reports, without calibration."""

    profile: str
    micro_batch: int
    training: Estimate
    """Milliseconds of a call of ``train``."""
    inference: Estimate
    """Milliseconds of a call of ``evaluate``: a forward pass of a micro-batch."""
    memory: Estimate
    """Peak memory of the training process in MiB."""
    power: Estimate | None = None
    """Watts of the device while it trains; None where its profile does not say."""
    link: Link | None = None
    """Of the device type."""
    round_s: float = 0.0
    """Seconds of one training, transfers included, the artefact aside."""


class ObservationCollector:
    """Compares the reports of one training with the predictions.

    Args:
        expected: client -> predictions for it.
    """

    def __init__(self, expected: Mapping[int, Expected]) -> None:
        self._expected = expected
        self._pairs: dict[tuple[str, Quantity, bool], array[float]] = {}
        """Device type, quantity, whether simulated -> for each report the predicted value, the ends
        of its interval, and the reported value."""
        self._left_out: dict[str, int] = defaultdict(int)

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` needs to continue: mappings of JSON values and arrays."""
        return {
            "left_out": dict(self._left_out),
            "keys": [list(key) for key in self._pairs],
            "pairs": [np.array(pairs) for pairs in self._pairs.values()],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a stored state."""
        self._left_out.update(state["left_out"])
        self._pairs = {
            (profile, quantity, simulated): array("d", pairs.tolist())
            for (profile, quantity, simulated), pairs in zip(
                state["keys"], state["pairs"], strict=True
            )
        }

    def take(self, answers: Mapping[int, Report]) -> None:
        """Add the reports of one exchange; those of throttled or swapping devices are left out."""
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
                    pairs = self._pairs.setdefault(key, array("d"))
                    pairs.extend((predicted.value, predicted.low, predicted.high, reported))

    def observed(self) -> dict[str, Observed]:
        """Predicted and reported values of each device type that reported."""
        found: dict[str, dict[str, Observation]] = defaultdict(dict)
        clients = Counter(each.profile for each in self._expected.values())
        for profile, quantity, simulated in sorted(self._pairs, reverse=True):
            # In this order measured values come after simulated ones, and override them.
            rows = np.reshape(self._pairs[profile, quantity, simulated], (-1, 4)).tolist()
            pairs = [(Estimate(*row[:3]), row[3]) for row in rows]
            ratio = median(reported / predicted.value for predicted, reported in pairs)
            middle = sorted(pairs, key=_by_prediction)[len(pairs) // 2][0]
            found[profile][quantity] = Observation(
                middle, ratio * middle.value, len(pairs), simulated, clients[profile]
            )
        return {
            profile: Observed(found[profile], self._left_out[profile])
            for profile in sorted({*found, *self._left_out})
        }


def _by_prediction(pair: tuple[Estimate, float]) -> float:
    return pair[0].value


def _reported(report: Report, micro_batch: int) -> Iterator[tuple[Quantity, float]]:
    """The reported value of each quantity, where the report has it.

    The latency of a device is the median over its calls after warm-up, which is missing after too
    few calls. Simulated calls all take equally long.
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
    """One observation per trial of a quantity on a device type: measured, else simulated ones."""
    observations = [
        observation
        for outcome in outcomes
        if isinstance(outcome, Trained)
        and profile in outcome.observed
        and (observation := outcome.observed[profile].quantities.get(quantity)) is not None
    ]
    measured = [each for each in observations if not each.simulated]
    return measured or observations


def corrections(outcomes: Sequence[Outcome]) -> dict[str, Corrections]:
    """Correction factors by device type, fitted to these outcomes."""
    return Calibrator().corrections(outcomes)


class _Observations:
    """The observations of one quantity on one device type, measured or simulated."""

    def __init__(self) -> None:
        self.reports, self.seen, self.alone = Reports(), False, False

    def add(self, observation: Observation) -> None:
        self.seen, self.alone = True, self.alone or observation.devices == 1
        self.reports.add(observation.predicted, observation.reported)


class Calibrator:
    """Fits correction factors to a growing list of outcomes; each outcome is looked at once."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._taken: list[Trained] = []
        self._seen: dict[tuple[str, str, bool], _Observations] = defaultdict(_Observations)
        """Device type, quantity, whether simulated -> its observations."""
        self._profiles: set[str] = set()
        self._fitted: dict[int, dict[str, Corrections]] = {}
        """Number of trained outcomes -> the corrections fitted to them."""

    def corrections(self, outcomes: Sequence[Outcome]) -> dict[str, Corrections]:
        """Correction factors by device type, fitted to these outcomes.

        It is quick where they continue those of an earlier call, or are as many as once before.
        """
        trained = [outcome for outcome in outcomes if isinstance(outcome, Trained)]
        count = len(trained)
        if trained[: len(self._taken)] != self._taken[:count]:  # compares by identity first
            self._forget()
        if count not in self._fitted:
            if count < len(self._taken):
                return Calibrator().corrections(trained)
            for outcome in trained[len(self._taken) :]:
                self._take(outcome)
            self._taken = trained
            self._fitted[count] = self._fit()
        return self._fitted[count]

    def _take(self, outcome: Trained) -> None:
        for profile, observed in outcome.observed.items():
            self._profiles.add(profile)
            for quantity, observation in observed.quantities.items():
                self._seen[profile, quantity, observation.simulated].add(observation)

    def _fit(self) -> dict[str, Corrections]:
        return {
            profile: Corrections(
                **{quantity: self._correction(profile, quantity) for quantity in QUANTITIES}
            )
            for profile in sorted(self._profiles)
        }

    def _correction(self, profile: str, quantity: str) -> Correction:
        simulated = not self._seen[profile, quantity, False].seen
        observed = self._seen[profile, quantity, simulated]
        found = observed.reports.correction(simulated=simulated and observed.seen)
        most = MOST_FACTOR_ALONE if observed.alone else MOST_FACTOR
        return replace(
            found,
            factor=_rounded(found.factor, most),
            low=_rounded(found.low, most),
            high=_rounded(found.high, most),
            scatter=_STEP * round(found.scatter / _STEP),
        )


def _rounded(factor: float, most: float) -> float:
    return math.exp(_STEP * round(math.log(min(max(factor, 1 / most), most)) / _STEP))


def was_sent(outcome: Outcome) -> bool:
    """Whether a trial was sent to devices."""
    return isinstance(outcome, Trained) or (isinstance(outcome, Failed) and outcome.sent)


def finished_before(
    number: float, sent: Sequence[Outcome], in_flight: Collection[int], parallel: int
) -> list[Outcome]:
    """The outcomes that were known when a trial was proposed, without infeasible ones.

    The latest ``parallel - 1`` trials sent to devices before it were still in flight then. That
    follows from the numbers alone, so a study that was killed and resumed treats its trials the
    same, although it may have more outcomes by then.

    Args:
        number: of the trial; infinity for the next one.
        sent: all outcomes so far of which :func:`was_sent` holds, by number.
        in_flight: numbers of the trials that are being trained.
        parallel: number of trials in flight at a time.
    """
    told = list(sent[: bisect_left(sent, number, key=_number)])
    later = parallel - 1
    if later:
        numbers = {each.proposal.number for each in told[-later:]}
        latest = sorted({*numbers, *(n for n in in_flight if n < number)})[-later:]
        first = latest[0] if len(latest) == later else -math.inf
        while told and told[-1].proposal.number >= first:
            told.pop()
    return told


def _number(outcome: Outcome) -> int:
    return outcome.proposal.number
