"""Re-evaluate trials with the latest calibration and the current limits.

An outcome is stored with the costs predicted at that time. The tuner, early stopping, the report
and retargeting compare trials by one calibration and the current limits.
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


def _rescored(outcome: Trained, costs: CostModel, calibration: Calibration) -> Trained:
    forecast = costs.forecast(outcome.proposal.configuration, calibration)
    known = {
        name: value
        for name in outcome.objectives
        if name in COST_MEASURES and math.isfinite(value := forecast.measures[name])
    }
    return replace(outcome, forecast=forecast, objectives={**outcome.objectives, **known})
