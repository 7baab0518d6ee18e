"""Parameters as numbers: each one an axis of the unit cube, and the columns that a model reads.

A numeric axis is even in the parameter (or its logarithm). Choices that are numbers keep their
order, so that 16 lies between 8 and 32; other choices get a column each. A parameter that a
configuration does not have is NaN on its axis, and has a column of its own that says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

Array = NDArray[np.float64]


class ParameterAxis:
    """One parameter on 0..1.

    ``count`` is how many values it has, or None where it is continuous; each value then stands for
    an interval of the axis and sits in the middle of it.
    """

    def __init__(self, distribution: BaseDistribution) -> None:
        self.choices: Sequence[Any] | None = None
        self.ordered, self._log, self._step = True, False, 0.0
        self._whole = isinstance(distribution, IntDistribution)
        if isinstance(distribution, CategoricalDistribution):
            self.choices = distribution.choices
            self.ordered = all(_is_number(choice) for choice in self.choices)
            if self.ordered:
                self.choices = sorted(self.choices, key=float)
            self._low, self._high, self._step = 0.0, float(len(self.choices) - 1), 1.0
        elif isinstance(distribution, (FloatDistribution, IntDistribution)):
            self._low, self._high = float(distribution.low), float(distribution.high)
            self._log, self._step = distribution.log, float(distribution.step or 0.0)
        else:
            raise TypeError(f"a parameter of the kind {type(distribution).__name__} is not known")
        half = self._step / 2
        self._ends = self._warp(self._low - half), self._warp(self._high + half)
        self.count = round((self._high - self._low) / self._step) + 1 if self._step else None
        if self._low == self._high:
            self.count = 1
        self._extremes = self._place(np.array([self._low, self._high]))

    @property
    def columns(self) -> int:
        """How many columns :meth:`features` yields."""
        if self.count == 1:
            return 0
        return 1 if self.ordered or self.choices is None else len(self.choices)

    def snap(self, unit: Array) -> Array:
        """The nearest place on the axis that stands for a value; NaN stays."""
        if self.count == 1:
            return np.where(np.isnan(unit), unit, 0.5)
        clipped = np.clip(unit, 0.0, 1.0)
        return self._place(self._number(clipped)) if self._step else clipped

    def values(self, units: Array) -> list[Any]:
        """The parameter's values at places ``[n]``; None at NaN."""
        absent = np.isnan(units)
        lacking = absent.any()
        numbers = self._number(_within(_filled(units) if lacking else units, 0.0, 1.0)).tolist()
        if self.choices is not None:
            decoded = [self.choices[int(number)] for number in numbers]
        else:
            decoded = [int(number) for number in numbers] if self._whole else numbers
        if not lacking:
            return decoded
        return [
            None if gone else value for gone, value in zip(absent.tolist(), decoded, strict=True)
        ]

    def unit(self, value: Any) -> float:
        """The place of a value; a value outside of the range is at its end, or NaN for a choice."""
        if self.choices is not None:
            at = next((i for i, c in enumerate(self.choices) if _same(c, value)), None)
            if at is None and not isinstance(value, bool):  # a whole number for 1.0
                alike = (i for i, c in enumerate(self.choices) if not isinstance(c, bool))
                at = next((i for i in alike if self.choices[i] == value), None)
            return math.nan if at is None else float(self._place(np.array([float(at)]))[0])
        if self.count == 1:
            return 0.5
        number = min(max(float(value), self._low), self._high)
        return float(self._place(np.array([number]))[0])

    def onto(self, other: ParameterAxis, units: Array) -> Array:
        """Places ``[n]`` on another axis of the values at these places; NaN where it has none."""
        if self.choices is None and other.choices is None:
            numbers = self._number(np.clip(units, 0.0, 1.0))
            return np.asarray(other._place(np.clip(numbers, other._low, other._high)))
        if self.choices is None:
            return np.array([other.unit(value) for value in self.values(units)])
        table = np.array([other.unit(choice) for choice in self.choices])
        index = self._number(np.clip(_filled(units), 0.0, 1.0)).astype(int)
        return np.where(np.isnan(units), np.nan, table[index])

    def features(self, unit: Array) -> Array:
        """Columns ``[n, columns]`` of places ``[n]``; an absent parameter is in the middle."""
        if not self.columns:
            return np.empty((len(unit), 0))
        if self.columns == 1:
            low, high = self._extremes
            return np.asarray(_filled((unit - low) / (high - low))[:, None])
        chosen = self._number(_filled(unit)).astype(int)
        # Two different choices are as far apart as the ends of a numeric axis.
        columns = np.eye(self.columns)[chosen] / math.sqrt(2)
        columns[np.isnan(unit)] = 0.0
        return np.asarray(columns)

    def _number(self, unit: Array) -> Array:
        """From places to numbers; of choices, to their indices."""
        low, high = self._ends
        number = np.exp(low + unit * (high - low)) if self._log else low + unit * (high - low)
        if self._step:
            number = self._low + self._step * np.round((number - self._low) / self._step)
        return _within(number, self._low, self._high)

    def _place(self, number: Array) -> Array:
        low, high = self._ends
        warped = np.log(number) if self._log else number
        return (warped - low) / (high - low) if high > low else np.full_like(warped, 0.5)

    def _warp(self, number: float) -> float:
        return math.log(number) if self._log else number


def _within(values: Array, low: float, high: float) -> Array:
    """As ``np.clip``, which takes three times as long for the few values of a search's step."""
    return np.asarray(np.minimum(np.maximum(values, low), high))


def _filled(units: Array) -> Array:
    """Places of which absent ones are in the middle."""
    return np.where(np.isnan(units), 0.5, units)


def _is_number(choice: Any) -> bool:
    return isinstance(choice, (int, float)) and not isinstance(choice, bool)


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and (a == b or (a != a and b != b))


@dataclass(frozen=True)
class Encoding:
    """A search space as a unit cube, an axis a parameter.

    Args:
        axes: by name.
        conditional: parameters that some configurations do not have.
        within: axes of those that may only take some of their values from now on.
    """

    axes: Mapping[str, ParameterAxis]
    conditional: frozenset[str]
    within: Mapping[str, ParameterAxis] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        space: Mapping[str, BaseDistribution],
        conditional: Iterable[str] = (),
        within: Mapping[str, BaseDistribution] | None = None,
    ) -> Encoding:
        """The encoding of distributions, in the order of their names."""
        return cls(
            {name: ParameterAxis(space[name]) for name in sorted(space)},
            frozenset(conditional),
            {name: ParameterAxis(each) for name, each in (within or {}).items()},
        )

    @property
    def allowed(self) -> list[ParameterAxis]:
        """The axis of each parameter, of the values that it may take from now on."""
        return [self.within.get(name, axis) for name, axis in self.axes.items()]

    def widened(self, units: Array) -> Array:
        """Places ``[n, p]`` of what lies at these places of the values that are allowed."""
        units = units.copy()
        for i, (name, axis) in enumerate(self.axes.items()):
            if name in self.within:
                units[:, i] = self.within[name].onto(axis, units[:, i])
        return units

    def confined(self, units: Array) -> Array:
        """The nearest places ``[n, p]`` whose values are allowed; NaN stays."""
        units = units.copy()
        for i, (name, axis) in enumerate(self.axes.items()):
            if name not in self.within:
                continue
            inner = self.within[name]
            if inner.choices is None:
                units[:, i] = inner.onto(axis, axis.onto(inner, units[:, i]))
            else:
                points = np.array([axis.unit(choice) for choice in inner.choices])
                far = np.abs(_filled(units[:, i])[:, None] - points)
                nearest = points[far.argmin(axis=1)]
                units[:, i] = np.where(np.isnan(units[:, i]), np.nan, nearest)
        return units

    @property
    def count(self) -> int | None:
        """How many configurations there are; None where they are not countable."""
        counts = [axis.count for axis in self.allowed]
        if self.conditional or any(count is None for count in counts):
            return None
        return math.prod(count for count in counts if count is not None)

    @property
    def groups(self) -> tuple[str, ...]:
        """The parameter behind each column of :meth:`features`; ``?name`` where it is absence."""
        return tuple(
            group
            for name, axis in self.axes.items()
            for group in (*(name,) * axis.columns, *(f"?{name}",) * (name in self.conditional))
        )

    def unit(self, values: Mapping[str, Any]) -> Array:
        """The place ``[p]`` of a configuration; NaN for what it does not have."""
        return np.array(
            [
                axis.unit(values[name]) if name in values else math.nan
                for name, axis in self.axes.items()
            ]
        )

    def values(self, units: Array) -> list[dict[str, Any]]:
        """The configurations at places ``[n, p]``, without what is NaN."""
        columns = [axis.values(units[:, i]) for i, axis in enumerate(self.axes.values())]
        absent = np.isnan(units)
        rows = [
            dict(zip(self.axes, row, strict=True)) for row in zip(*columns, strict=True)
        ] or [{} for _ in units]  # fmt: skip
        names = list(self.axes)
        for row, axis in zip(*np.nonzero(absent), strict=True):
            del rows[row][names[axis]]
        return rows

    def snap(self, units: Array) -> Array:
        """Places ``[n, p]`` that stand for configurations, nearest to these."""
        return np.stack(
            [axis.snap(units[:, i]) for i, axis in enumerate(self.axes.values())], axis=1
        )

    def features(self, units: Array) -> Array:
        """Columns ``[n, d]`` for a model, each within 0..1."""
        columns = [np.empty((len(units), 0))]
        for i, (name, axis) in enumerate(self.axes.items()):
            columns.append(axis.features(units[:, i]))
            if name in self.conditional:
                columns.append(np.isnan(units[:, i : i + 1]).astype(float))
        return np.concatenate(columns, axis=1)
