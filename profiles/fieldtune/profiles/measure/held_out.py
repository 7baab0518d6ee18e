"""How true predictions are for models that a fit has not seen, and how wide intervals must be.

A family of models is left out at a time (all MobileNet v2, say). Where the table has a kind of
latency of a single family only, one model is left out at a time. A fit to the rest predicts what
was left out; intervals are made so wide that they hold somewhat more than nine in ten of these
latencies (split conformal prediction; Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random
World", 2005). Few latencies say little of a quantile, so errors that are usual for the kind of
latency count beside them, as much as a few rows do: many rows decide for themselves.
Whether intervals hold is tested on each group with intervals that the other groups gave.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fieldtune.profiles.common.estimate import Z90
from fieldtune.profiles.costmodel.latency import LatencyModel
from fieldtune.profiles.device.profile import DeviceProfile, HeldOut
from fieldtune.profiles.device.value import ProfileValue
from fieldtune.profiles.measure.latency_table import Row

Vector = NDArray[np.float64]
LeftOut = Literal["families", "models"]
_NINE_IN_TEN = 0.9
_LEVEL = 0.92
"""Share of the errors that an interval shall hold: rows of a family have similar errors, and so say
less than as many independent ones."""
HALVES = np.array([0.03 * 1.15**step for step in range(29)])
"""Halves of intervals that are tried, as logarithms. Boards of a type differ by the smallest."""
EXPECTED: Mapping[str, float] = {
    "one thread": 0.065,
    "several threads": 0.14,
    "plain one thread": 0.25,
    "plain several threads": 0.14,
    "int8 one thread": 0.09,
    "int8 several threads": 0.20,
    "int8 plain one thread": 0.20,
    "int8 plain several threads": 0.18,
}
"""Kind of latency -> what nine in ten errors of models left out are within, as a logarithm: over
all device types for which latencies were published."""
_EXPECTED_ROWS = 4.0
"""Rows as which the expected errors count."""
_QUANTILES = tuple(NormalDist().inv_cdf((1 + (n + 0.5) / 10) / 2) / Z90 for n in range(10))
"""Of the absolute value of a normal error that is within 1 nine times in ten."""
_FOLDS = 12
"""Models of a single family are left out in at most so many groups."""
JUDGED_BY: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "float32_one_thread_gflop_s": (("one thread",),),
    "float32_all_cores_gflop_s": (("several threads",),),
    "plain_share": (
        ("plain one thread", "plain several threads"),
        ("int8 plain one thread", "int8 plain several threads"),
    ),
    "int8_one_thread_gop_s": (
        ("int8 one thread",),
        ("int8 plain one thread", "int8 plain several threads"),
    ),
    "int8_all_cores_gop_s": (("int8 several threads",),),
}
"""Rate -> the kinds of latency that say how wide its interval must be, or what stands in for them
where the table has none; in the order in which the intervals are made."""


_SEEN_IN: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "memory_traffic_mb_s": (
        ("one thread", "several threads"),
        ("plain one thread", "plain several threads"),
    ),
    "sync_us": (
        ("several threads",),
        ("int8 several threads",),
        ("plain several threads", "int8 plain several threads"),
    ),
}
"""The same of the other fitted rates, whose intervals these errors do not make."""


def judges(name: str, kinds: Collection[str]) -> tuple[str, ...]:
    """Of the kinds of latency that there are, those that say how wide a rate's interval must be."""
    return _first(JUDGED_BY.get(name, ()), kinds)


def seen_in(name: str, kinds: Collection[str]) -> tuple[str, ...]:
    """Of the kinds of latency that there are, those whose errors say how true a rate is."""
    if found := judges(name, kinds) or _first(_SEEN_IN.get(name, ()), kinds):
        return found
    # None of these was measured, so the rate was fitted to others, of its own precision if any.
    same = [kind for kind in kinds if kind.startswith("int8") == name.startswith("int8")]
    return tuple(sorted(same or kinds))


def _first(choices: Sequence[Sequence[str]], kinds: Collection[str]) -> tuple[str, ...]:
    found = ([kind for kind in each if kind in kinds] for each in choices)
    return tuple(next(filter(None, found), ()))


@dataclass(frozen=True, eq=False)
class Group:
    """Rows that are left out together."""

    left_out: LeftOut
    names: frozenset[str]  # of a family, or of models
    rows: tuple[Row, ...]  # that are predicted

    def covers(self, row: Row) -> bool:
        """Whether a fit that predicts this group must not see the row."""
        return (row.family if self.left_out == "families" else row.model) in self.names


@dataclass(frozen=True)
class HeldOutRow:
    """A row, and what a fit without its group predicts."""

    row: Row
    group: Group
    ms: float

    @property
    def error(self) -> float:
        """log(predicted / measured)."""
        return log(self.ms / self.row.ms)


def left_out_groups(rows: Sequence[Row]) -> list[Group]:
    """The groups to leave out, one at a time; together they have every row."""
    families: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        families[row.kind].add(row.family)
    by_family: dict[str, list[Row]] = defaultdict(list)
    by_model: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if len(families[row.kind]) > 1:
            by_family[row.family].append(row)
        else:
            by_model[row.model].append(row)
    groups = [Group("families", frozenset((name,)), tuple(r)) for name, r in by_family.items()]
    models = list(by_model)
    for start in range(min(_FOLDS, len(models))):
        names = models[start::_FOLDS]
        found = tuple(row for name in names for row in by_model[name])
        groups.append(Group("models", frozenset(names), found))
    return groups


def widths(
    profile: DeviceProfile, halves: Mapping[str, float], left: Sequence[HeldOutRow]
) -> dict[str, float]:
    """Half of the interval, as a logarithm, of each rate that some rows judge.

    Args:
        profile: with the fitted rates.
        halves: of its rates, as far as the table tells them.
        left: rows and their predictions.
    """
    found = dict(halves)
    judged: dict[str, float] = {}
    for name in JUDGED_BY:
        kinds = judges(name, {each.row.kind for each in left})
        rows = [each for each in left if each.row.kind in kinds]
        if name not in halves or not rows:
            continue
        ends = [_ends(_with_halves(profile, found | {name: half}), rows) for half in HALVES]
        found[name] = judged[name] = calibrated_half(
            np.stack(ends),
            np.array([each.error for each in rows]),
            np.array([EXPECTED[each.row.kind] for each in rows]),
        )
    return judged


def calibrated_half(ends: Vector, errors: Vector, expected: Vector) -> float:
    """Half of an interval, as a logarithm, that holds as many errors as it shall.

    Args:
        ends: ``[len(HALVES), n, 2]``, both ends of each row's interval with each half that is
            tried, as logarithms relative to the prediction.
        errors: ``[n]``, log(predicted / measured) of rows left out.
        expected: ``[n]``, what nine in ten errors of such rows are within.
    """
    needed, weight = [_needed(ends, errors)], [np.ones(len(errors))]
    share = _EXPECTED_ROWS / (2 * len(_QUANTILES) * len(errors))
    for quantile in _QUANTILES:
        for sign in (-1.0, 1.0):
            needed.append(_needed(ends, sign * quantile * expected))
            weight.append(np.full(len(errors), share))
    values, weights = np.concatenate(needed), np.concatenate(weight)
    order = np.argsort(values)
    below = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][np.searchsorted(below, _LEVEL)])


def _needed(ends: Vector, errors: Vector) -> Vector:
    """The smallest half with which each row's interval holds; the widest where none does."""
    held = (ends[..., 0] <= -errors) & (-errors <= ends[..., 1])
    needed: Vector = np.where(held.any(axis=0), HALVES[held.argmax(axis=0)], HALVES[-1])
    return needed


def summaries(
    profile: DeviceProfile, halves: Mapping[str, float], left: Sequence[HeldOutRow]
) -> dict[str, HeldOut]:
    """By kind of row, how far predictions were off and whether intervals held.

    A row's interval comes from the rows of the other groups.
    """
    held: dict[str, list[bool]] = defaultdict(list)
    wide: dict[str, list[float]] = defaultdict(list)
    kinds: dict[str, list[HeldOutRow]] = defaultdict(list)
    for group in dict.fromkeys(each.group for each in left):
        mine = [each for each in left if each.group == group]
        others = [each for each in left if each.group != group]
        stated = _with_halves(profile, dict(halves) | widths(profile, halves, others))
        for each, (low, high) in zip(mine, _ends(stated, mine).tolist(), strict=True):
            kinds[each.row.kind].append(each)
            held[each.row.kind].append(low <= -each.error <= high)
            wide[each.row.kind].append(exp(high - low))
    return {
        kind: summary(
            kinds[kind][0].group.left_out,
            [each.error for each in kinds[kind]],
            held[kind],
            wide[kind],
            ", ".join(sorted({each.row.source for each in kinds[kind] if each.row.source})),
        )
        for kind in sorted(kinds)
        if len({each.group for each in kinds[kind]}) > 1
    }


def summary(
    left_out: LeftOut,
    errors: Sequence[float],
    held: Sequence[bool],
    wide: Sequence[float],
    sources: str,
) -> HeldOut:
    """What came of the predictions of one kind of latency.

    Args:
        left_out: what was left out at a time.
        errors: log(predicted / measured) of each row.
        held: whether each row's interval held.
        wide: its high / low.
        sources: of the rows.
    """
    off = np.exp(np.abs(errors)) - 1.0
    return HeldOut(
        left_out=left_out,
        rows=len(errors),
        ratio=_rounded(exp(float(np.median(errors)))),
        median=_rounded(float(np.median(off))),
        most=_rounded(float(np.quantile(off, _NINE_IN_TEN))),
        holds=_rounded(float(np.mean(held))),
        width=_rounded(float(np.median(wide))),
        sources=sources or "-",
    )


def factor_half(errors: Vector, usual: float) -> float:
    """Half of an interval, as a logarithm, that is one factor of every prediction.

    Args:
        errors: ``[n]``, log(predicted / measured) of what was left out.
        usual: what nine in ten errors of its kind are within.
    """
    ends = np.tile(HALVES[:, None, None] * [-1.0, 1.0], (1, len(errors), 1))
    return calibrated_half(ends, errors, np.full(len(errors), usual))


def _rounded(number: float) -> float:
    return float(f"{number:.3g}")


def _with_halves(profile: DeviceProfile, halves: Mapping[str, float]) -> DeviceProfile:
    update = {}
    for name, half in halves.items():
        value: ProfileValue = getattr(profile, name)
        ends = {"low": value.value * exp(-half), "high": value.value * exp(half)}
        update[name] = value.model_copy(update=ends)
    return profile.model_copy(update=update)


def _ends(profile: DeviceProfile, rows: Sequence[HeldOutRow]) -> Vector:
    """``[n, 2]``: both ends of each row's interval, as logarithms relative to the prediction."""
    models = {n: LatencyModel(profile, n) for n in {each.row.threads for each in rows}}
    stated = [models[each.row.threads].call_ms(each.row.work).estimate() for each in rows]
    return np.log([(each.low / each.value, each.high / each.value) for each in stated])
