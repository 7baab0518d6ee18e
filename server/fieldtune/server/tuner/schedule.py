"""The phases of a study: explore, refine, tune (close to the front), validate (repeat finalists).

A trial's phase follows from the share of the budget that was used when it was proposed, so it
depends on the order of the trials only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import numpy as np

from fieldtune.server.bo.sampler import even_start
from fieldtune.server.outcomes.front import minimised, non_dominated
from fieldtune.server.outcomes.trial import Completed, Infeasible, Outcome, Proposal
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.objectives import MEASURES
from fieldtune.server.study.space import Configuration
from fieldtune.server.study.tuner_options import Phase
from fieldtune.server.tuner.predictions import Predictions

_ROUNDING = 1e-9
_AGAIN_EVERY, _AGAIN_MOST = 10, 2
"""The defaults are repeated once every 10 trials, at most twice."""


class Schedule:
    """The phases of a study.

    Args:
        study: its ``tuner.phases`` and space.
    """

    def __init__(self, study: StudyConfig) -> None:
        shares = study.tuner.phases
        self._explore = shares.get("explore")
        self._first = even_start(len(study.full_space.parameters()))
        self._validate = 1 - shares.get("validate", 0.0)
        self._tune = self._validate - shares.get("tune", 0.0)

    def phase(self, trials: int, share: float) -> Phase:
        """The phase of the next trial.

        Args:
            trials: sent to devices before it.
            share: used share of the budget.
        """
        if self._validate < 1 and share >= self._validate - _ROUNDING:
            return "validate"
        if self._tune < self._validate and share >= self._tune - _ROUNDING:
            return "tune"
        even = trials < self._first if self._explore is None else share < self._explore - _ROUNDING
        return "explore" if even else "refine"


def defaults_again(
    study: StudyConfig,
    sent: int,
    known: Sequence[Outcome],
    history: Sequence[Outcome],
    in_flight: Sequence[Proposal],
) -> Configuration | None:
    """The study's defaults, if they are to be repeated with another seed now; else None.

    They are the baseline of the recommendation, which should not depend on a single lucky or
    unlucky run. So they are repeated after ten trials and after twenty.

    Args:
        study: its ``[tuner]`` section.
        sent: trials sent to devices so far.
        known: outcomes that the next trial may know.
        history: all outcomes.
        in_flight: proposals that are being trained.
    """
    first = next((each for each in known if each.proposal.number == 0), None)
    if not isinstance(first, Completed) or study.tuner.exploration:
        return None
    defaults = first.proposal.configuration
    runs, due = 0, min(sent // _AGAIN_EVERY, _AGAIN_MOST)
    for proposal in chain((outcome.proposal for outcome in history), in_flight):
        runs += proposal.configuration.key == defaults.key
        if runs > due:  # stops early, however long the study is
            return None
    return defaults


def next_finalist(
    study: StudyConfig,
    known: Sequence[Outcome],
    history: Sequence[Outcome],
    in_flight: Sequence[Proposal],
    predicted: Predictions,
) -> Configuration | None:
    """The configuration to repeat with another seed; None once the front is certain.

    A configuration is uncertain if its place on the front depends on where in its interval the true
    value lies: it is on the front as predicted, but would not be at the worse end of the interval,
    or the other way round. Of these the one with the fewest runs comes next; at a tie, the one that
    beats the defaults on most objectives, since that one may be recommended.

    Args:
        study: its objectives.
        known: outcomes that the next trial may know, re-evaluated with the latest calibration.
        history: all outcomes; configurations that have become infeasible are not repeated.
        in_flight: proposals that are being trained.
        predicted: the tuner's predictions for ``known``.
    """
    completed = [each for each in known if isinstance(each, Completed)]
    ruled_out = {o.proposal.configuration.key for o in history if isinstance(o, Infeasible)}
    first: dict[object, Completed] = {}
    for each in completed:
        first.setdefault(each.proposal.configuration.key, each)
    candidates = [
        each for key, each in first.items() if each.forecast.feasible and key not in ruled_out
    ]
    middle = [_at(each, predicted, "value") for each in candidates]
    front = {each.proposal.number for each in non_dominated(study, middle)}
    asked = [*(outcome.proposal for outcome in history), *in_flight]
    runs = Counter(proposal.configuration.key for proposal in asked)
    doubtful = [
        each
        for each, as_predicted in zip(candidates, middle, strict=True)
        if _in_doubt(study, each, as_predicted, middle, front, predicted)
    ]
    defaults = next((each for each in middle if each.proposal.number == 0), None)
    at = {each.proposal.number: each for each in middle}

    def order(each: Completed) -> tuple[int, int, int]:
        number = each.proposal.number
        beaten = _beaten(study, at[number], defaults) if defaults else 0
        return runs[each.proposal.configuration.key], -beaten, number

    return min(doubtful, key=order).proposal.configuration if doubtful else None


def _beaten(study: StudyConfig, outcome: Completed, defaults: Completed) -> int:
    """Number of objectives on which an outcome beats the defaults; -1 if a learned one is worse."""
    gains = minimised(study, defaults) - minimised(study, outcome)
    learned = np.array([objective.learned for objective in study.study.objectives])
    return -1 if (gains[learned] < 0).any() else int((gains > 0).sum())


def _in_doubt(
    study: StudyConfig,
    outcome: Completed,
    middle: Completed,
    others: Sequence[Completed],
    front: set[int],
    predicted: Predictions,
) -> bool:
    """Whether it depends on the outcome's interval if it is on the front."""
    on_front = outcome.proposal.number in front
    if not any(outcome.proposal.number in of for of in predicted.values()):
        return on_front and bool(predicted)  # too few trials for intervals: repeat the front
    end = _at(outcome, predicted, "worse" if on_front else "better")
    rest = [each for each in others if each is not middle]
    return any(each is end for each in non_dominated(study, [*rest, end])) != on_front


def _at(outcome: Completed, predicted: Predictions, end: str) -> Completed:
    """The outcome with its learned objectives as predicted, or at an end of their intervals."""
    values = dict(outcome.objectives)
    for name, of_trial in predicted.items():
        each = of_trial.get(outcome.proposal.number)
        if each is not None:
            low = (end == "worse") == MEASURES[name].maximised
            values[name] = each.value if end == "value" else each.low if low else each.high
    return replace(outcome, objectives=values)


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
