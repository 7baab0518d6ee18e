"""``fieldtune profiles fit``: a profile's rates from a table of measured latencies.

The rates of the cost model (:mod:`fieldtune.profiles.costmodel.latency`) are chosen such that its
predictions match the table: constrained least squares of log(predicted / measured), by Gauss-Newton
steps with Huber's weights against outliers. The base profile's intervals are the prior, so that a
rate on which the table says little stays near what is known. How true the fit is, is tested by
leaving out one family of models at a time (all MobileNet v2, say): fitted to the rest, how far are
the predictions of those left out? The intervals are as wide as these errors.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, hypot, isfinite, log
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.profiles.common.errors import UsageError, did_you_mean
from fieldtune.profiles.common.estimate import Z90, Span
from fieldtune.profiles.costmodel.kernel_costs import OWN_ERROR
from fieldtune.profiles.costmodel.latency import LatencyModel, rate_spans
from fieldtune.profiles.costmodel.tflite_reader import TfliteFile
from fieldtune.profiles.costmodel.tflite_work import Work
from fieldtune.profiles.device.load import profile_names
from fieldtune.profiles.device.profile import DeviceProfile, ProfileValue, value_fields

Vector = NDArray[np.float64]

COLUMNS = ("model", "ms", "threads", "runtime", "source")
"""Of a table; the first two are required."""
_RUNTIMES = ("xnnpack", "plain")
_NOISE = 0.10  # standard deviation of a row's logarithm
_HUBER = 1.5  # in units of it
_ITERATIONS = 15
_STEP = 0.02  # of a rate's logarithm, for derivatives
_SENSITIVE = 0.02  # a rate is fitted if some prediction depends on it with this power
_BEYOND = log(4.0)  # how far beyond the base profile's interval a rate may be
_LOOSE = 0.35  # half of a prior at least: a board of one's own differs from others of its type
_LEAST = 0.03  # half of an interval: runs of the same model differ by this


@dataclass(frozen=True)
class Row:
    """A measured latency of a model."""

    model: str
    ms: float
    threads: int
    runtime: str
    source: str
    work: Work

    @property
    def family(self) -> str:
        """Models that are left out together: ``mobilenet-v2`` of ``mobilenet-v2-1.0-224``."""
        found = re.match(r"[A-Za-z]+(?:[-_]?v\d+|-[A-Za-z]+)?", self.model)
        return found.group() if found else self.model

    @property
    def kind(self) -> str:
        """Rows whose errors are alike."""
        precision = "int8 " if any("int8" in name for name in self.work.classes) else ""
        threads = "one thread" if self.threads == 1 else "several threads"
        return f"{precision}{'plain ' if self.runtime == 'plain' else ''}{threads}"


@dataclass(frozen=True)
class TableFit:
    """Fitted rates, and how far predictions of models left out were off."""

    values: Mapping[str, ProfileValue]
    errors: Mapping[str, Vector]
    """Kind of row -> log(predicted / measured) of rows whose family was left out."""


def read_table(path: Path, models: Path) -> list[Row]:
    """The rows of a table whose models are in the folder.

    Args:
        path: CSV with the columns ``model`` (a file of the folder, with or without ``.tflite``),
            ``ms``, and optionally ``threads`` (1), ``runtime`` (``xnnpack``) and ``source``.
        models: folder of ``.tflite`` files.

    Raises:
        UsageError: unknown columns, no usable row, or a latency that is not above 0.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = csv.DictReader(file)
            header = [name or "" for name in table.fieldnames or ()]
            lines = list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read as a CSV table: {error}") from None
    for name in header:
        if name not in COLUMNS:
            raise UsageError(
                f"{path}: column {name!r} is unknown{did_you_mean(name, COLUMNS)}; the columns are "
                f"{', '.join(COLUMNS)}"
            )
    for name in COLUMNS[:2]:
        if name not in header:
            raise UsageError(f"{path}: column {name!r} is missing")
    works: dict[tuple[str, str], Work] = {}
    rows, absent = [], set[str]()
    for number, line in enumerate(lines, 2):
        row = _row(f"{path}, line {number}", line, models, works)
        if row is None:
            absent.add(line["model"])
        else:
            rows.append(row)
    if not rows:
        raise UsageError(
            f"{path}: no usable row; {models} has none of its models"
            + (f" ({', '.join(sorted(absent)[:3])}, ...)" if absent else "")
        )
    return rows


def _row(
    where: str, line: Mapping[str, Any], models: Path, works: dict[tuple[str, str], Work]
) -> Row | None:
    ms, threads = _number(where, line, "ms"), int(_number(where, line, "threads", "1"))
    runtime = line.get("runtime") or "xnnpack"
    if runtime not in _RUNTIMES:
        raise UsageError(f"{where}: runtime {runtime!r} is unknown: {' or '.join(_RUNTIMES)}")
    name = (line["model"] or "").removesuffix(".tflite")
    if (name, runtime) not in works:
        file = models / f"{name}.tflite"
        # A name is a file of the folder, not a path.
        if not name or file.parent != models or not file.is_file():
            return None
        try:
            model = TfliteFile(file.read_bytes())
        except UsageError as error:
            raise UsageError(f"{file}: {error}") from None
        works[name, runtime] = model.work(model.inference_signature, runtime)  # type: ignore[arg-type]
    return Row(name, ms, threads, runtime, line.get("source") or "", works[name, runtime])


def _number(where: str, line: Mapping[str, Any], key: str, default: str = "") -> float:
    text = line.get(key) or default
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not isfinite(number) or number <= 0 or (key == "threads" and number % 1):
        raise UsageError(f"{where}: {key} = {text!r} must be a number above 0")
    return number


def fit_table(base: DeviceProfile, rows: Sequence[Row], how: str) -> TableFit:
    """Fit a device type's rates to measured latencies.

    Args:
        base: the profile whose rates are the prior, and which has everything else.
        rows: from :func:`read_table`.
        how: beginning of the source of each fitted value.

    Raises:
        UsageError: there are fewer rows than rates to fit.
    """
    prior = rate_spans(base)
    names = _used(base, prior, rows)
    if len(rows) < len(names):
        raise UsageError(
            f"{base.name} cannot be fitted: {len(rows)} rows for {len(names)} rates "
            f"({', '.join(names)}); add measurements of other models"
        )
    fitted, spread = _solve(base, prior, names, rows)
    errors = _held_out(base, prior, names, rows)
    values = {}
    for name in names:
        half = _half_width(name, spread[name], errors)
        value = fitted[name]
        span = prior[name]
        values[name] = ProfileValue(
            value=_rounded(value),
            low=_rounded(value * exp(-half)),
            high=_rounded(value * exp(half)),
            unit=value_fields()[name].unit,
            basis="fitted",
            source=f"{how}{_stated(errors)}; before the fit {span.value:.4g}",
        )
    return TableFit(values, errors)


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
    return tables


def stated_error(errors: Vector) -> tuple[float, float]:
    """Median and 90th percentile of the relative errors."""
    off = np.exp(np.abs(errors)) - 1.0
    return float(np.median(off)), float(np.quantile(off, 0.9))


def _stated(errors: Mapping[str, Vector]) -> str:
    parts = []
    for kind, found in sorted(errors.items()):
        middle, most = stated_error(found)
        parts.append(f"{kind} {100 * middle:.0f} % (90 % within {100 * most:.0f} %)")
    return f"; error for families of models left out: {', '.join(parts)}" if parts else ""


def _rounded(number: float) -> float:
    return float(f"{number:.4g}")


def with_rates(base: DeviceProfile, rates: Mapping[str, float]) -> DeviceProfile:
    """The profile with other rates, whose intervals have no width."""
    fields = value_fields()
    update = {
        name: ProfileValue(
            value=value, low=value, high=value, unit=fields[name].unit, basis="fitted", source="fit"
        )
        for name, value in rates.items()
    }
    return base.model_copy(update=update | {"classes": {}})


def _log_predicted(
    base: DeviceProfile, names: Sequence[str], theta: Vector, rows: Sequence[Row]
) -> Vector:
    rates = dict(zip(names, np.exp(theta).tolist(), strict=True))
    profile = with_rates(base, rates)
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
    theta = np.log([prior[name].value for name in names])
    at = _log_predicted(base, names, theta, rows)
    power = np.abs(_jacobian(base, names, theta, rows, at)).max(axis=0)
    return [name for name, by in zip(names, power, strict=True) if by >= _SENSITIVE]


def _solve(
    base: DeviceProfile, prior: Mapping[str, Span], names: Sequence[str], rows: Sequence[Row]
) -> tuple[dict[str, float], dict[str, float]]:
    """Rates, and half of their 90 % intervals as logarithms, as far as the rows tell."""
    middle = np.log([prior[name].value for name in names])
    ends = np.log([sorted((prior[name].best, prior[name].worst)) for name in names])
    stiff = (Z90 / np.maximum((ends[:, 1] - ends[:, 0]) / 2, _LOOSE)) ** 2
    truth = np.log([row.ms for row in rows])
    theta, hessian = middle.copy(), np.diag(stiff)
    for _ in range(_ITERATIONS):
        at = _log_predicted(base, names, theta, rows)
        off = (at - truth) / _NOISE
        weight = 1.0 / np.maximum(1.0, np.abs(off) / _HUBER)
        slope = _jacobian(base, names, theta, rows, at) / _NOISE
        hessian = slope.T @ (weight[:, None] * slope) + np.diag(stiff)
        step = np.linalg.solve(hessian, slope.T @ (weight * off) + stiff * (theta - middle))
        theta = theta - np.clip(step, -0.5, 0.5)
        theta = np.clip(theta, ends[:, 0] - _BEYOND, ends[:, 1] + _BEYOND)
        theta = _within_cores(base, names, theta)
        if np.abs(step).max() < 1e-3:
            break
    sigma = np.sqrt(np.diag(np.linalg.inv(hessian)))
    return (
        dict(zip(names, np.exp(theta).tolist(), strict=True)),
        dict(zip(names, (Z90 * sigma).tolist(), strict=True)),
    )


def _within_cores(base: DeviceProfile, names: Sequence[str], theta: Vector) -> Vector:
    """All cores together are at least as fast as one, and at most as fast as each for itself."""
    at = {name: index for index, name in enumerate(names)}
    for one, every in (
        ("float32_one_thread_gflop_s", "float32_all_cores_gflop_s"),
        ("int8_one_thread_gop_s", "int8_all_cores_gop_s"),
    ):
        if one in at and every in at:
            least = theta[at[one]]
            theta[at[every]] = np.clip(theta[at[every]], least, least + log(base.cores.value))
    return theta


def _held_out(
    base: DeviceProfile, prior: Mapping[str, Span], names: Sequence[str], rows: Sequence[Row]
) -> dict[str, Vector]:
    """log(predicted / measured) of each row by a fit without its family, by kind of row.

    With a single family, one model is left out at a time.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    single = len({row.family for row in rows}) == 1
    for index, row in enumerate(rows):
        groups[row.model if single else row.family].append(index)
    found: dict[str, list[float]] = defaultdict(list)
    if len(groups) == 1:
        return {}
    for out in groups.values():
        rest = [row for index, row in enumerate(rows) if index not in set(out)]
        rates, _ = _solve(base, prior, names, rest)
        left = [rows[index] for index in out]
        theta = np.log([rates[name] for name in names])
        predicted = _log_predicted(base, names, theta, left)
        for row, each in zip(left, predicted, strict=True):
            found[row.kind].append(float(each - log(row.ms)))
    return {kind: np.array(errors) for kind, errors in found.items()}


_JUDGED_BY = {
    "float32_one_thread_gflop_s": ("one thread", ("xnnpack", False)),
    "float32_all_cores_gflop_s": ("several threads", ("xnnpack", True)),
    "int8_one_thread_gop_s": ("int8 one thread", ("xnnpack", False)),
    "int8_all_cores_gop_s": ("int8 several threads", ("xnnpack", True)),
}
"""Rate -> the kind of row whose held-out errors make its interval, and the models' own error."""


def _half_width(name: str, spread: float, errors: Mapping[str, Vector]) -> float:
    kind, own = _JUDGED_BY.get(name, ("", ("xnnpack", False)))
    if kind not in errors:
        return max(spread, _LEAST)
    found = errors[kind]
    # Few rows say little about the spread of many.
    half = Z90 * float(np.sqrt(np.mean(found**2))) * (1.0 + 1.0 / len(found))
    beyond = half**2 - OWN_ERROR[own] ** 2
    return max(_LEAST, hypot(beyond**0.5, 0.0) if beyond > 0 else 0.0)
