"""``fieldtune profiles fit``: a profile's rates from a table of measured latencies.

The rates of the cost model (:mod:`fieldtune.profiles.costmodel.latency`) are chosen such that its
predictions match the table: constrained least squares of log(predicted / measured), by Gauss-Newton
steps with Huber's weights against outliers. The base profile's rates are the prior, so that a rate
on which the table says little stays near what is known. How true the fit is, and how wide intervals
must be, is found by leaving models out (:mod:`fieldtune.profiles.measure.held_out`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.profiles.common.errors import UsageError
from fieldtune.profiles.common.estimate import Z90, Span
from fieldtune.profiles.costmodel.latency import LatencyModel, call_ms
from fieldtune.profiles.costmodel.rate_spans import rate_spans
from fieldtune.profiles.device.load import profile_names
from fieldtune.profiles.device.profile import DeviceProfile, HeldOut, value_fields
from fieldtune.profiles.device.value import ProfileValue
from fieldtune.profiles.measure.held_out import HeldOutRow, left_out_groups, summaries, widths
from fieldtune.profiles.measure.latency_table import Row

Vector = NDArray[np.float64]

_NOISE = 0.10  # standard deviation of a row's logarithm, before the rows tell it
_NOISE_ROWS = 4  # as which it counts beside them
_HUBER = 1.5  # in units of it
_ITERATIONS = 15
_STEP = 0.02  # of a rate's logarithm, for derivatives
_SENSITIVE = 0.02  # a rate is fitted if some prediction depends on it with this power
_BEYOND = log(4.0)  # how far beyond the base profile's interval a rate may be
_FAR_OFF = 4.0  # factor between latencies and a fit to them that no error of the model explains
_LEAST = 0.03  # half of an interval: runs of the same model differ by this
# Standard deviation of the prior's logarithm, at least: boards differ from others of their type.
# What several threads gain, and the share of the kernels outside XNNPACK, differ least.
_PRIOR = {
    "float32_one_thread_gflop_s": 0.5,
    "float32_all_cores_gflop_s": 0.3,
    "int8_one_thread_gop_s": 0.5,
    "int8_all_cores_gop_s": 0.3,
    "plain_share": 0.3,
    "memory_traffic_mb_s": 0.7,
    "sync_us": 0.5,
}
_ONE_OF_ALL = {
    "float32_all_cores_gflop_s": "float32_one_thread_gflop_s",
    "int8_all_cores_gop_s": "int8_one_thread_gop_s",
}
"""Rate of all cores -> that of one. The fit changes what several threads gain, so that the rate of
one thread follows where only several were measured."""
_INT8_MOST = 4.0
"""Products of 8 bits to one of 32 bits that a vector unit can do."""


@dataclass(frozen=True)
class TableFit:
    """Fitted rates, and how far predictions of models left out were off."""

    values: Mapping[str, ProfileValue]
    held_out: Mapping[str, HeldOut]
    """By kind of row, such as ``int8 several threads``."""


def fit_table(
    base: DeviceProfile, rows: Sequence[Row], how: str, *, keep: Collection[str] = ()
) -> TableFit:
    """Fit a device type's rates to measured latencies.

    Args:
        base: the profile whose rates are the prior, and which has everything else.
        rows: from :func:`fieldtune.profiles.measure.latency_table.read_table`.
        how: the source of each fitted value.
        keep: rates that are known better than the table tells them.

    Raises:
        UsageError: there are fewer rows than rates to fit, more threads than cores, or no possible
            rates give such latencies.
    """
    most = max(row.threads for row in rows)
    if most > base.cores.value:
        raise UsageError(
            f"{base.name} cannot be fitted: it has {base.cores.value:.0f} cores, and a row has "
            f"{most} threads"
        )
    prior = rate_spans(base)
    names = [name for name in _used(base, prior, rows) if name not in keep]
    if len(rows) < len(names):
        raise UsageError(
            f"{base.name} cannot be fitted: {len(rows)} rows for {len(names)} rates "
            f"({', '.join(names)}); add measurements of other models"
        )
    fitted, spread = _solve(base, prior, names, rows)
    _check_units(with_rates(base, fitted), rows)
    # What the table does not tell of a rate, beside how far its predictions are off.
    spread = {name: max(spread[name], _LEAST) for name in names}
    left = _held_out(base, prior, names, rows)
    profile = with_rates(base, fitted)
    halves = spread | widths(profile, spread, left)
    values = {
        name: ProfileValue(
            value=_rounded(fitted[name]),
            low=_rounded(fitted[name] * exp(-halves[name])),
            high=_rounded(fitted[name] * exp(halves[name])),
            unit=value_fields()[name].unit,
            basis="fitted",
            source=how,
        )
        for name in names
    }
    return TableFit(values, summaries(profile, spread, left))


def _check_units(fitted: DeviceProfile, rows: Sequence[Row]) -> None:
    """UsageError where even the fitted rates are far off most rows: microseconds, say."""
    found = [call_ms(fitted, row.work, threads=row.threads).value for row in rows]
    ratio = np.median([row.ms / ms for row, ms in zip(rows, found, strict=True)])
    if not 1 / _FAR_OFF < ratio < _FAR_OFF:
        raise UsageError(
            f"{fitted.name} cannot be fitted: the latencies are {ratio:.2g} times (median) what "
            "the nearest possible rates give; are they milliseconds, of this device type?"
        )


def fitted_profile(base: DeviceProfile, name: str, fit: TableFit) -> dict[str, Any]:
    """Tables of a profile with the fitted values.

    Args:
        base: the profile that was fitted.
        name: as given; one of the catalogue is extended, a file's values are copied.
        fit: of its rates.
    """
    tables: dict[str, Any] = {"title": f"{base.title}, fitted"}
    if name in profile_names():
        tables["extends"] = name
        own: Mapping[str, ProfileValue | None] = {}
    else:
        own = {field: getattr(base, field) for field in value_fields()}
    for field in value_fields():
        value = fit.values.get(field) or own.get(field)
        if value is not None:
            tables[field] = value.model_dump()
    tables["held_out"] = {kind: found.model_dump() for kind, found in fit.held_out.items()}
    return tables


def _rounded(number: float) -> float:
    return float(f"{number:.4g}")


def with_rates(
    base: DeviceProfile, rates: Mapping[str, float], halves: Mapping[str, float] | None = None
) -> DeviceProfile:
    """The profile with other rates.

    Args:
        base: has everything else.
        rates: name -> value.
        halves: half of an interval as a logarithm; 0 where there is none.
    """
    fields, halves = value_fields(), halves or {}
    update = {
        name: ProfileValue(
            value=value,
            low=value * exp(-halves.get(name, 0.0)),
            high=value * exp(halves.get(name, 0.0)),
            unit=fields[name].unit,
            basis="fitted",
            source="fit",
        )
        for name, value in rates.items()
    }
    return base.model_copy(update=update | {"classes": {}})


def _rates(names: Sequence[str], theta: Vector) -> dict[str, float]:
    """The rates of parameters: logarithms, and for all cores that of what they gain."""
    rates: dict[str, float] = {}
    for name, number in zip(names, np.exp(theta).tolist(), strict=True):
        rates[name] = number * rates.get(_ONE_OF_ALL.get(name, ""), 1.0)
    return rates


def _log_predicted(
    base: DeviceProfile, names: Sequence[str], theta: Vector, rows: Sequence[Row]
) -> Vector:
    profile = with_rates(base, _rates(names, theta))
    models: dict[int, LatencyModel] = {}
    found = []
    for row in rows:
        if row.threads not in models:
            models[row.threads] = LatencyModel(profile, row.threads)
        found.append(log(models[row.threads].call_ms(row.work).value))
    return np.array(found)


def _jacobian(
    base: DeviceProfile, names: Sequence[str], theta: Vector, rows: Sequence[Row], at: Vector
) -> Vector:
    columns = []
    for index in range(len(theta)):
        moved = theta.copy()
        moved[index] += _STEP
        columns.append((_log_predicted(base, names, moved, rows) - at) / _STEP)
    return np.stack(columns, axis=1)


def _used(base: DeviceProfile, prior: Mapping[str, Span], rows: Sequence[Row]) -> list[str]:
    """The rates on which some row depends."""
    names = list(prior)
    start, _ = _prior(prior, names)
    at = _log_predicted(base, names, start, rows)
    power = np.abs(_jacobian(base, names, start, rows, at)).max(axis=0)
    return [name for name, by in zip(names, power, strict=True) if by >= _SENSITIVE]


def _prior(prior: Mapping[str, Span], names: Sequence[str]) -> tuple[Vector, Vector]:
    """Middle and standard deviation of each parameter."""
    middle, deviation = [], []
    for name in names:
        span, one = prior[name], _ONE_OF_ALL.get(name)
        gained = one if one in names else None
        middle.append(log(span.value / (prior[gained].value if gained else 1.0)))
        half = abs(log(span.best / span.worst)) / 2
        least = _PRIOR[name] if one is None or gained else _PRIOR[one]
        deviation.append(least if gained else max(half / Z90, least))
    return np.array(middle), np.array(deviation)


def _bounds(
    base: DeviceProfile, prior: Mapping[str, Span], names: Sequence[str], theta: Vector
) -> Vector:
    """The parameters within what is possible.

    All cores together are at least as fast as one, and at most as fast as each for itself.
    """
    bounded = theta.copy()
    for index, name in enumerate(names):
        one = _ONE_OF_ALL.get(name)
        if one in names:
            bounded[index] = np.clip(bounded[index], 0.0, log(base.cores.value))
        else:
            low, high = sorted((log(prior[name].best), log(prior[name].worst)))
            bounded[index] = np.clip(bounded[index], low - _BEYOND, high + _BEYOND)
    pair = "float32_one_thread_gflop_s", "int8_one_thread_gop_s"
    if set(pair) <= set(names):
        most = bounded[names.index(pair[0])] + log(_INT8_MOST)
        at = names.index(pair[1])
        bounded[at] = min(bounded[at], most)
    return bounded


def _solve(
    base: DeviceProfile, prior: Mapping[str, Span], names: Sequence[str], rows: Sequence[Row]
) -> tuple[dict[str, float], dict[str, float]]:
    """Rates, and half of their 90 % intervals as logarithms, as far as the rows tell."""
    middle, deviation = _prior(prior, names)
    stiff = deviation**-2
    truth = np.log([row.ms for row in rows])
    theta, told, off = middle.copy(), np.zeros((len(names),) * 2), np.zeros(len(rows))
    for _ in range(_ITERATIONS):
        at = _log_predicted(base, names, theta, rows)
        off = (at - truth) / _NOISE
        weight = 1.0 / np.maximum(1.0, np.abs(off) / _HUBER)
        slope = _jacobian(base, names, theta, rows, at) / _NOISE
        told = slope.T @ (weight[:, None] * slope)
        gradient = slope.T @ (weight * off) + stiff * (theta - middle)
        step = np.linalg.solve(told + np.diag(stiff), gradient)
        before, theta = theta, _bounds(base, prior, names, theta - np.clip(step, -0.5, 0.5))
        if np.abs(theta - before).max() < 1e-3:
            break
    # How noisy the rows are, they tell themselves.
    squares = np.minimum(off**2, _HUBER * np.abs(off)).sum() + _NOISE_ROWS
    noisy = squares / (len(rows) + _NOISE_ROWS)
    sigma = np.sqrt(np.diag(np.linalg.inv(told / noisy + np.diag(stiff))))
    halves = dict(zip(names, (Z90 * sigma).tolist(), strict=True))
    return _rates(names, theta), halves


def _held_out(
    base: DeviceProfile, prior: Mapping[str, Span], names: Sequence[str], rows: Sequence[Row]
) -> list[HeldOutRow]:
    """Each row, and what a fit predicts that has not seen its family or model."""
    found = []
    for group in left_out_groups(rows):
        rest = [row for row in rows if not group.covers(row)]
        if not rest:
            continue
        rates, _ = _solve(base, prior, names, rest)
        models = {
            threads: LatencyModel(with_rates(base, rates), threads)
            for threads in {row.threads for row in group.rows}
        }
        found += [
            HeldOutRow(row, group, models[row.threads].call_ms(row.work).value)
            for row in group.rows
        ]
    return found
