"""Losses of one evaluation that are far above those of the others: false, or of other data.

A loss has no upper bound, so one device could give that of the whole fleet any value.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from fieldtune.client.contract.messages import EvaluateReport
from fieldtune.server.federation.exchange import Answers, Exchange

_FEWEST, _MOST_TIMES, _SECOND_MOST = 3, 10, 10.0
"""Reports of which a median says something; what a loss counts as at most: so many times the
median, so many times the median absolute deviation above it (Hampel 1974), or so many times the
second largest loss, which spares devices whose data are harder. That last limit is at most 10, so
that two devices cannot raise it for each other."""


def odd_losses(exchange: Exchange, answers: Answers) -> Iterator[tuple[int, EvaluateReport, str]]:
    """Reports on the same request whose loss counts less than they say, or not at all.

    A loss that is not finite is odd only where most are finite: those of weights that have diverged
    are not. Such a report is given as it is, since an evaluation leaves it out.

    Yields:
        Client, its report with the loss that counts, and a sentence about it that follows a
        device's name.
    """
    groups: dict[int, dict[int, EvaluateReport]] = defaultdict(dict)
    for client, report in answers.items():
        if isinstance(report, EvaluateReport) and not report.failure and report.samples:
            groups[id(exchange[client])][client] = report
    for group in groups.values():
        losses = {client: report.loss_sum / report.samples for client, report in group.items()}
        finite = [loss for loss in losses.values() if math.isfinite(loss)]
        if len(group) < _FEWEST or 2 * len(finite) <= len(group):
            continue
        middle = float(np.median(finite))
        spread = float(np.median(np.abs(np.array(finite) - middle)))
        second = min(_MOST_TIMES * sorted(finite)[-2], _SECOND_MOST)
        most = max(_MOST_TIMES * middle, middle + _MOST_TIMES * spread, second, 0.0)
        for client, loss in losses.items():
            report, told = group[client], f"its loss is {loss:.3g}, {middle:.3g} in the median"
            if not math.isfinite(loss):
                yield client, report, f"evaluation left out (said once): {told}"
            elif most < loss:
                counted = report.model_copy(update={"loss_sum": most * report.samples})
                yield client, counted, f"loss counted as {most:.3g} (said once): {told}"
