"""An evaluation client by client and class by class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fieldtune.client.contract.messages import EvaluateReport
from fieldtune.server.federation.evaluation import client_metric, inconsistent
from fieldtune.server.federation.exchange import Answers


@dataclass(frozen=True)
class PerClient:
    """What the usable reports of an evaluation say."""

    errors: Mapping[int, float]
    """Client -> 1 - its metric; without clients that have no samples or do not report it."""
    hits: tuple[int, ...]
    """For each class, over all clients: samples correctly predicted as it."""
    predicted: tuple[int, ...]
    """For each class: samples predicted as it."""
    actual: tuple[int, ...]
    """For each class: samples that belong to it. All three are empty without classes."""
    confusion: tuple[tuple[int, ...], ...] = ()
    """Samples by class (rows) and predicted class (columns), over the clients that report it;
    empty where none does."""


def per_client(answers: Answers, classes: int, metric: str) -> PerClient:
    """Errors of the clients, and the counts of the classes.

    Args:
        answers: of an evaluation; those that failed or contradict themselves are left out.
        classes: of the task; 0 where the model reconstructs its input.
        metric: its name.
    """
    usable = {
        client: report
        for client, report in sorted(answers.items())
        if isinstance(report, EvaluateReport)
        and not report.failure
        and not inconsistent(report, classes)
        and report.samples
    }
    errors = {
        client: 1 - value
        for client, report in usable.items()
        for value, _ in client_metric(report, metric)
    }
    counts = [
        tuple(np.sum([getattr(report, name) for report in usable.values()], axis=0).tolist())
        if usable and classes
        else ()
        for name in ("hits", "predicted", "actual")
    ]
    matrices = [
        np.reshape(report.confusion, (classes, classes))
        for report in usable.values()
        if report.confusion is not None and classes
    ]
    confusion = np.sum(matrices, axis=0).tolist() if matrices else []
    hits, predicted, actual = counts
    return PerClient(errors, hits, predicted, actual, tuple(map(tuple, confusion)))
