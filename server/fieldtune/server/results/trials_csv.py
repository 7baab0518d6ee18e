"""``trials.csv``: a line a trial."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from fieldtune.server.outcomes.figures import figures
from fieldtune.server.outcomes.trial import Failed, Outcome, Stopped, Timing, Trained
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.objectives import COST_MEASURES

_TIMES = tuple(each.name for each in fields(Timing))


def trials_csv(study: StudyConfig, outcomes: Sequence[Outcome]) -> str:
    """A table of the outcomes: configuration, objectives, constraints, costs by device, seed."""
    parameters = list(study.full_space.parameters())
    limits = sorted(
        {
            limit
            for outcome in outcomes
            if not isinstance(outcome, Failed)
            for limit in outcome.forecast.constraints
        }
    )
    columns = [
        *(f"objective:{each.name}" for each in study.study.objectives),
        *(f"constraint:{name}" for name in limits),
        *(f"{device}:{name}" for device in sorted(study.fleet.devices) for name in COST_MEASURES),
    ]
    rows = io.StringIO()
    table = csv.writer(rows, lineterminator="\n")
    table.writerow(
        ["number", "state", "phase", *parameters, *columns,
         "rounds", "test_samples", "device_s", *_TIMES, "seed", "reason"]
    )  # fmt: skip
    for outcome in outcomes:
        configuration = outcome.proposal.configuration.flat()
        known = figures(outcome)
        table.writerow(
            [
                outcome.proposal.number,
                type(outcome).__name__.lower(),
                outcome.proposal.phase,
                *(configuration[name] for name in parameters),
                *(known.get(name, "") for name in columns),
                *_training(outcome),
            ]
        )
    return rows.getvalue()


def _training(outcome: Outcome) -> list[Any]:
    """Rounds, test samples, device seconds, times, seed and reason."""
    if not isinstance(outcome, Trained):
        return [*[""] * (4 + len(_TIMES)), outcome.reason if isinstance(outcome, Failed) else ""]
    learned, reason = outcome.learned, str(outcome.learned.choice or "")
    if isinstance(outcome, Stopped):
        there = [f"{name} {value:.6g}" for name, value in outcome.objectives.items()
                 if name in learned.measures]  # fmt: skip
        reason = f"not among the best after round {learned.rounds}: {', '.join(there)}"
    times = [getattr(learned.timing, name, "") for name in _TIMES]
    return [learned.rounds, learned.samples, learned.device_s, *times, outcome.seed, reason]
