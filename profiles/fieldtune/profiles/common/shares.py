"""Shares that were counted, and how far chance may have moved them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import median

from fieldtune.profiles.common.estimate import Z95


def wilson(share: float, samples: float) -> tuple[float, float]:
    """The 95 % confidence interval of a share observed in ``samples`` samples (Wilson 1927)."""
    if samples == 0:
        return 0.0, 1.0
    centre = share + Z95 * Z95 / (2 * samples)
    spread = Z95 * math.sqrt(share * (1 - share) / samples + Z95 * Z95 / (4 * samples**2))
    scale = 1 + Z95 * Z95 / samples
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


_FEWEST, _FEWEST_SAMPLES = 3, 10
"""Of fewer, and on fewer samples, none can be said to be unlike the others."""


def unlike_others(errors: Mapping[str, tuple[float, int]]) -> dict[str, float]:
    """Those whose error is surely far above the others': name -> median of the others' errors.

    The lower end of its 95 % interval is above twice the others' median, or half of what is left to
    1 where that is less, and at least 0.05 above it. Where data differ somewhat, none is.

    Args:
        errors: name -> share of wrong answers, and over how many samples it was counted.
    """
    found = {}
    for name, (error, samples) in errors.items():
        others = [other for each, (other, _) in errors.items() if each != name]
        if len(errors) < _FEWEST or samples < _FEWEST_SAMPLES:
            continue
        usual = median(others)
        if wilson(error, samples)[0] > usual + max(min(usual, (1 - usual) / 2), 0.05):
            found[name] = usual
    return found
