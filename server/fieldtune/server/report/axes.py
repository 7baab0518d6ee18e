"""Axes for parallel coordinates: where each trial crosses them, and what is written along them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from fieldtune.server.report.format import number, scale, setting
from fieldtune.server.report.view import completed, objectives, parameters
from fieldtune.server.results.schema import Attempt, Summary
from fieldtune.server.study.objectives import Objective
from fieldtune.server.study.space import Value

FEW = 6
"""Whole numbers that take no more values than this have a tick for each, equally far apart."""
_DECADE = 20.0
"""A ratio of largest to smallest value from which on an axis is logarithmic."""


@dataclass(frozen=True)
class Axis:
    """One vertical axis: where each trial crosses it (0..1), and what is written along it."""

    title: str
    heights: list[float]
    ticks: list[tuple[float, str]]


def all_axes(summary: Summary) -> list[Axis]:
    """The axes from left to right: hyperparameters, then objectives."""
    attempts = completed(summary)
    names = [name for name in parameters(summary) if all(name in a.configuration for a in attempts)]
    return [
        *(
            _of_parameter(name, [attempt.configuration[name] for attempt in attempts])
            for name in names
        ),
        *(_of_objective(goal, attempts) for goal in objectives(summary)),
    ]


def _of_parameter(name: str, values: Sequence[Value]) -> Axis:
    title = escape(name).replace("_", "_<br>")
    numbers = [float(v) for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)]
    distinct: list[Value] = sorted({repr(v): v for v in values}.values(), key=_rank)
    whole = all(isinstance(v, int) for v in values)
    if len(numbers) == len(values) and (len(distinct) > FEW or not whole):
        return _continuous(title, numbers, whole=whole)
    place = {repr(v): (i + 0.5) / len(distinct) for i, v in enumerate(distinct)}
    return Axis(
        title,
        [place[repr(v)] for v in values],
        [(place[repr(v)], escape(setting(v))) for v in distinct],
    )


def _rank(value: Value) -> tuple[int, float, str]:
    numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
    return (0, float(value), "") if numeric else (1, 0.0, str(value))


def _of_objective(goal: Objective, attempts: Sequence[Attempt]) -> Axis:
    values = [attempt.objectives[goal.name] for attempt in attempts]
    unit = scale(goal.name, values)
    title = f"<b>{escape(goal.label)}</b>{f'<br>{unit.unit}' if unit.unit else ''}"
    return _continuous(title, [value * unit.factor for value in values], whole=False)


def _continuous(title: str, values: Sequence[float], *, whole: bool) -> Axis:
    low, high = min(values), max(values)
    if low == high:
        return Axis(title, [0.5] * len(values), [(0.5, number(low))])
    logarithmic = low > 0 and high / low > _DECADE

    def height(value: float) -> float:
        if logarithmic:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    if logarithmic:
        ticks = [low * (high / low) ** (k / 4) for k in range(5)]
    else:
        ticks = [low + (high - low) * k / 4 for k in range(5)]
    if whole:
        ticks = sorted({float(round(tick)) for tick in ticks})
    texts = [f"{tick:.0f}" if whole else number(tick) for tick in ticks]
    return Axis(
        title,
        [height(value) for value in values],
        [(height(tick), text) for tick, text in zip(ticks, texts, strict=True)],
    )
