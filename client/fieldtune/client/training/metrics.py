"""Metrics that each client computes itself, because they do not follow from summed counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


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
