"""Predicted quantities with 90 % intervals, propagated from independent uncertain factors.

Each value of a profile and each constant of the cost model is a factor with a 90 % interval. The
factors are treated as independent, so their errors rarely all point the same way. A quantity stores
for each factor how it would change if that factor alone were at either end of its interval. Its own
interval is the root of the sum of squares of those changes (JCGM 100:2008, "Guide to the expression
of uncertainty in measurement", equation 10, by finite differences). The upper end uses the changes
themselves, the lower end their logarithms, which keeps it above 0.

Most factors are a device type's: all configurations on it are wrong by the same factor, and the
ratio of two of them is known far better than either (:func:`ratio`). A factor whose name starts
with ``own`` is the error of one configuration alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import exp, hypot, log, sqrt
from typing import Annotated, NamedTuple

from pydantic import Field

Z90, Z95 = 1.645, 1.959964
"""90 and 95 % of a normal distribution lie within so many standard deviations of its mean."""

OWN = "own"
"""How the name of a factor starts that is no other configuration's."""
# Smallest ratio whose logarithm is taken, for a factor that could reduce the quantity to 0.
_MIN_RATIO = 1e-6


@dataclass(frozen=True)
class Estimate:
    """A predicted quantity and its 90 % interval: ``low <= value <= high``.

    ``factors`` says what it is unsure of: factor -> half of its 90 % interval, as a logarithm.
    Other predictions for the same device type share these factors, except those whose name starts
    with ``own``. It is not written to files; an estimate without it is compared as if nothing were
    shared.
    """

    value: float
    low: float
    high: float
    factors: Annotated[Mapping[str, float], Field(exclude=True)] = field(
        default_factory=dict, compare=False, repr=False
    )

    def __mul__(self, factor: float) -> "Estimate":
        """The estimate and both ends times a number above 0."""
        return replace(
            self, value=self.value * factor, low=self.low * factor, high=self.high * factor
        )

    @property
    def half_width(self) -> float:
        """Half of the interval's width as a logarithm; 0 for a value that is 0."""
        if self.value <= 0:
            return 0.0
        low = max(self.low, self.value * _MIN_RATIO)
        return log(max(self.high, self.value) / low) / 2

    def within(self, low: float, high: float) -> "Estimate":
        """The same value with another interval, in which each factor keeps its share."""
        found = replace(self, low=low, high=high)
        scale = found.half_width / self.half_width if self.half_width else 0.0
        return replace(found, factors={name: by * scale for name, by in self.factors.items()})


def ratio(a: Estimate, b: Estimate) -> Estimate:
    """``a / b`` and its 90 % interval, for two configurations on the same device type.

    What is unsure about the device changes both alike and cancels; what remains is the part of
    each factor in which they differ (one may be mostly arithmetic, the other mostly dispatch), and
    the error that each has alone. Configuration ``a`` is surely cheaper (with 95 % confidence) if
    ``ratio(a, b).high < 1``.

    Args:
        a: a predicted quantity above 0.
        b: the same quantity of the other configuration, on the same device type, above 0.

    Raises:
        ValueError: one of them is not above 0.
    """
    if a.value <= 0 or b.value <= 0:
        raise ValueError(f"{a.value} / {b.value}: only values above 0 have a ratio")
    mine, other = parts(a), parts(b)
    names = sorted({*mine, *other})
    shared = [mine.get(n, 0.0) - other.get(n, 0.0) for n in names if not n.startswith(OWN)]
    own = [by for each in (mine, other) for name, by in each.items() if name.startswith(OWN)]
    half = exp(hypot(*shared, *own))
    value = a.value / b.value
    return Estimate(value, value / half, value * half)


def parts(estimate: Estimate) -> Mapping[str, float]:
    """What it is unsure of; all of it is its own where nothing is known of its factors."""
    return estimate.factors or {OWN: estimate.half_width}


class Span(NamedTuple):
    """A factor's nominal value, and the ends of its interval with the lowest and highest cost."""

    best: float
    value: float
    worst: float


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
        parts = {}
        for name, (down, up) in self.changes.items():
            if not (down or up):
                continue
            fall = log(max(1 + down / self.value, _MIN_RATIO)) if down < 0 else 0.0
            below += fall * fall
            above += up * up
            parts[name] = (log(1 + up / self.value) - fall) / 2
        return Estimate(self.value, self.value * exp(-sqrt(below)), self.value + sqrt(above), parts)
