"""Metrics that each client computes itself, because they do not follow from summed counts."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import cast

import numpy as np
from numpy.typing import NDArray

from fieldtune.profiles.common.errors import UsageError
from fieldtune.profiles.common.load_object import load_object

Metric = Callable[[NDArray[np.int32], NDArray[np.float32]], tuple[float, float]]
"""``(y_true, logits) -> (value, weight)`` on one client's data."""


def auc(y_true: NDArray[np.int32], logits: NDArray[np.float32]) -> tuple[float, float]:
    """One-against-rest area under the ROC curve, averaged over classes, and its weight.

    The probability that a sample of the class scores higher than one that is not, ties counting
    half (Hanley and McNeil 1982, eq. 1). Classes without positive and negative samples on this
    client are skipped; if all are skipped, the weight is 0.
    """
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores = shifted / shifted.sum(axis=1, keepdims=True)
    areas = []
    for label in np.unique(y_true):
        inside, outside = scores[y_true == label, label], scores[y_true != label, label]
        if len(outside):
            difference = inside[:, None] - outside[None, :]
            areas.append(float((difference > 0).mean() + 0.5 * (difference == 0).mean()))
    return (float(np.mean(areas)), float(len(y_true))) if areas else (0.0, 0.0)


@cache
def metric_function(name: str) -> Metric | None:
    """The function that computes a metric on one client; None if counts are sufficient."""
    if name == "auc":
        return auc
    if ":" not in name:
        return None
    return cast(Metric, load_object(name, setting="task.metric", error=UsageError))


def own_metric(
    name: str, function: Metric, y_true: NDArray[np.int32], logits: NDArray[np.float32]
) -> tuple[float, float]:
    """A metric's value and weight.

    Raises:
        UsageError: the function raises, or returns something else.
    """
    metric = f"task.metric = {name!r}"
    try:
        returned = function(y_true, logits)
    except (Exception, SystemExit) as raised:  # a user's function may raise anything
        raise UsageError(f"{metric} raised {type(raised).__name__}: {raised}") from raised
    try:
        value, weight = (float(number) for number in returned)
    except (TypeError, ValueError, OverflowError):
        raise UsageError(
            f"{metric} returned {_kind(returned)}: return (value, weight), two numbers: the "
            "metric on this client's samples, and the weight with which it counts"
        ) from None
    if not 0 <= weight < math.inf:
        raise UsageError(
            f"{metric} returned the weight {weight:g}: return a weight of at least 0, such as the "
            "number of samples"
        )
    return value, weight


def _kind(returned: object) -> str:
    """What a function returned, in a few words."""
    if isinstance(returned, (int, float, np.number)):
        return f"a single number, {returned:g}"
    if isinstance(returned, (tuple, list)) or (isinstance(returned, np.ndarray) and returned.ndim):
        return (
            f"{len(returned)} values of which not all are numbers"
            if len(returned) == 2
            else (f"{len(returned)} values")
        )
    return f"{type(returned).__name__}"
