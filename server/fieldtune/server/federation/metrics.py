"""Classification measures over a whole fleet, from counts that are summed over clients.

``hits`` (true positives), ``predicted`` and ``actual`` hold one count per class. Counts of clients
add up, so accuracy, precision, recall and F1 of a fleet are exact without any sample leaving a
device.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
_FEWEST, _MOST_TIMES = 3, 10
"""Clients from which a median says something; multiples of it up to which a value counts."""


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


def chance_level(metric: str, counts: NDArray[np.int64]) -> float:
    """A built-in metric's value for always predicting the most frequent class.

    Args:
        metric: its name.
        counts: number of samples of each class ``[classes]``.
    """
    if metric == "auc":
        return 0.5
    constant = np.zeros_like(counts)
    constant[counts.argmax()] = 1
    return from_counts(constant * counts, constant * counts.sum(), counts)[metric]


def without_outliers(measured: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Values of a metric of unknown range and their weights ``[n]``, the outliers clipped.

    A value counts up to ten times the median absolute deviation from the median (Hampel 1974; at
    least a tenth of the median or of 1), a weight up to ten times the median weight. Otherwise one
    client could give the metric any value.
    """
    if len(measured) < _FEWEST:
        return list(measured)
    values, weights = np.array(measured, np.float64).T
    middle = np.median(values)
    deviation = max(float(np.median(np.abs(values - middle))), 0.1 * max(abs(float(middle)), 1.0))
    values = np.clip(values, middle - _MOST_TIMES * deviation, middle + _MOST_TIMES * deviation)
    weights = np.minimum(weights, _MOST_TIMES * np.median(weights))
    return list(zip(values.tolist(), weights.tolist(), strict=True))


def between_clients(errors: Sequence[float], weights: Sequence[float]) -> dict[str, float]:
    """How errors ``[n]`` differ between clients.

    ``worst_error`` is the mean over the worst tenth of the clients (at least one).
    ``error_spread`` is the standard error of the weighted mean over clients like these (Cochran
    1977, section 2.11, clients as clusters): it includes both the differences between clients and
    the sampling noise of their test data. It is missing for a single client.
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
    """The effective sample size: independent samples that would give the same standard error.

    Smaller than the number of samples where clients differ by more than chance; for
    ``worst_error``, a tenth of the samples.

    Args:
        name: of a measure that is a share.
        value: of the measure, as measured or estimated.
        samples: test samples of the whole fleet.
        measures: of the same evaluation.
    """
    if name == "worst_error":
        return max(samples / 10, 1.0)
    spread = measures.get("error_spread")
    if not spread or measures.get(name) not in (measures.get("error"), measures.get("metric")):
        return max(samples, 1.0)
    return min(max(value * (1 - value) / spread**2, 1.0), max(samples, 1.0))
