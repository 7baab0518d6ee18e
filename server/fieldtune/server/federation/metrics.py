"""Measures of a classifier over a whole fleet, from counts that add up over clients.

``hits``, ``predicted`` and ``actual`` hold one count a class. Adding two clients' counts gives the
counts of their union, so accuracy, precision, recall and F1 of a fleet are exact without any
sample leaving a device.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

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


def between_clients(errors: Sequence[float], weights: Sequence[float]) -> dict[str, float]:
    """What the errors ``[n]`` of single clients say beyond their mean.

    ``worst_error`` is the mean over the tenth of the clients, at least one, that are worst off.
    ``error_spread`` is the standard error of the weighted mean as an estimate for clients like
    these (Cochran 1977, section 2.11, clients as clusters): it has in it both how clients differ
    and how few samples they test on. A single client has none.
    """
    e, w = np.array(errors), np.array(weights) / sum(weights)
    worst = np.sort(e)[-math.ceil(len(e) / 10) :]
    found = {"worst_error": float(worst.mean())}
    if len(e) > 1:
        squares = (w * (e - w @ e)) ** 2
        found["error_spread"] = float(np.sqrt(len(e) / (len(e) - 1) * squares.sum()))
    return found


def effective_samples(
    name: str, value: float, samples: int, measures: Mapping[str, float]
) -> float:
    """Independent test samples that would leave a share as uncertain as this one.

    Fewer than there are where clients differ by more than chance; of ``worst_error``, a tenth.

    Args:
        name: of the share.
        value: it has, or is believed to have.
        samples: behind the whole fleet's shares.
        measures: of the same evaluation.
    """
    if name == "worst_error":
        return max(samples / 10, 1.0)
    spread = measures.get("error_spread")
    if not spread or measures.get(name) not in (measures.get("error"), measures.get("metric")):
        return max(samples, 1.0)
    return min(max(value * (1 - value) / spread**2, 1.0), max(samples, 1.0))
