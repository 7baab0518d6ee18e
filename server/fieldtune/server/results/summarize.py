"""From a study's outcomes to its :class:`~fieldtune.server.results.schema.Summary`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from fieldtune.profiles.common.estimate import Estimate
from fieldtune.profiles.common.shares import wilson
from fieldtune.server.costs.architecture_costs import Calibration
from fieldtune.server.costs.budget import Budget
from fieldtune.server.costs.usage import by_device
from fieldtune.server.federation.metrics import effective_samples
from fieldtune.server.outcomes.front import non_dominated
from fieldtune.server.outcomes.trial import Completed, Failed, Infeasible, Outcome, Stopped
from fieldtune.server.results.all_trials import (
    attempt,
    devices_seen,
    failure_counts,
    fits_any,
    refusal_counts,
    reported_by,
)
from fieldtune.server.results.recommend import recommend
from fieldtune.server.results.schema import OnDevice, Point, Share, Spent, Summary
from fieldtune.server.results.stored_choices import DecisionRule
from fieldtune.server.study.changes import Changes
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.objectives import COST_MEASURES, MEASURES, Objective
from fieldtune.server.tuner.finalists import as_predicted, merged
from fieldtune.server.tuner.predictions import Predictions


def summarise(
    study: StudyConfig,
    outcomes: Sequence[Outcome],
    calibration: Calibration,
    predicted: Predictions,
    changes: Sequence[Changes] = (),
    compared: Predictions | None = None,
    *,
    dominated: bool = False,
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
        dominated: whether to keep and rate dominated trials too.
    """
    completed = [outcome for outcome in outcomes if isinstance(outcome, Completed)]
    once = merged([as_predicted(outcome, predicted) for outcome in completed])
    runs = {outcome.proposal.number: count for outcome, count in once}
    expected = [outcome for outcome, _ in once]
    feasible = [o for o in expected if o.forecast.feasible and fits_any(o)]
    undominated = non_dominated(study, feasible)
    front = [_point(outcome, predicted, runs) for outcome in undominated]
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
            and fits_any(outcome)
        ),
        None,
    )
    numbers = {point.trial for point in [*front, *([defaults] if defaults else [])]}
    behind = [
        _point(outcome, predicted, runs).model_copy(update={"losses": []})
        for outcome in feasible
        if dominated and outcome.proposal.number not in numbers
    ]
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
        dominated=behind,
        recommended={
            device: chosen
            for device in devices
            if (
                chosen := recommend(
                    front,
                    defaults,
                    objectives,
                    device,
                    study.decision,
                    compared or predicted,
                    behind,
                )
            )
            is not None
        },
        defaults=defaults,
        attempts=[attempt(outcome, objectives) for outcome in outcomes],
        reported={
            device: reported
            for device in devices
            if (reported := reported_by(completed, device, calibration))
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
        failures=failure_counts(outcomes),
        refused=refusal_counts(outcomes),
        seen=devices_seen(outcomes),
        changes=list(changes),
        known_by=_known_by(completed, objectives),
        decision=DecisionRule(
            weights={each.name: study.decision.weight(each.name) for each in objectives},
            devices={name: own.weights for name, own in study.decision.devices.items()},
            tolerance=study.decision.tolerance,
            confidence=study.decision.confidence,
        ),
    )


def _known_by(
    completed: Sequence[Completed], objectives: Sequence[Objective]
) -> dict[str, Literal["predicted", "simulated", "measured"]]:
    learned: Literal["simulated", "measured"] = (
        "simulated" if all(outcome.learned.simulated for outcome in completed) else "measured"
    )
    return {
        name: learned if each.learned else "predicted"
        for name, each in MEASURES.items()
        if each.of_device or each in objectives
    }


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
    if not MEASURES[name].of_device:
        return Estimate(value, value, value)
    estimates = [
        getattr(device.cost, name) for device in outcome.forecast.devices.values() if device.fitting
    ]
    # The relative interval is that of the device type whose cost is nearest to the fleet's.
    nearest = min(estimates, key=lambda estimate: abs(estimate.value - value))
    scale = value / nearest.value if nearest.value else 1.0
    return Estimate(value, nearest.low * scale, nearest.high * scale)
