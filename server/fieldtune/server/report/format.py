"""How figures are written: in a unit that suits their size, with two significant digits.

Three where the first is 1. So rounding changes a figure by at most 2.5 %, which is less than the
interval of any figure of a report.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fieldtune.profiles.common.estimate import Estimate
from fieldtune.server.costs.budget import Account
from fieldtune.server.study.objectives import MEASURES
from fieldtune.server.study.space import Value

_LABELS = {"coverage": "Coverage"}
"""Of limits that are not measures."""

MOST_DIGITS = 4
"""That figures have more than usual, where it takes these to tell them apart."""
_MIB = 2.0**20
_Steps = tuple[tuple[float, str, float], ...]
# Size of a unit, the unit, and the figure from which on it is used: 0.21 ms and 90 s, but 310 mJ.
_SECONDS: _Steps = (
    (1e-6, "µs", 0.0),
    (1e-3, "ms", 1e-4),
    (1.0, "s", 1.0),
    (60.0, "min", 120.0),
    (3600.0, "h", 7200.0),
)
_JOULES: _Steps = (
    (1e-6, "µJ", 0.0),
    (1e-3, "mJ", 1e-3),
    (1.0, "J", 1.0),
    (1e3, "kJ", 1e3),
    (1e6, "MJ", 1e6),
)
_WATTS: _Steps = ((1e-3, "mW", 0.0), (1.0, "W", 1.0))
_BYTES: _Steps = (
    (1.0, "B", 0.0),
    (1024.0, "KiB", 1024.0),
    (_MIB, "MiB", _MIB),
    (2.0**30, "GiB", 2.0**30),
)
_UNITS: dict[str, tuple[float, _Steps]] = {
    "ms": (1e-3, _SECONDS),
    "s": (1.0, _SECONDS),
    "h": (3600.0, _SECONDS),
    "j": (1.0, _JOULES),
    "mj": (1e-3, _JOULES),
    "w": (1.0, _WATTS),
    "mib": (_MIB, _BYTES),
    "bytes": (1.0, _BYTES),
}


@dataclass(frozen=True)
class DisplayUnit:
    """What to multiply a measure by, and the unit that it is in then."""

    factor: float
    unit: str

    def write(self, value: float, more: int = 0) -> str:
        """A value of the measure in this unit, without it, with so many digits more."""
        return number(value * self.factor, percent=self.unit == "%", more=more)

    def with_unit(self, value: float, more: int = 0) -> str:
        """A value of the measure in this unit, with it."""
        return f"{self.write(value, more)} {self.unit}".rstrip()

    def digits_between(self, value: float, other: float) -> int:
        """How many digits more tell two different values apart; at most :data:`MOST_DIGITS`."""
        more = 0
        while (
            value != other
            and more < MOST_DIGITS
            and self.write(value, more) == self.write(other, more)
        ):
            more += 1
        return more

    def bounds(self, interval: Estimate) -> str:
        """``low-high`` in this unit, with a dash; empty where the interval has no extent."""
        low, high = self.write(interval.low), self.write(interval.high)
        return "" if interval.low == interval.high else f"{low}–{high}"  # noqa: RUF001


def label(name: str) -> str:
    """The label of a measure or limit; its name where it has none."""
    return MEASURES[name].label if name in MEASURES else _LABELS.get(name, name)


def phrase(name: str) -> str:
    """The same within a sentence."""
    return MEASURES[name].phrase if name in MEASURES else label(name).lower()


def display_unit(name: str, values: Sequence[float]) -> DisplayUnit:
    """One unit that suits all the values of a measure, by the middle one of them."""
    own_unit = MEASURES[name].unit if name in MEASURES else name.rpartition("_")[2]
    if own_unit == "share":
        return DisplayUnit(100.0, "%")
    known = unit_steps(name)
    if known is None:
        return DisplayUnit(1.0, "")
    to_base, steps = known
    sizes = sorted(abs(value) * to_base for value in values if value and math.isfinite(value))
    middle = _rounded(sizes[len(sizes) // 2]) if sizes else to_base
    size, unit, _ = [step for step in steps if step[2] <= middle * (1 + 1e-12)][-1]
    return DisplayUnit(to_base / size, unit)


def unit_steps(name: str) -> tuple[float, _Steps] | None:
    """What :func:`display_unit` chooses among: the factor to the base unit, and its steps."""
    return _UNITS.get(MEASURES[name].unit if name in MEASURES else name.rpartition("_")[2])


def quality(measures: Mapping[str, float]) -> str:
    """The measure of how well a model does: its error, or its loss where there are no labels."""
    return "error" if "error" in measures else "loss"


def figure(name: str, value: float) -> str:
    """A measure with its unit: ``0.21 ms``, ``310 mJ``, ``7.6 %``."""
    return display_unit(name, [value]).with_unit(value)


def budget(account: Account) -> str:
    """A budget itself: ``20 device-hours``, ``1.5 kJ``, ``24 MiB sent``."""
    if account.name in ("trials", "device_hours"):
        return f"{account.of:g} {account.name.replace('_', '-')}"
    return figure(account.name, account.of) + (" sent" if account.name == "sent_bytes" else "")


def budget_used(account: Account) -> str:
    """How much of a budget is used: ``12/40`` trials, or ``31 % of 20 device-hours``."""
    if account.name == "trials":
        return f"{account.used:g}/{account.of:g}"
    return f"{in_percent(account.share)} of {budget(account)}"


def bounds(name: str, interval: Estimate) -> str:
    """The ends of an interval in the unit of its value, without it."""
    return display_unit(name, [interval.value]).bounds(interval)


def number(value: float, *, percent: bool = False, more: int = 0) -> str:
    """A figure without its unit; a percentage above 10 keeps its decimal, and is no 100 if less.

    Args:
        value: to write.
        percent: whether it is in per cent.
        more: digits beyond the usual ones.
    """
    if math.isnan(value):
        return "?"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"  # noqa: RUF001
    if value == 0:
        return "0"
    rounded = _rounded(value, more)
    digits = _digits(rounded) + more
    decimals = max(0, digits - 1 - _exponent(rounded))
    if percent and abs(value) >= 1:
        decimals = 1 + more
        while round(value, decimals) == 100 != value and decimals < MOST_DIGITS:
            decimals += 1
        rounded = round(value, decimals)
    elif abs(rounded) >= 1e6 or abs(rounded) < 1e-4:
        return f"{rounded:.{digits - 1}e}".replace("-", "−")  # noqa: RUF001
    return f"{rounded:.{decimals}f}".replace("-", "−")  # noqa: RUF001


def change(value: float, before: float) -> str:
    """By how much a figure differs from an earlier one: ``−30 %``; nothing where it was 0."""
    if before == 0 or not math.isfinite(value / before):
        return ""
    percent = 100 * (value / before - 1)
    sign = "+" if percent > 0 else "−" if percent < 0 else "±"  # noqa: RUF001
    return sign + whole(abs(percent))


def difference(name: str, value: float, other: float) -> str:
    """A difference in a measure with its sign: ``+29 mJ``, of shares ``−1.2 points``."""
    gap = value - other
    unit = display_unit(name, [abs(gap)])
    sign = "+" if gap > 0 else "−" if gap < 0 else "±"  # noqa: RUF001
    words = "points" if unit.unit == "%" else unit.unit
    return f"{sign}{unit.write(abs(gap))} {words}".rstrip()


def setting(value: Value) -> str:
    """A value of the search space; three significant digits of a fraction."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def of_limit(slack: float) -> str:
    """How much of a cap is used: ``22 %`` for a slack of -0.78."""
    return in_percent(1 + slack)


def in_percent(share: float) -> str:
    """A share in whole per cent; ``< 1 %`` of what is not 0."""
    return whole(100 * share) if share >= 0.01 or share <= 0 else "< 1 %"


def whole(percent: float) -> str:
    """Per cent without decimals, unless that would be 0 or 100 for what is not."""
    if 0 < percent < 1:
        return f"{percent:.1g} %"
    digits = 0
    while percent != 100 and float(f"{percent:.{digits}f}") == 100 and digits < MOST_DIGITS:
        digits += 1
    return f"{percent:.{digits}f} %"


def listed(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def counted(count: int, one: str) -> str:
    """``1 trial``, ``2 trials``."""
    return f"{count} {one if count == 1 else one + 's'}"


def clients_of(count: int) -> str:
    """``2 clients``; of a device type that no client is of, that all is predicted."""
    return counted(count, "client") if count else "none there: predicted from its profile"


def _exponent(value: float) -> int:
    return math.floor(math.log10(abs(value)) + 1e-12)


def _digits(value: float) -> int:
    unit = 10.0 ** _exponent(value)  # of the smallest floats, 0
    return 3 if unit and abs(value) / unit < 2 - 1e-9 else 2


def _rounded(value: float, more: int = 0) -> float:
    """To two significant digits, three where the first is 1; 1.996 is rounded to 2.0."""
    if value == 0:
        return 0.0
    return float(f"{value:.{_digits(value) - 1 + more}e}")
