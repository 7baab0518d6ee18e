"""``fieldtune profiles measure``: a profile of this host, from a microbenchmark.

Measured values have the basis ``measured`` and state method and date. If the board is in the
catalogue, values that cannot be measured in a minute (network, availability, power) are inherited
from its profile; otherwise they are left out, never guessed, and costs that depend on them are not
predicted.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.profiles.common.errors import ProfileError
from fieldtune.profiles.common.estimate import Z90
from fieldtune.profiles.device.profile import HeldOut, value_fields
from fieldtune.profiles.host.detect import detect_profile
from fieldtune.profiles.host.probe import Host, probe
from fieldtune.profiles.measure import host_figures as here
from fieldtune.profiles.measure.fit_rates import Fit, Fitted, fit, left_out_errors
from fieldtune.profiles.measure.held_out import factor_half, summary
from fieldtune.profiles.measure.microbench import Progress, Readings, dense_gflop_s, run, speedup

# Speed ratio above which a slowdown is noise; assumed speed ratio under lasting thermal load.
_NOISE_RATIO, _HOT_RATIO = 0.95, 0.9
_MIN_ERROR = 0.04  # run-to-run variation from clocks and other load
_USUAL_ERROR = 0.2  # nine in ten graphs of many ops are predicted within it, as a logarithm


@dataclass(frozen=True)
class Measured:
    """A profile as TOML tables, and the values that could not be measured."""

    tables: dict[str, Any]
    missing: tuple[str, ...]
    board: str | None  # the catalogue's profile from which missing values are inherited


def measure(
    *,
    seconds: float = 50.0,
    today: date | None = None,
    progress: Progress = lambda done, of: None,
    root: Path = Path("/"),
    benchmark: Callable[[float, Progress], Readings] = lambda seconds, progress: run(
        seconds, progress=progress
    ),
) -> Measured:
    """Measure this host.

    Args:
        seconds: for timing kernels; everything else takes about 15 s.
        today: date for the sources; None: the current date.
        progress: called with the number of timed graphs and the total.
        root: folder that contains ``proc`` and ``sys``.
        benchmark: times the kernels; replaced in tests.

    Raises:
        UsageError: no TFLite runtime is installed, or no schema for building graphs.
        ProfileError: the host does not report its memory.
    """
    before = probe(root)
    powers: list[float] = []
    idle_w = here.power_w(before)

    def sample_power(done: int, of: int) -> None:
        progress(done, of)
        if done % 40 == 20 and (watts := here.power_w(before)) is not None:
            powers.append(watts)

    readings = benchmark(seconds, sample_power)
    found, left = fit(readings), left_out_errors(readings)
    how = f"fieldtune profiles measure, {readings.runtime}, {(today or date.today()).isoformat()}"
    throttled = _throttled(before, probe(root))
    if throttled:
        how += f"; THROTTLED meanwhile ({', '.join(throttled)}): measure again when it is cool"
    write = _Writer(how)
    _speeds(write, readings, found)
    _sizes(write, before, readings.runtime)
    if idle_w is not None and powers:
        write.add("idle_w", idle_w, idle_w * 0.9, idle_w * 1.2, "before the benchmark")
        loaded = sorted(powers)
        write.add("loaded_w", float(np.median(loaded)), loaded[0], loaded[-1], "one core busy")
    return _finished(write, before, found, left)


def _throttled(before: Host, after: Host) -> tuple[str, ...]:
    now = {*(before.throttling or ()), *(after.throttling or ())}
    return tuple(sorted(now))


class _Writer:
    """Collects measured values with their sources."""

    def __init__(self, how: str) -> None:
        self.how = how
        self.values: dict[str, dict[str, Any]] = {}

    def add(
        self,
        name: str,
        value: float,
        low: float,
        high: float,
        why: str,
    ) -> None:
        numbers = (value, min(low, value), max(high, value))
        self.values[name] = {
            **dict(zip(("value", "low", "high"), map(_rounded, numbers), strict=True)),
            "unit": value_fields()[name].unit,
            "basis": "measured",
            "source": f"{self.how}: {why}",
        }

    def add_with_error(self, name: str, value: float, error: float, why: str) -> None:
        """Add a value whose relative error is known."""
        factor = exp(Z90 * max(error, _MIN_ERROR))
        self.add(name, value, value / factor, value * factor, why)


def _rounded(number: float) -> float:
    """Rounded to five significant digits."""
    return float(f"{number:.5g}")


def _speeds(write: _Writer, readings: Readings, found: Fit) -> None:
    low, middle, high = dense_gflop_s(readings.kernels)
    write.add(
        "float32_one_thread_gflop_s", middle, low, high,
        "convolutions and matrix products of at least 1 MFLOP: median and quartiles of their rates",
    )  # fmt: skip
    count = here.cores()
    gain = speedup(count)
    write.add(
        "float32_all_cores_gflop_s", middle * gain, low * gain, high * gain,
        f"one thread's rate times {gain:.2f}, the speedup of a large product on {count} threads",
    )  # fmt: skip
    fast, usual, slow = here.copy_mb_s()
    write.add("memory_copy_mb_s", usual, slow, fast, "64 MiB copied by numpy, 12 times")
    speed_ratio = 1.0 if readings.speed_ratio > _NOISE_RATIO else readings.speed_ratio
    write.add(
        "sustained_share", speed_ratio, min(speed_ratio, _HOT_RATIO), 1.0,
        f"speed after the benchmark over speed before it; low end {_HOT_RATIO}: the run may "
        "be too short to reach the final temperature",
    )  # fmt: skip
    write.add_with_error(
        "op_dispatch_us", found.dispatch_us, 0.4, "median over the runtime's built-in kernels"
    )
    write.add_with_error(
        "python_call_us",
        found.python_us,
        0.1,
        "a call minus its graph and the copying of its tensors",
    )


def _sizes(write: _Writer, host: Host, package: str) -> None:
    count = float(host.cores or here.cores())
    write.add("cores", count, count, count, "as reported by the system")
    if host.max_clock_mhz is not None:
        clock = host.max_clock_mhz
        write.add("clock_mhz", clock, clock, clock, "as reported by the system")
    if host.memory_total_mib is not None and host.memory_available_mib is not None:
        total, free = host.memory_total_mib, host.memory_available_mib
        write.add("memory_total_mib", total, total, total, "MemTotal")
        write.add("memory_free_mib", free, free * 0.9, free, "MemAvailable")
    size, free = here.storage_mib(Path.cwd())
    write.add("storage_total_mib", size, size, size, "the current folder's file system")
    write.add("storage_free_mib", free, free * 0.9, free, "the current folder's file system")
    for name, client in (("process_mib", True), ("inference_process_mib", False)):
        resident = here.process_mib(package, client=client)
        if resident is not None:
            what = "numpy, the runtime and flwr" if client else "numpy and the runtime"
            why = f"peak of a process that imported {what} and ran a small graph"
            write.add_with_error(name, resident, 0.0, why)


def _finished(
    write: _Writer, host: Host, found: Fit, left: Sequence[NDArray[np.float64]]
) -> Measured:
    board = detect_profile(host)
    missing = tuple(name for name in value_fields() if name not in write.values)
    if board is None and "memory_total_mib" in missing:
        raise ProfileError(
            "this host does not report its memory (/proc/meminfo): run this on Linux"
        )
    tables: dict[str, Any] = {"title": f"{host.model or 'this host'}, measured"}
    if board is not None:
        tables["extends"] = board
    tables |= {name: write.values[name] for name in value_fields() if name in write.values}
    half = factor_half(np.concatenate(left), _USUAL_ERROR) if left else _USUAL_ERROR
    tables["classes"] = {
        name: _rates(kernel, half, write.how) for name, kernel in sorted(found.kernels.items())
    }
    if len(left) > 1:
        tables["held_out"] = {"one thread": _held_out(left, write.how).model_dump()}
    return Measured(tables, missing, board)


def _held_out(left: Sequence[NDArray[np.float64]], how: str) -> HeldOut:
    """How far graphs left out were off; the interval of each part is that of the others."""
    held, wide = list[bool](), list[float]()
    for part, errors in enumerate(left):
        others = np.concatenate([*left[:part], *left[part + 1 :]])
        half = factor_half(others, _USUAL_ERROR)
        held += [abs(error) <= half for error in errors.tolist()]
        wide += [exp(2 * half)] * len(errors)
    return summary("models", np.concatenate(left).tolist(), held, wide, how)


def _rates(kernel: Fitted, least: float, how: str) -> Mapping[str, Any]:
    op, *others = kernel.us
    names = (
        "mflop_us", "mb_us", "mrun_us", "mwide_us", "mouter_us", "mstart_us",
        "near_mb_us", "far_mb_us", "remote_mb_us",
    )  # fmt: skip
    rates = {"op_us": _rounded(op)} | {
        name: _rounded(us * 1e6) for name, us in zip(names, others, strict=True)
    }
    factor = exp(max(Z90 * max(kernel.error, _MIN_ERROR), least))
    return {
        **{name: rate for name, rate in rates.items() if rate > 0},
        "low": _rounded(1 / factor),
        "high": _rounded(factor),
        "basis": "measured",
        "source": how,
    }
