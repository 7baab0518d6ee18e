"""Finalists: which configuration to repeat with another seed, and the mean of repetitions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fieldtune.profiles.common.estimate import Estimate
from fieldtune.server.outcomes.decision import Candidate, next_run
from fieldtune.server.outcomes.front import non_dominated
from fieldtune.server.outcomes.trial import Completed, DeviceForecast, Infeasible, Outcome, Proposal
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.objectives import MEASURES
from fieldtune.server.study.space import Configuration
from fieldtune.server.tuner.predictions import Predictions


def next_finalist(
    study: StudyConfig,
    known: Sequence[Outcome],
    history: Sequence[Outcome],
    in_flight: Sequence[Proposal],
    predicted: Predictions,
    *,
    last: bool = False,
) -> Configuration | None:
    """The configuration to repeat with another seed; None once the recommendations are settled.

    Args:
        study: its objectives and ``[decision]``.
        known: outcomes that the next trial may know, re-evaluated with the latest calibration.
        history: all outcomes; configurations that have become infeasible are not repeated.
        in_flight: proposals that are being trained.
        predicted: the tuner's predictions for ``known``, with the interval of the model alone.
        last: whether a new configuration could not be repeated any more; then something is.
    """
    if not any(predicted.values()) and "validate" not in study.tuner.phases:
        return None  # too few trials to know by default what to repeat
    completed = [each for each in known if isinstance(each, Completed)]
    ruled_out = {o.proposal.configuration.key for o in history if isinstance(o, Infeasible)}
    once = [
        (as_predicted(each, predicted), runs)
        for each, runs in merged(completed)
        if each.forecast.feasible and each.proposal.configuration.key not in ruled_out
    ]
    front = {each.proposal.number for each in non_dominated(study, [each for each, _ in once])}
    finalists = [
        (each, runs)
        for each, runs in once
        if each.proposal.number in front or each.proposal.number == 0
    ]
    flying = Counter(proposal.configuration.key for proposal in in_flight)
    number_of = {each.proposal.configuration.key: each.proposal.number for each, _ in once}
    pending = {number_of[key]: count for key, count in flying.items() if key in number_of}
    wanted: list[tuple[float, int]] = []
    devices = {name: None for each, _ in finalists for name in each.forecast.devices}
    for device in devices:
        candidates = {
            each.proposal.number: _candidate(study, each, runs, device, predicted)
            for each, runs in finalists
        }
        found = next_run(
            list(candidates.values()),
            candidates.get(0),
            study.study.objectives,
            study.decision.for_device(device),
            pending,
            last=last,
        )
        wanted += [found] if found else []
    if not wanted:
        return None
    _, number = max(wanted, key=lambda each: (each[0], -each[1]))
    return next(
        each.proposal.configuration for each, _ in finalists if each.proposal.number == number
    )


def _candidate(
    study: StudyConfig, outcome: Completed, runs: int, device: str, predicted: Predictions
) -> Candidate:
    number, seen = outcome.proposal.number, outcome.forecast.devices[device]
    values = {}
    for each in study.study.objectives:
        cost = None if each.learned else getattr(seen.cost, each.name, None)
        learned = predicted.get(each.name, {}).get(number) if each.learned else None
        value = outcome.objectives[each.name]
        values[each.name] = cost or learned or Estimate(value, value, value)
    return Candidate(number, values, runs, _fits(seen))


def _fits(seen: DeviceForecast) -> bool:
    return seen.fitting > 0 if seen.clients else max(seen.slack.values(), default=-1.0) <= 0


def as_predicted(outcome: Completed, predicted: Predictions) -> Completed:
    """The outcome with learned objectives as predicted."""
    values = {
        name: of_trial[outcome.proposal.number].value
        for name, of_trial in predicted.items()
        if outcome.proposal.number in of_trial
    }
    return replace(outcome, objectives={**outcome.objectives, **values})


def merged(outcomes: Sequence[Completed]) -> list[tuple[Completed, int]]:
    """Each configuration once: its earliest trial with the mean of all its runs, and their number.

    The runs are tested on the same samples, so the number of test samples stays the same.
    """
    runs: dict[object, list[Completed]] = {}
    for outcome in outcomes:
        runs.setdefault(outcome.proposal.configuration.key, []).append(outcome)
    return [(_mean(group), len(group)) for group in runs.values()]


def _mean(runs: Sequence[Completed]) -> Completed:
    if len(runs) == 1:
        return runs[0]
    first = runs[0]
    measures = {
        name: float(np.mean([each.learned.measures[name] for each in runs]))
        for name in first.learned.measures
    }
    objectives = {
        name: float(np.mean([each.objectives[name] for each in runs]))
        if MEASURES[name].learned
        else value
        for name, value in first.objectives.items()
    }
    return replace(first, objectives=objectives, learned=replace(first.learned, measures=measures))
