"""Device usage of a trial by device type: busy seconds, joules, bytes sent."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple
from functools import reduce
from typing import Any

from fieldtune.client.contract.messages import EvaluateReport, TrainReport
from fieldtune.profiles.costmodel.cost import MESSAGE_BYTES, PROTOCOL_FACTOR
from fieldtune.server.costs.calibration import Expected
from fieldtune.server.outcomes.trial import Expense, Forecast, Infeasible, Outcome

Report = TrainReport | EvaluateReport
MOST_TIMES, SLACK_S = 10.0, 1.0
"""Multiple of the upper end of the predicted time, and seconds, up to which a report counts."""


class UsageMeter:
    """Adds up the device usage of one training, failed requests included.

    Where a device reports no time, the predicted time of a round counts; where it reports no
    energy, its time multiplied by the power of its profile. What a device reports counts up to a
    multiple of the prediction (:data:`MOST_TIMES`), so that none can use up a study's budget.

    Args:
        expected: client -> its device type and the predictions for it.
        forecast: of the trial.
    """

    def __init__(self, expected: Mapping[int, Expected], forecast: Forecast) -> None:
        self._expected, self._forecast = expected, forecast
        self._by_profile: dict[str, Expense] = {}

    def take(self, answers: Mapping[int, Report]) -> None:
        """Add the reports of one exchange, sorted by client so that float sums are reproducible."""
        for client, report in sorted(answers.items()):
            if report.failure == "sits_out":
                continue
            expected = self._expected[client]
            trains = isinstance(report, TrainReport)
            if report.wall_s is None:
                cost = self._forecast.devices[expected.profile].cost
                busy_s = cost.training_s.value if trains else 0.0
            else:
                busy_s = min(report.wall_s, _most_s(report, expected))
            energy_j = report.energy_j
            if expected.power is not None:
                power_w = expected.power
                most_j = busy_s * MOST_TIMES * power_w.high
                energy_j = busy_s * power_w.value if energy_j is None else min(energy_j, most_j)
            payload = report.payload_bytes if isinstance(report, TrainReport) else 0
            sent = payload * PROTOCOL_FACTOR.value + MESSAGE_BYTES.value
            before = self._by_profile.get(expected.profile, NO_USAGE)
            self._by_profile[expected.profile] = _plus(before, Expense(busy_s, energy_j, sent))

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` needs to continue, as JSON values."""
        return {profile: list(astuple(used)) for profile, used in self._by_profile.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a stored state."""
        self._by_profile = {profile: Expense(*used) for profile, used in state.items()}

    def total(self) -> dict[str, Expense]:
        """Usage so far by device type."""
        return dict(sorted(self._by_profile.items()))


def _most_s(report: Report, expected: Expected) -> float:
    """The most seconds that are counted for a report."""
    if isinstance(report, TrainReport):
        predicted_ms = expected.training.high * report.steps
    else:
        predicted_ms = expected.inference.high * math.ceil(report.samples / expected.micro_batch)
        predicted_ms += expected.training.high * (report.steps or 0)
    return MOST_TIMES * predicted_ms / 1e3 + SLACK_S


NO_USAGE = Expense(0.0, 0.0, 0.0)


def _plus(one: Expense, other: Expense) -> Expense:
    """The sum; joules are None where those of either part are."""
    known = one.energy_j is not None and other.energy_j is not None
    return Expense(
        one.device_s + other.device_s,
        one.energy_j + other.energy_j if known else None,  # type: ignore[operator]
        one.sent_bytes + other.sent_bytes,
    )


class RunningUsage:
    """Usage of a growing list of outcomes; each is added once."""

    def __init__(self) -> None:
        self._counted: list[Outcome] = []
        self._by_device: dict[str, Expense] = {}

    def by_device(self, outcomes: Sequence[Outcome]) -> dict[str, Expense]:
        """By device type; quick where the outcomes continue those of the last call."""
        counted = len(self._counted)
        if outcomes[:counted] != self._counted:  # compares by identity first
            self._by_device, counted = {}, 0
        for outcome in outcomes[counted:]:
            if not isinstance(outcome, Infeasible):
                for profile, each in outcome.expense.items():
                    before = self._by_device.get(profile, NO_USAGE)
                    self._by_device[profile] = _plus(before, each)
        self._counted = list(outcomes)
        return dict(sorted(self._by_device.items()))

    def total(self, outcomes: Sequence[Outcome]) -> Expense:
        """On the whole fleet."""
        return reduce(_plus, self.by_device(outcomes).values(), NO_USAGE)


def by_device(outcomes: Iterable[Outcome]) -> dict[str, Expense]:
    """Usage of all outcomes together, by device type."""
    return RunningUsage().by_device(list(outcomes))


def total_usage(outcomes: Iterable[Outcome]) -> Expense:
    """Usage of all outcomes on the whole fleet."""
    return RunningUsage().total(list(outcomes))
