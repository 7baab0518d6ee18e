"""Predicted quantities with 90 % intervals, propagated from independent uncertain factors.

Each value of a profile and each constant of the cost model is a factor with a 90 % interval. The
factors are treated as independent, so their errors rarely all point the same way. A quantity stores
for each factor how it would change if that factor alone were at either end of its interval. Its own
interval is the root of the sum of squares of those changes (JCGM 100:2008, "Guide to the expression
of uncertainty in measurement", equation 10, by finite differences). The upper end uses the changes
themselves, the lower end their logarithms, which keeps it above 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, log, sqrt
from typing import NamedTuple

Z90 = 1.645
"""90 % of a normal distribution lie within this many standard deviations of its mean."""


@dataclass(frozen=True)
class Estimate:
    """A predicted quantity and its 90 % interval: ``low <= value <= high``."""

    value: float
    low: float
    high: float


class Span(NamedTuple):
    """A factor's nominal value, and the ends of its interval with the lowest and highest cost."""

    best: float
    value: float
    worst: float


# Smallest ratio whose logarithm is taken, for a factor that could reduce the quantity to 0.
_MIN_RATIO = 1e-6


class Quantity:
    """A value and how much each factor alone could change it.

    Args:
        value: at least 0.
        changes: factor -> change at its best end (at most 0) and at its worst end (at least 0), in
            the unit of the value.
    """

    __slots__ = ("changes", "value")

    def __init__(
        self, value: float, changes: Mapping[str, tuple[float, float]] | None = None
    ) -> None:
        self.value = value
        self.changes = changes or {}

    @classmethod
    def of(cls, name: str, span: Span | tuple[float, float, float]) -> "Quantity":
        """The quantity that is a single factor."""
        best, value, worst = span
        return cls(value, {name: (best - value, worst - value)})

    def __add__(self, other: "Quantity | float") -> "Quantity":
        if not isinstance(other, Quantity):
            return Quantity(self.value + other, self.changes)
        changes = dict(self.changes)
        for name, (down, up) in other.changes.items():
            old = changes.get(name)
            changes[name] = (down, up) if old is None else (old[0] + down, old[1] + up)
        return Quantity(self.value + other.value, changes)

    __radd__ = __add__

    def __mul__(self, other: "Quantity | float") -> "Quantity":
        if not isinstance(other, Quantity):
            return Quantity(
                self.value * other,
                {name: (down * other, up * other) for name, (down, up) in self.changes.items()},
            )
        mine, theirs = self.value, other.value
        changes = {name: (down * theirs, up * theirs) for name, (down, up) in self.changes.items()}
        for name, (down, up) in other.changes.items():
            # A factor of both operands also contributes the product of its two changes.
            own_down, own_up = self.changes.get(name, (0.0, 0.0))
            changes[name] = (
                own_down * theirs + down * (mine + own_down),
                own_up * theirs + up * (mine + own_up),
            )
        return Quantity(mine * theirs, changes)

    __rmul__ = __mul__

    def estimate(self) -> Estimate:
        """The value and its 90 % interval."""
        if self.value <= 0:
            high = sqrt(sum(up * up for _, up in self.changes.values()))
            return Estimate(self.value, 0.0, self.value + high)
        below = above = 0.0
        for down, up in self.changes.values():
            if down < 0:
                below += log(max(1 + down / self.value, _MIN_RATIO)) ** 2
            above += up * up
        return Estimate(self.value, self.value * exp(-sqrt(below)), self.value + sqrt(above))
