"""What a device used for a message's work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

# Calls excluded from latencies: caches, branch predictors and lazy allocation warm up in them.
WARM_UP = 2


@dataclass(frozen=True)
class Latency:
    """Percentiles of the duration of calls after warm-up, in milliseconds."""

    median_ms: float
    p90_ms: float
    p99_ms: float
    calls: int


@dataclass(frozen=True)
class Measurement:
    """The resources that the device used for one message.

    ``throttled`` and ``swapping`` mark a measurement that is not representative of the device type:
    the device throttled (heat or voltage), or memory was swapped meanwhile; None if not available.
    """

    wall_s: float
    cpu_s: float | None = None
    peak_memory_mib: float | None = None
    energy_j: float | None = None
    inference_ms: float | None = None
    simulated: bool = False
    latency: Latency | None = None
    temperature_before_c: float | None = None
    temperature_after_c: float | None = None
    throttled: bool | None = None
    swapping: bool | None = None

    @property
    def is_sound(self) -> bool:
        """Whether the measurement is valid: no known throttling or swapping."""
        return not self.throttled and not self.swapping


def together(first: Measurement, last: Measurement, calls: int) -> Measurement:
    """Both parts of a message's work, with the latencies of the last one.

    Args:
        first: part.
        last: part.
        calls: of the model in the last part.
    """

    def total(a: float | None, b: float | None) -> float | None:
        return None if a is None or b is None else a + b

    def any_of(a: bool | None, b: bool | None) -> bool | None:
        known = [each for each in (a, b) if each is not None]
        return any(known) if known else None

    peaks = [each.peak_memory_mib for each in (first, last) if each.peak_memory_mib is not None]
    calls_ms = last.latency
    if calls_ms is None and last.simulated and calls:
        call_ms = 1e3 * last.wall_s / calls  # simulated calls all take equally long
        calls_ms = Latency(call_ms, call_ms, call_ms, calls)
    return replace(
        last,
        wall_s=first.wall_s + last.wall_s,
        cpu_s=total(first.cpu_s, last.cpu_s),
        energy_j=total(first.energy_j, last.energy_j),
        peak_memory_mib=max(peaks, default=None),
        latency=calls_ms,
        temperature_before_c=first.temperature_before_c,
        throttled=any_of(first.throttled, last.throttled),
        swapping=any_of(first.swapping, last.swapping),
    )


def latency(ends: Sequence[float], warm_up: int = WARM_UP) -> Latency | None:
    """Latency percentiles from the end times of consecutive calls.

    Args:
        ends: times in seconds: the start of the first call, then the end of each call.
        warm_up: number of calls to exclude at the start.

    Returns:
        percentiles (nearest rank), or None if there is no call after warm-up.
    """
    spans = sorted(
        1e3 * (end - begin) for begin, end in zip(ends[warm_up:], ends[warm_up + 1 :], strict=False)
    )
    if not spans:
        return None
    median, p90, p99 = (spans[ceil(share * len(spans)) - 1] for share in (0.5, 0.9, 0.99))
    return Latency(median, p90, p99, len(spans))
