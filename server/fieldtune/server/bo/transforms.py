"""The scale on which an objective is modelled, and what falls below a level in expectation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtr

Array = NDArray[np.float64]

_DECADE = 10.0
"""Positive values that span more than this factor are modelled by their logarithm."""

# Quantiles of the standard normal distribution between which an expectation is summed up.
_STEP = 0.25
_Z = np.arange(-8.0, 6.0 + _STEP / 2, _STEP)
_AT = ndtr(_Z)
_BETWEEN = (_AT[:-1] + 4 * ndtr((_Z[:-1] + _Z[1:]) / 2) + _AT[1:]) / 6  # Simpson's rule


@dataclass(frozen=True)
class Transform:
    """A monotone map of an objective onto a standardised line.

    Shares, such as errors (or negated accuracies), go by their logit, so that 2 % and 4 % are as
    far apart as 20 % and 40 % nearly are, and no model predicts below 0.

    Attributes:
        kind: ``logit`` of ``y - offset``, ``log``, or ``linear``.
        offset: lower end of the shares.
        least: shares nearer to 0 or 1 than this are taken to be this near.
        mean, deviation: of the mapped values.
    """

    kind: Literal["linear", "log", "logit"]
    offset: float = 0.0
    least: float = 0.0
    mean: float = 0.0
    deviation: float = 1.0

    @classmethod
    def of(cls, values: Array) -> Transform:
        """The scale that suits values ``[n]`` to be minimised."""
        low, high = float(values.min()), float(values.max())
        scale = cls("linear")
        for offset in (0.0, -1.0):
            if offset <= low and high <= offset + 1 and high > low:
                shares = values - offset
                inner = np.minimum(shares, 1 - shares)
                least = float(np.min(inner[inner > 0], initial=1e-2)) / 2
                scale = cls("logit", offset, max(least, 1e-6))
        if scale.kind == "linear" and low > 0 and high > _DECADE * low:
            scale = cls("log")
        mapped = scale.forward(values)
        deviation = float(mapped.std())
        floor = 1e-9 * max(1.0, abs(float(mapped.mean())))
        return cls(
            scale.kind,
            scale.offset,
            scale.least,
            float(mapped.mean()),
            deviation if deviation > floor else 1.0,
        )

    def forward(self, values: Array) -> Array:
        """From the objective to the standardised line."""
        match self.kind:
            case "logit":
                share = np.clip(values - self.offset, self.least, 1 - self.least)
                mapped = logit(share)
            case "log":
                mapped = np.log(np.maximum(values, 1e-300))
            case _:
                mapped = values
        return np.asarray((mapped - self.mean) / self.deviation)

    def backward(self, mapped: Array) -> Array:
        """From the standardised line to the objective."""
        line = mapped * self.deviation + self.mean
        match self.kind:
            case "logit":
                return np.asarray(expit(line) + self.offset)
            case "log":
                return np.exp(np.minimum(line, 700.0))
            case _:
                return line


def shortfall(levels: Array, mean: Array, deviation: Array, scale: Transform) -> Array:
    """How far an objective falls below each level in expectation: ``E[max(t - Y, 0)]``.

    With ``Y = b(M + S Z)``, ``Z`` standard normal, this is the integral of ``P(Y <= y)`` up to
    ``t``; it is summed over steps of ``Z``, all terms positive, so that it keeps its relative
    accuracy (better than 1 %) far out in the tail. For the linear scale it is the well known
    ``s (z Phi(z) + phi(z))``.

    Args:
        levels: ``t``, ``[j]``; -inf is allowed.
        mean: ``M`` on the standardised line, ``[c]``.
        deviation: ``S`` there, ``[c]``, above 0.
        scale: ``b``.

    Returns:
        ``[c, j]``.
    """
    at = scale.backward(mean[:, None] + deviation[:, None] * _Z)
    summed = np.zeros_like(at)
    np.cumsum(_BETWEEN * np.diff(at, axis=1), axis=1, out=summed[:, 1:])
    finite = np.isfinite(levels)
    t = np.where(finite, levels, 0.0)
    z = (scale.forward(t) - mean[:, None]) / deviation[:, None]
    index = np.clip(np.floor((z - _Z[0]) / _STEP), 0, len(_Z) - 1).astype(int)
    z_in = np.maximum(z, _Z[0])
    part = (_AT[index] + 4 * ndtr((_Z[index] + z_in) / 2) + ndtr(z_in)) / 6
    below = np.take_along_axis(summed, index, axis=1)
    below += part * (t - np.take_along_axis(at, index, axis=1))
    return np.where(finite & (z > _Z[0]), np.maximum(below, 0.0), 0.0)
