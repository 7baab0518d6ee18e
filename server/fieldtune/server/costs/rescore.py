"""Trials re-evaluated: their costs, limits and known objectives by today's cost model.

A trial is told with what was known of the devices then. The optimizer, early stopping, the report
and retargeting all compare trials by one calibration and today's limits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from fieldtune.server.costs.architecture_costs import Calibration
from fieldtune.server.costs.cost_model import CostModel
from fieldtune.server.outcomes.trial import Outcome, Trained
from fieldtune.server.study.objectives import COST_MEASURES


def rescore(
    outcomes: Sequence[Outcome], costs: CostModel, calibration: Calibration
) -> list[Outcome]:
    """The outcomes with forecasts and known objectives as they would be told now.

    What was not trained stays as it was told: the figures are those that ruled it out. A trained
    trial that fits no device any more keeps its objectives, and its constraints say so.

    Args:
        outcomes: of the study.
        costs: the study's cost model, with its fleet and limits of today.
        calibration: by what devices have reported.
    """
    return [
        _rescored(outcome, costs, calibration)
        if isinstance(outcome, Trained) and costs.knows(outcome.proposal.configuration)
        else outcome
        for outcome in outcomes
    ]


def _rescored(outcome: Trained, costs: CostModel, calibration: Calibration) -> Trained:
    forecast = costs.forecast(outcome.proposal.configuration, calibration)
    known = {
        name: value
        for name in outcome.objectives
        if name in COST_MEASURES and math.isfinite(value := forecast.measures[name])
    }
    return replace(outcome, forecast=forecast, objectives={**outcome.objectives, **known})
