"""Which trials models are made of, where there are more than a search has time for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import moocore
import numpy as np

from fieldtune.server.bo.trial_rows import TrialRow

MOST_TRIALS = 256
"""Trials that models for a search are made of; of more, half as many that are best and an even
choice of others."""


def partial_results(rows: Sequence[TrialRow], measured: Sequence[TrialRow]) -> list[TrialRow]:
    """What was measured after a share of the rounds, the latest trials' at most.

    Of trials that were stopped, and of those that went on to their end: these alone say what a
    result at a rung is worth.
    """
    stopped = [row for row in rows if row.state == "stopped" and row.values]
    early = [
        replace(row, values=values, share=share) for row in measured for share, values in row.curve
    ]
    return sorted([*stopped, *early], key=lambda row: row.number)[-MOST_TRIALS:]


def selected(rows: Sequence[TrialRow], most: int) -> list[TrialRow]:
    """At most so many trials: the best by rank, and of the others an even choice."""
    if len(rows) <= most:
        return list(rows)
    values = np.nan_to_num(np.array([row.values for row in rows]), nan=np.inf, posinf=1e300)
    ruled_out = [not row.feasible for row in rows]
    order = np.lexsort((moocore.pareto_rank(values), ruled_out))
    best = order[: most // 2]
    others = np.sort(order[most // 2 :])
    picked = others[np.linspace(0, len(others) - 1, most - len(best)).round().astype(int)]
    return [rows[i] for i in sorted({*best.tolist(), *picked.tolist()})]
