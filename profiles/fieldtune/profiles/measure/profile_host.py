"""``fieldtune profiles measure``: a profile of the host, from a microbenchmark of a minute or two.

What is measured says so, with the method and the date. A board that ``probe`` recognises takes what
a minute cannot tell (links, availability, power) from its profile in the catalogue; elsewhere those
figures are left out, never guessed, and so is what would be predicted from them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from math import exp
from pathlib import Path
from typing import Any

import numpy as np

from fieldtune.profiles.common.errors import ProfileError
from fieldtune.profiles.common.estimate import Z90
from fieldtune.profiles.device.profile import figure_fields
from fieldtune.profiles.host.detect import detect_profile
from fieldtune.profiles.host.probe import Host, probe
from fieldtune.profiles.measure import host_figures as here
from fieldtune.profiles.measure.fit_rates import Fit, Fitted, fit
from fieldtune.profiles.measure.microbench import Progress, Readings, dense_gflop_s, run, speedup

# Models as probe() gives them, the longest start first, and their profiles in the catalogue.
# Share of speed above which a difference is noise; what lasting heat may leave of the speed.
_STEADY, _HOT = 0.95, 0.9
_LEAST_ERROR = 0.04  # clocks and neighbours vary by this much from run to run


@dataclass(frozen=True)
class Measured:
    """A profile as TOML tables, and what the host did not tell."""

    tables: dict[str, Any]
    untold: tuple[str, ...]
    board: str | None  # the profile of the catalogue that says instead what was not told


def measure(
    *,
    seconds: float = 50.0,
    today: date | None = None,
    progress: Progress = lambda done, of: None,
    root: Path = Path("/"),
    benchmark: Callable[[float, Progress], Readings] = lambda seconds, told: run(
        seconds, progress=told
    ),
) -> Measured:
    """Measure the host.

    Args:
        seconds: for timing kernels; the rest takes about 15 s more.
        today: stands in the sources.
        progress: told how many graphs of how many are timed.
        root: where ``proc`` and ``sys`` are.
        benchmark: times the kernels; another for tests.

    Raises:
        UsageError: no TFLite runtime, or none that graphs can be built for.
    """
    before = probe(root)
    powers: list[float] = []
    idle_w = here.power_w(before)

    def told(done: int, of: int) -> None:
        progress(done, of)
        if done % 40 == 20 and (watts := here.power_w(before)) is not None:
            powers.append(watts)

    readings = benchmark(seconds, told)
    found = fit(readings)
    how = f"fieldtune profiles measure, {readings.runtime}, {(today or date.today()).isoformat()}"
    throttled = _throttled(before, probe(root))
    if throttled:
        how += f"; THROTTLED meanwhile ({', '.join(throttled)}): measure again when it is cool"
    write = _Writer(how)
    _speeds(write, readings, found)
    _sizes(write, before, readings.runtime)
    if idle_w is not None and powers:
        write.figure("idle_w", idle_w, idle_w * 0.9, idle_w * 1.2, "before the benchmark")
        loaded = sorted(powers)
        write.figure("loaded_w", float(np.median(loaded)), loaded[0], loaded[-1], "one core busy")
    return _finished(write, before, found)


def _throttled(before: Host, after: Host) -> tuple[str, ...]:
    now = {*(before.throttling or ()), *(after.throttling or ())}
    return tuple(sorted(now))


class _Writer:
    """Collects figures and what they rest on."""

    def __init__(self, how: str) -> None:
        self.how = how
        self.figures: dict[str, dict[str, Any]] = {}

    def figure(
        self,
        name: str,
        value: float,
        low: float,
        high: float,
        why: str,
    ) -> None:
        numbers = (value, min(low, value), max(high, value))
        self.figures[name] = {
            **dict(zip(("value", "low", "high"), map(_rounded, numbers), strict=True)),
            "unit": figure_fields()[name].unit,
            "basis": "measured",
            "source": f"{self.how}: {why}",
        }

    def about(self, name: str, value: float, error: float, why: str) -> None:
        """A figure whose relative error is known."""
        factor = exp(Z90 * max(error, _LEAST_ERROR))
        self.figure(name, value, value / factor, value * factor, why)


def _rounded(number: float) -> float:
    """Five digits: more mean nothing."""
    return float(f"{number:.5g}")


def _speeds(write: _Writer, readings: Readings, found: Fit) -> None:
    low, middle, high = dense_gflop_s(readings.kernels)
    write.figure(
        "float32_one_thread_gflop_s", middle, low, high,
        "convolutions and matrix products of a megaflop or more, the middle half of their rates",
    )  # fmt: skip
    count = here.cores()
    gain = speedup(count)
    write.figure(
        "float32_all_cores_gflop_s", middle * gain, low * gain, high * gain,
        f"one thread's, times {gain:.2f}: what a large matrix product gains from {count} threads",
    )  # fmt: skip
    fast, usual, slow = here.copy_mb_s()
    write.figure("memory_copy_mb_s", usual, slow, fast, "64 MiB copied by numpy, 12 times")
    steady = 1.0 if readings.steady > _STEADY else readings.steady
    write.figure(
        "sustained_share", steady, min(steady, _HOT), 1.0,
        f"speed after the benchmark over speed before it; low end {_HOT}: a minute may be too "
        "short to heat it through",
    )  # fmt: skip
    write.about("op_dispatch_us", found.dispatch_us, 0.4, "median over the runtime's own kernels")
    write.about("python_call_us", found.python_us, 0.1, "a call less its graph and its tensors")


def _sizes(write: _Writer, told: Host, package: str) -> None:
    count = float(told.cores or here.cores())
    write.figure("cores", count, count, count, "as the system tells")
    if told.max_clock_mhz is not None:
        clock = told.max_clock_mhz
        write.figure("clock_mhz", clock, clock, clock, "as the system tells")
    if told.memory_total_mib is not None and told.memory_available_mib is not None:
        total, free = told.memory_total_mib, told.memory_available_mib
        write.figure("memory_total_mib", total, total, total, "MemTotal")
        write.figure("memory_free_mib", free, free * 0.9, free, "MemAvailable")
    size, free = here.storage_mib(Path.cwd())
    write.figure("storage_total_mib", size, size, size, "the current folder's file system")
    write.figure("storage_free_mib", free, free * 0.9, free, "the current folder's file system")
    for name, client in (("process_mib", True), ("inference_process_mib", False)):
        resident = here.process_mib(package, client=client)
        if resident is not None:
            what = "numpy, the runtime and flwr" if client else "numpy and the runtime"
            why = f"peak of a process that imported {what} and ran a tiny graph"
            write.about(name, resident, 0.0, why)


def _finished(write: _Writer, told: Host, found: Fit) -> Measured:
    board = detect_profile(told)
    untold = tuple(name for name in figure_fields() if name not in write.figures)
    if board is None and "memory_total_mib" in untold:
        raise ProfileError("this host does not tell its memory (/proc/meminfo): not a Linux host")
    tables: dict[str, Any] = {"title": f"{told.model or 'this host'}, measured"}
    if board is not None:
        tables["extends"] = board
    tables |= {name: write.figures[name] for name in figure_fields() if name in write.figures}
    tables["classes"] = {
        name: _rates(kernel, found.mix_error, write.how)
        for name, kernel in sorted(found.kernels.items())
    }
    return Measured(tables, untold, board)


def _rates(kernel: Fitted, least: float, how: str) -> Mapping[str, Any]:
    op, *others = kernel.us
    names = (
        "mflop_us", "mb_us", "mrun_us", "mwide_us", "mouter_us", "mstart_us",
        "near_mb_us", "far_mb_us", "remote_mb_us",
    )  # fmt: skip
    rates = {"op_us": _rounded(op)} | {
        name: _rounded(us * 1e6) for name, us in zip(names, others, strict=True)
    }
    factor = exp(Z90 * max(kernel.error, least, _LEAST_ERROR))
    return {
        **{name: rate for name, rate in rates.items() if rate > 0},
        "low": _rounded(1 / factor),
        "high": _rounded(factor),
        "basis": "measured",
        "source": how,
    }
