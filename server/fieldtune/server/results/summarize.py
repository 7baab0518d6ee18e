"""From a study's outcomes to its :class:`~fieldtune.server.results.schema.Summary`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Literal

from fieldtune.profiles.common.estimate import Estimate
from fieldtune.profiles.costmodel.calibration import Correction
from fieldtune.server.costs.architecture_costs import Calibration
from fieldtune.server.costs.budget import Budget
from fieldtune.server.costs.calibration import QUANTITIES, pairs_of
from fieldtune.server.costs.usage import by_device, total_usage
from fieldtune.server.federation.metrics import effective_samples
from fieldtune.server.outcomes.front import non_dominated
from fieldtune.server.outcomes.trial import (
    Completed,
    Failed,
    Infeasible,
    Outcome,
    Stopped,
    Trained,
    worst_constraint,
)
from fieldtune.server.results.recommend import recommend
from fieldtune.server.results.schema import (
    Attempt,
    DecisionRule,
    OnDevice,
    Point,
    Reported,
    Share,
    Spent,
    Summary,
)
from fieldtune.server.study.changes import Changes
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.objectives import COST_MEASURES, MEASURES, Objective
from fieldtune.server.tuner.predictions import Predictions
from fieldtune.server.tuner.schedule import merged


def summarise(
    study: StudyConfig,
    outcomes: Sequence[Outcome],
    calibration: Calibration,
    predicted: Predictions,
    changes: Sequence[Changes] = (),
    compared: Predictions | None = None,
) -> Summary:
    """The summary of a study's outcomes: Pareto front, recommendations, costs, usage.

    Args:
        study: its objectives.
        outcomes: re-evaluated with the latest calibration.
        calibration: fitted to what devices have reported.
        predicted: the tuner's predictions of learned objectives. The front is computed from them,
            so that no trial is recommended for a lucky result; others are as measured.
        changes: of the study file while the study ran.
        compared: the same predictions with the interval of the model alone, without that of the
            test samples, which are the same for all trials; by default ``predicted``.
    """
    completed = [outcome for outcome in outcomes if isinstance(outcome, Completed)]
    once = merged([_as_predicted(outcome, predicted) for outcome in completed])
    runs = {outcome.proposal.number: count for outcome, count in once}
    expected = [outcome for outcome, _ in once]
    feasible = [o for o in expected if o.forecast.feasible and _fits_any(o)]
    front = [_point(outcome, predicted, runs) for outcome in non_dominated(study, feasible)]
    default_values = study.full_space.defaults().flat()
    defaults = next(
        (
            _point(outcome, predicted, runs)
            for outcome in expected
            if (
                outcome.proposal.configuration.flat() == default_values
                # Narrowing the space changes defaults: the baseline is the first trial.
                or (changes and outcome.proposal.number == 0)
            )
            and _fits_any(outcome)
        ),
        None,
    )
    forecasts = [o.forecast for o in outcomes if not isinstance(o, Failed)]
    devices = {
        name: device.clients
        for forecast in forecasts[:1]
        for name, device in forecast.devices.items()
    }
    objectives = study.study.objectives
    trials = sum(not isinstance(outcome, Infeasible) for outcome in outcomes)
    return Summary(
        study=study.study.name,
        seed=study.study.seed,
        objectives=objectives,
        metric=study.task.metric,
        devices=devices,
        simulated=all(outcome.learned.simulated for outcome in completed),
        trials=trials,
        infeasible=sum(isinstance(outcome, Infeasible) for outcome in outcomes),
        failed=sum(isinstance(outcome, Failed) for outcome in outcomes),
        stopped=sum(isinstance(outcome, Stopped) for outcome in outcomes),
        front=front,
        recommended={
            device: chosen
            for device in devices
            if (
                chosen := recommend(
                    front, defaults, objectives, device, study.decision, compared or predicted
                )
            )
            is not None
        },
        defaults=defaults,
        attempts=[_attempt(outcome, objectives) for outcome in outcomes],
        reported={
            device: reported
            for device in devices
            if (reported := _reported(completed, device, calibration))
        },
        spent={
            device: Spent(
                device_s=each.device_s, energy_j=each.energy_j, sent_bytes=each.sent_bytes
            )
            for device, each in by_device(outcomes).items()
        },
        budget=[
            Share(budget=account.name, used=account.used, of=account.of)
            for account in Budget(study.study).accounts(trials, outcomes)
        ],
        failures=_failures(outcomes),
        refused=_refused(outcomes),
        changes=list(changes),
        known_by=_known_by(completed),
        decision=DecisionRule(
            weights={each.name: study.decision.weight(each.name) for each in objectives},
            tolerance=study.decision.tolerance,
            confidence=study.decision.confidence,
        ),
    )


def _known_by(
    completed: Sequence[Completed],
) -> dict[str, Literal["predicted", "simulated", "measured"]]:
    learned: Literal["simulated", "measured"] = (
        "simulated" if all(outcome.learned.simulated for outcome in completed) else "measured"
    )
    return {name: learned if each.learned else "predicted" for name, each in MEASURES.items()}


def _failures(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Kind of failure -> number of requests that failed so."""
    found: Counter[str] = Counter()
    for outcome in outcomes:
        if isinstance(outcome, Trained):
            found.update(outcome.learned.failures)
        elif isinstance(outcome, Failed):
            found.update(outcome.failures)
    return dict(sorted(found.items()))


def _refused(outcomes: Sequence[Outcome]) -> dict[str, dict[str, int]]:
    """Device -> reason -> number of its reports that were refused or scaled down."""
    found: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        if not isinstance(outcome, Infeasible):
            for name, reasons in outcome.refused.items():
                found.setdefault(name, Counter()).update(reasons)
    return {name: dict(sorted(found[name].items())) for name in sorted(found)}


def _fits_any(outcome: Completed) -> bool:
    """Whether a trial fits any device; the latest calibration may say that it does not."""
    return any(device.fitting for device in outcome.forecast.devices.values())


def _as_predicted(outcome: Completed, predicted: Predictions) -> Completed:
    """The outcome with predicted instead of measured learned objectives."""
    values = {
        name: of_trial[outcome.proposal.number].value
        for name, of_trial in predicted.items()
        if outcome.proposal.number in of_trial
    }
    return replace(outcome, objectives={**outcome.objectives, **values})


def _reported(
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


def wilson(share: float, samples: float, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % confidence interval of a share observed in ``samples`` samples (Wilson 1927)."""
    if samples == 0:
        return 0.0, 1.0
    centre = share + z * z / (2 * samples)
    spread = z * math.sqrt(share * (1 - share) / samples + z * z / (4 * samples**2))
    scale = 1 + z * z / samples
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def _point(
    outcome: Completed,
    predicted: Predictions,
    runs: Mapping[int, int],
) -> Point:
    samples = outcome.learned.samples
    return Point(
        trial=outcome.proposal.number,
        configuration=outcome.proposal.configuration.flat(),
        objectives={
            name: predicted.get(name, {}).get(outcome.proposal.number)
            or _interval(name, value, outcome)
            for name, value in outcome.objectives.items()
        },
        measures=dict(outcome.learned.measures),
        test_samples=samples,
        runs=runs[outcome.proposal.number],
        losses=[float(f"{loss:.4g}") for loss in outcome.learned.losses],
        devices={
            name: OnDevice(
                clients=device.clients,
                fitting=device.fitting,
                costs={measure: getattr(device.cost, measure) for measure in COST_MEASURES},
                slack=dict(device.slack),
            )
            for name, device in outcome.forecast.devices.items()
        },
    )


def _interval(name: str, value: float, outcome: Completed) -> Estimate:
    if MEASURES[name].learned:
        if name == "loss" or not 0 <= value <= 1:  # not a share of samples: a user's metric
            return Estimate(value, value, value)
        learned = outcome.learned
        few = effective_samples(name, value, learned.samples, learned.measures)
        low, high = wilson(value, few if learned.samples else 0)
        return Estimate(value, min(low, value), max(high, value))
    estimates = [
        getattr(device.cost, name) for device in outcome.forecast.devices.values() if device.fitting
    ]
    # The relative interval is that of the device type whose cost is nearest to the fleet's.
    nearest = min(estimates, key=lambda estimate: abs(estimate.value - value))
    scale = value / nearest.value if nearest.value else 1.0
    return Estimate(value, nearest.low * scale, nearest.high * scale)


def _spent(outcome: Outcome) -> dict[str, float]:
    """What a trial took of all devices together; nothing of one that was not sent to them."""
    if isinstance(outcome, Infeasible) or not outcome.expense:
        return {}
    return {k: v for k, v in vars(total_usage([outcome])).items() if v is not None}


def _attempt(outcome: Outcome, objectives: Sequence[Objective]) -> Attempt:
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
    }
    match outcome:
        case Completed() if _fits_any(outcome):
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
