"""What a trial took of its devices, by device type: busy seconds, joules, bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fieldtune.client.contract.messages import EvaluateReport, TrainReport
from fieldtune.profiles.costmodel.cost import MESSAGE_BYTES, PROTOCOL_FACTOR
from fieldtune.server.costs.calibration import Expected
from fieldtune.server.outcomes.trial import Expense, Forecast, Infeasible, Outcome

Report = TrainReport | EvaluateReport


class Bill:
    """Adds up one training, over every exchange and whatever came of it.

    A device that did not report its time is charged what its profile predicts of a round, and one
    that did not measure its energy the power of its profile meanwhile.

    Args:
        expected: client -> its type and what is predicted for it.
        forecast: of the trial.
    """

    def __init__(self, expected: Mapping[int, Expected], forecast: Forecast) -> None:
        self._expected, self._forecast = expected, forecast
        self._by_profile: dict[str, Expense] = {}

    def take(self, answers: Mapping[int, Report]) -> None:
        """Charge the reports of one exchange, in the order of the clients: sums are of floats."""
        for client, report in sorted(answers.items()):
            expected = self._expected[client]
            trains = isinstance(report, TrainReport)
            busy_s = report.wall_s
            if busy_s is None:
                cost = self._forecast.devices[expected.profile].cost
                busy_s = cost.training_s.value if trains else 0.0
            energy_j = report.energy_j
            if energy_j is None and expected.power is not None:
                energy_j = busy_s * expected.power.value
            weights = report.weights if isinstance(report, TrainReport) else None
            payload = 0 if weights is None else weights.nbytes
            sent = payload * PROTOCOL_FACTOR.value + MESSAGE_BYTES.value
            self._by_profile[expected.profile] = _sum(
                [
                    self._by_profile.get(expected.profile, NOTHING),
                    Expense(busy_s, energy_j, sent),
                ]
            )

    def total(self) -> dict[str, Expense]:
        """Device type -> what was taken of it so far."""
        return dict(sorted(self._by_profile.items()))


NOTHING = Expense(0.0, 0.0, 0.0)


def _sum(expenses: Iterable[Expense]) -> Expense:
    """Together; joules are not known where those of a part are not."""
    parts = list(expenses)
    joules = [part.energy_j for part in parts if part.energy_j is not None]
    return Expense(
        sum(part.device_s for part in parts),
        sum(joules) if len(joules) == len(parts) else None,
        sum(part.sent_bytes for part in parts),
    )


def by_device(outcomes: Iterable[Outcome]) -> dict[str, Expense]:
    """Device type -> what the outcomes together took of it."""
    found: dict[str, list[Expense]] = {}
    for outcome in outcomes:
        if not isinstance(outcome, Infeasible):
            for profile, expense in outcome.expense.items():
                found.setdefault(profile, []).append(expense)
    return {profile: _sum(expenses) for profile, expenses in sorted(found.items())}


def altogether(outcomes: Iterable[Outcome]) -> Expense:
    """What the outcomes took of the whole fleet."""
    return _sum([NOTHING, *by_device(outcomes).values()])
