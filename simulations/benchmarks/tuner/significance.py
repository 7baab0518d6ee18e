"""Paired comparisons over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike


def paired_p(ours: ArrayLike, theirs: ArrayLike) -> float:
    """P value that ours is not larger: Wilcoxon's signed-rank test, one-sided (Wilcoxon 1945).

    Exact up to 50 pairs without ties; 1 where all pairs are equal.
    """
    from scipy.stats import wilcoxon

    difference = np.asarray(ours, float) - np.asarray(theirs, float)
    if not difference.any():
        return 1.0
    return float(wilcoxon(difference, alternative="greater").pvalue)


def no_worse_p(ours: Sequence[float], theirs: Sequence[float], margin: float) -> float:
    """P value that ours is lower by the margin or more: the one-sided test of equivalence.

    The same test, of the differences plus the margin (Wellek 2010, "Testing statistical hypotheses
    of equivalence and noninferiority", section 5.4). A difference that is merely not significant
    shows nothing.
    """
    return paired_p(np.asarray(ours, float) + margin, theirs)


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """P values corrected for how many there are (Holm 1979)."""
    corrected, floor = {}, 0.0
    for rank, (name, value) in enumerate(sorted(p.items(), key=lambda item: item[1])):
        floor = max(floor, min(1.0, (len(p) - rank) * value))
        corrected[name] = floor
    return corrected


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation over seeds."""
    array = np.asarray(values, float)
    if len(array) == 0:
        return "-"
    if len(array) == 1:
        return f"{array[0]:.3f}"
    return f"{array.mean():.3f} ± {array.std(ddof=1):.3f}"
