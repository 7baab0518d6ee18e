"""Parameters that two studies have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)


def shared(
    ours: Mapping[str, BaseDistribution], theirs: Mapping[str, BaseDistribution]
) -> dict[str, BaseDistribution]:
    """Parameters that two spaces have in common, each with a distribution that holds both."""
    both = {name: _union(ours[name], theirs[name]) for name in ours if name in theirs}
    return {name: union for name, union in both.items() if union is not None}


def _union(ours: BaseDistribution, theirs: BaseDistribution) -> BaseDistribution | None:
    """A distribution that holds the values of both; None where they have nothing in common."""
    choices = [each.choices for each in (ours, theirs) if isinstance(each, CategoricalDistribution)]
    if len(choices) == 2:
        known = [(type(choice), choice) for choice in choices[0]]
        extra = [choice for choice in choices[1] if (type(choice), choice) not in known]
        if len(extra) == len(choices[1]) and not _numbers([*choices[0], *extra]):
            return None
        return CategoricalDistribution([*choices[0], *extra])
    ends: list[float] = []
    for each in (ours, theirs):
        if isinstance(each, CategoricalDistribution):
            if not _numbers(each.choices):
                return None
            ends += map(float, each.choices)  # type: ignore[arg-type]
        elif isinstance(each, (FloatDistribution, IntDistribution)):
            ends += [float(each.low), float(each.high)]
    logarithmic = bool(getattr(ours, "log", False)) and min(ends) > 0
    return FloatDistribution(min(ends), max(ends), log=logarithmic)


def _numbers(choices: Sequence[Any]) -> bool:
    return all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in choices)
