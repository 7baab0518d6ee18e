"""Predicted quantities and how far off they may be, with uncertainties that are independent.

Each figure of a profile and each constant of the model is a factor whose interval holds it with
nine chances in ten; that all of them are off to the same side at once is next to impossible. So a
quantity keeps, for each factor, how it would change if that factor alone were at the end of its
interval, and its own ends are the root of the sum of squares of those changes (JCGM 100:2008,
"Guide to the expression of uncertainty in measurement", equation 10, by finite differences): at the
dear end of the changes themselves, at the cheap end of their logarithms, which keeps it above 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, log, sqrt
from typing import NamedTuple

Z90 = 1.645
"""Of a normal distribution, nine tenths lie within so many standard deviations."""


@dataclass(frozen=True)
class Estimate:
    """A predicted quantity and its 90 % interval: ``low <= value <= high``."""

    value: float
    low: float
    high: float


class Span(NamedTuple):
    """A factor at the end that makes things cheap, as it is, and at the end that makes it dear."""

    cheap: float
    value: float
    dear: float


# A logarithm's worst: a quantity that a factor could make vanish.
_LEAST = 1e-6


class Quantity:
    """A value and what each factor alone would change of it.

    Args:
        value: at least 0.
        changes: factor -> change at its cheap end (at most 0) and at its dear end (at least 0).
    """

    __slots__ = ("changes", "value")

    def __init__(
        self, value: float, changes: Mapping[str, tuple[float, float]] | None = None
    ) -> None:
        self.value = value
        self.changes = changes or {}

    @classmethod
    def of(cls, name: str, span: Span | tuple[float, float, float]) -> "Quantity":
        """A factor itself."""
        cheap, value, dear = span
        return cls(value, {name: (cheap - value, dear - value)})

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
            # A factor of both changes the product by more than the sum of the two changes.
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
                below += log(max(1 + down / self.value, _LEAST)) ** 2
            above += up * up
        return Estimate(self.value, self.value * exp(-sqrt(below)), self.value + sqrt(above))
