"""What ``pareto.json`` says of all trials, whatever became of them: their history and failures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from statistics import median

from fieldtune.profiles.common.estimate import Estimate
from fieldtune.profiles.costmodel.calibration import Correction
from fieldtune.server.costs.architecture_costs import Calibration
from fieldtune.server.costs.calibration import QUANTITIES, pairs_of
from fieldtune.server.costs.usage import total_usage
from fieldtune.server.outcomes.trial import (
    Completed,
    DeviceRecord,
    Failed,
    Infeasible,
    Outcome,
    Stopped,
    Trained,
    worst_constraint,
)
from fieldtune.server.results.schema import Attempt, DeviceSeen, Reported
from fieldtune.server.study.objectives import Objective


def fits_any(outcome: Completed) -> bool:
    """Whether a trial fits any device; the latest calibration may say that it does not."""
    return any(device.fitting for device in outcome.forecast.devices.values())


def attempt(outcome: Outcome, objectives: Sequence[Objective]) -> Attempt:
    """A trial's line of the history."""
    curve = {}
    if isinstance(outcome, Trained):
        reached = {**outcome.learned.curve, outcome.learned.rounds: outcome.learned.measures}
        names = [each.name for each in objectives if each.learned]
        curve = {
            rounds: {name: measures[name] for name in names if name in measures}
            for rounds, measures in sorted(reached.items())
        }
    common = {
        "curve": curve,
        "trial": outcome.proposal.number,
        "configuration": outcome.proposal.configuration.flat(),
        "phase": outcome.proposal.phase,
        "spent": _spent(outcome),
        "timing": _timing(outcome),
    }
    match outcome:
        case Completed() if fits_any(outcome):
            return Attempt(
                **common,
                state="completed",
                objectives=dict(outcome.objectives),
                constraints=dict(outcome.forecast.constraints),
                rounds=outcome.learned.rounds,
            )
        case Stopped():
            return Attempt(
                **common,
                state="stopped",
                objectives=dict(outcome.objectives),
                constraints=dict(outcome.forecast.constraints),
                reason=f"not among the best after round {outcome.stopped_after}",
                rounds=outcome.stopped_after,
            )
        case Infeasible() | Completed():
            return Attempt(
                **common,
                state="infeasible",
                objectives={},
                constraints=dict(outcome.forecast.constraints),
                reason=worst_constraint(outcome.forecast.constraints),
                rounds=outcome.learned.rounds if isinstance(outcome, Completed) else 0,
            )
        case Failed():
            return Attempt(
                **common, state="failed", objectives={}, constraints={}, reason=outcome.reason
            )


def _spent(outcome: Outcome) -> dict[str, float]:
    """What a trial took of all devices together; nothing of one that was not sent to them."""
    if isinstance(outcome, Infeasible) or not outcome.expense:
        return {}
    return {k: v for k, v in vars(total_usage([outcome])).items() if v is not None}


def _timing(outcome: Outcome) -> dict[str, float]:
    """The time of a training, where it is known."""
    timing = outcome.learned.timing if isinstance(outcome, Trained) else None
    return {} if timing is None else asdict(timing)


def failure_counts(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Kind of failure -> number of requests that failed so."""
    found: Counter[str] = Counter()
    for outcome in outcomes:
        if isinstance(outcome, Trained):
            found.update(outcome.learned.failures)
        elif isinstance(outcome, Failed):
            found.update(outcome.failures)
    return dict(sorted(found.items()))


def refusal_counts(outcomes: Sequence[Outcome]) -> dict[str, dict[str, int]]:
    """Device -> reason -> number of its reports that were refused or scaled down."""
    found: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        if not isinstance(outcome, Infeasible):
            for name, reasons in outcome.refused.items():
                found.setdefault(name, Counter()).update(reasons)
    return {name: dict(sorted(found[name].items())) for name in sorted(found)}


def devices_seen(outcomes: Sequence[Outcome]) -> dict[str, DeviceSeen]:
    """Device -> its updates and failures in all trials."""
    records: dict[str, list[DeviceRecord]] = {}
    for outcome in outcomes:
        if not isinstance(outcome, Infeasible):
            for name, record in outcome.devices.items():
                records.setdefault(name, []).append(record)
    found = {}
    for name in sorted(records):
        updates = sum(each.updates for each in records[name])
        log2_norm = sum(each.log2_norms for each in records[name]) / max(updates, 1)
        failures = sum((Counter(each.failures) for each in records[name]), Counter[str]())
        found[name] = DeviceSeen(
            updates=updates,
            update_norm=2**log2_norm if updates else None,
            failures=dict(sorted(failures.items())),
        )
    return found


def reported_by(
    completed: Sequence[Completed], device: str, calibration: Calibration
) -> list[Reported]:
    """Reported and predicted values of a device type's clients, by quantity."""
    seen = [o.observed[device] for o in completed if device in o.observed]
    reported = []
    for quantity in QUANTITIES:
        said = pairs_of(completed, device, quantity)
        if said:
            factor: Correction = getattr(calibration[device], quantity)
            reported.append(
                Reported(
                    quantity=quantity,
                    predicted=median(each.predicted.value for each in said),
                    reported=median(each.reported for each in said),
                    factor=Estimate(factor.factor, factor.low, factor.high),
                    trials=len(said),
                    reports=sum(each.reports for each in said),
                    left_out=sum(each.left_out for each in seen),
                    simulated=said[0].simulated,
                    devices=said[-1].devices,
                )
            )
    return reported
