"""Measures of a classifier over a whole fleet, from counts that add up over clients.

``hits``, ``predicted`` and ``actual`` hold one count a class. Adding two clients' counts gives the
counts of their union, so accuracy, precision, recall and F1 of a fleet are exact without any
sample leaving a device.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


def from_counts(hits: Counts, predicted: Counts, actual: Counts) -> dict[str, float]:
    """Accuracy, and precision, recall and F1 averaged over the classes that occur.

    A class that occurs but was never predicted has precision 0.
    """
    total = int(actual.sum())
    occurs = actual > 0
    precision = hits[occurs] / np.maximum(predicted[occurs], 1)
    recall = hits[occurs] / actual[occurs]
    f1 = 2 * hits[occurs] / (predicted[occurs] + actual[occurs])
    if total == 0:
        return dict.fromkeys(("accuracy", "precision", "recall", "macro_f1"), 0.0)
    return {
        "accuracy": float(hits.sum() / total),
        "precision": float(precision.mean()),
        "recall": float(recall.mean()),
        "macro_f1": float(f1.mean()),
    }
