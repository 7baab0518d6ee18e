"""Re-evaluate trials with the latest calibration and the current limits.

An outcome is stored with the costs predicted at that time. The tuner, early stopping, the report
and retargeting compare trials by one calibration and the current limits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from fieldtune.server.costs.architecture_costs import Calibration
from fieldtune.server.costs.cost_model import CostModel, intervals
from fieldtune.server.outcomes.trial import Outcome, Trained
from fieldtune.server.study.objectives import MEASURES


def rescore(
    outcomes: Sequence[Outcome], costs: CostModel, calibration: Calibration
) -> list[Outcome]:
    """The outcomes with costs, constraints and known objectives predicted anew.

    Infeasible and failed trials stay as they were told: an infeasible one keeps the figures for
    which it was ruled out. A trained trial that now fits no device keeps its known objectives (they
    would be infinite); its constraints show the violation.

    Args:
        outcomes: of the study.
        costs: the study's cost model, with the current fleet and limits.
        calibration: fitted to what devices have reported.
    """
    return [
        _rescored(outcome, costs, calibration)
        if isinstance(outcome, Trained) and costs.knows(outcome.proposal.configuration)
        else outcome
        for outcome in outcomes
    ]


class Rescorer:
    """Re-evaluates a growing list of outcomes; each one anew only if the calibration has changed.

    Args:
        costs: the study's cost model.
    """

    def __init__(self, costs: CostModel) -> None:
        self._costs = costs
        self._under: object = None
        self._done: dict[int, tuple[Outcome, Outcome]] = {}
        """Trial -> as it was told, and re-evaluated."""
        self._before: tuple[list[Outcome], list[Outcome]] = [], []
        """The first outcomes of the last call, and what they were re-evaluated to."""

    def rescore(self, outcomes: Sequence[Outcome], calibration: Calibration) -> list[Outcome]:
        """See :func:`rescore`."""
        if (under := intervals(calibration)) != self._under:
            self._under, self._done, self._before = under, {}, ([], [])
        told, now = self._before
        if outcomes[: len(told)] != told:  # compares by identity first
            told, now = [], []
        further = outcomes[len(told) :]
        new = [each for each in further if self._known(each) is None]
        for before, after in zip(new, rescore(new, self._costs, calibration), strict=True):
            if before is not after:
                self._done[before.proposal.number] = before, after
        now = [*now, *(self._known(each) or each for each in further)]
        # A model that has not been compiled may be until the next call.
        unknown = (
            place
            for place, each in enumerate(further, len(told))
            if each is now[place] and isinstance(each, Trained)
        )
        end = next(unknown, len(now))
        self._before = list(outcomes[:end]), now[:end]
        return now

    def _known(self, outcome: Outcome) -> Outcome | None:
        told, now = self._done.get(outcome.proposal.number, (None, None))
        return now if told is outcome else None


def _rescored(outcome: Trained, costs: CostModel, calibration: Calibration) -> Trained:
    forecast = costs.forecast(outcome.proposal.configuration, calibration)
    known = {
        name: value
        for name in outcome.objectives
        if not MEASURES[name].learned and math.isfinite(value := forecast.measures[name])
    }
    return replace(outcome, forecast=forecast, objectives={**outcome.objectives, **known})
