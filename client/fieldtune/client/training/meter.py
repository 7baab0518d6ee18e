"""Measuring the resources that a device uses.

A :class:`Meter` measures one message: ``start`` before, ``stop`` after. Quantities that a machine
cannot measure are None, never guessed. The simulator replaces :class:`HostMeter` by its own meter,
whose results are marked as simulated.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from fieldtune.client.training.measurement import Measurement, latency
from fieldtune.client.training.runtime import Inference, Session
from fieldtune.profiles.host.probe import Host, pmic_power_w, probe

_POWER_EVERY_S = 0.5
_POWER_TIMEOUT_S = 2.0


class Meter(Protocol):
    """Measures one message at a time."""

    def start(self) -> None:
        """Begin measuring."""

    def mark(self) -> None:
        """Record that a call of the model has just ended."""

    def stop(
        self,
        session: Session | Inference,
        *,
        train_steps: int = 0,
        samples: int = 0,
        corrections: int = 0,
    ) -> Measurement:
        """Stop measuring.

        Args:
            session: the model that was used.
            train_steps: number of calls of ``train``; 0 for an evaluation.
            samples: number of evaluated samples; 0 for training.
            corrections: of all weights, between calls of ``train``.
        """


class HostMeter:
    """Meter of the machine that this process runs on.

    Peak memory is the process's high-water mark since ``start``: writing 5 to
    ``/proc/self/clear_refs`` resets VmHWM (Linux, proc(5)). Swapping means that VmSwap has grown or
    that the system has swapped pages (``/proc/vmstat``) since ``start``. Energy is wall time times
    mean power, sampled during the work (Raspberry Pi 5: ``vcgencmd pmic_read_adc``); other boards
    do not report power.

    Args:
        root: folder that contains ``proc`` and ``sys``; not ``/`` for a recorded tree.
        clock: returns wall time in seconds.
        power_w: returns a host's current power in watts, or None.
    """

    def __init__(
        self,
        root: Path = Path("/"),
        clock: Callable[[], float] = time.perf_counter,
        power_w: Callable[[Host], float | None] | None = None,
    ) -> None:
        self._root, self._clock = root, clock
        self._power_w = power_w or _power_w
        self._wall = self._cpu = 0.0
        self._resettable = False
        self._before: Host = probe(root)
        self._swap: tuple[int | None, int | None] = (None, None)
        self._sampler: _PowerSampler | None = None
        self._marks: list[float] = []

    def start(self) -> None:
        """Reset the high-water mark, probe the host and read the clocks."""
        self._stop_sampler()
        try:
            (self._root / "proc/self/clear_refs").write_text("5")
            self._resettable = True
        except OSError:
            self._resettable = False
        self._before, self._swap, self._marks = probe(self._root), self._swapped(), []
        if self._before.reports_power:
            self._sampler = _PowerSampler(lambda: self._power_w(self._before))
        self._wall, self._cpu = self._clock(), time.process_time()

    def mark(self) -> None:
        """Record the end of a call; the latency percentiles are computed from these times."""
        self._marks.append(self._clock())

    def stop(
        self,
        session: Session | Inference,
        *,
        train_steps: int = 0,
        samples: int = 0,
        corrections: int = 0,
    ) -> Measurement:
        """Read the clocks again and compute the measurement.

        The inference time per sample comes from evaluations: for a deployable model the median call
        after warm-up, for an artefact, which processes batches, the mean over all samples.
        """
        wall_s = self._clock() - self._wall
        cpu_s = time.process_time() - self._cpu
        watts = self._stop_sampler()
        after, swap = probe(self._root), self._swapped()
        calls = latency([self._wall, *self._marks])
        inference_ms = 1e3 * wall_s / samples if samples and not train_steps else None
        if inference_ms is not None and calls and isinstance(session, Inference):
            inference_ms = calls.median_ms
        return Measurement(
            wall_s=wall_s,
            cpu_s=cpu_s,
            peak_memory_mib=self._peak_memory_mib(),
            energy_j=None if watts is None else watts * wall_s,
            inference_ms=inference_ms,
            latency=calls,
            temperature_before_c=self._before.temperature_c,
            temperature_after_c=after.temperature_c,
            throttled=_throttled(self._before, after),
            swapping=_increased(self._swap, swap),
        )

    def _stop_sampler(self) -> float | None:
        sampler, self._sampler = self._sampler, None
        return None if sampler is None else sampler.end()

    def _peak_memory_mib(self) -> float | None:
        peak = _number(self._root / "proc/self/status", "VmHWM:") if self._resettable else None
        return None if peak is None else peak / 1024

    def _swapped(self) -> tuple[int | None, int | None]:
        """Swapped memory of the process in KiB, and pages swapped by the system since boot."""
        vmstat = self._root / "proc/vmstat"
        pages = [_number(vmstat, name) for name in ("pswpin", "pswpout")]
        known = [number for number in pages if number is not None]
        return _number(self._root / "proc/self/status", "VmSwap:"), sum(known) if known else None


class _PowerSampler:
    """Samples a board's power every half second in a background thread."""

    def __init__(self, read: Callable[[], float | None]) -> None:
        self._read, self._over = read, threading.Event()
        self._watts: list[float] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> float | None:
        """Stop sampling; returns the mean power in watts, or None without any sample."""
        self._over.set()
        self._thread.join()
        return sum(self._watts) / len(self._watts) if self._watts else None

    def _run(self) -> None:
        while True:
            watts = self._read()
            if watts is not None:
                self._watts.append(watts)
            if self._over.wait(_POWER_EVERY_S):
                return


def _power_w(host: Host) -> float | None:
    if host.power_command is None:
        return None
    try:
        done = subprocess.run(
            host.power_command,
            capture_output=True,
            text=True,
            timeout=_POWER_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return pmic_power_w(done.stdout)


def _throttled(before: Host, after: Host) -> bool | None:
    """Whether the host throttled before, after or in between (a new since-boot flag)."""
    known = [h.throttling for h in (before, after) if h.throttling is not None]
    if not known:
        return None
    since = set(after.throttling_since_start or ()) - set(before.throttling_since_start or ())
    return any(known) or bool(since)


def _increased(
    before: tuple[int | None, int | None], after: tuple[int | None, int | None]
) -> bool | None:
    pairs = [(b, a) for b, a in zip(before, after, strict=True) if b is not None and a is not None]
    return any(a > b for b, a in pairs) if pairs else None


def _number(path: Path, key: str) -> int | None:
    """The integer after a key at the start of a line; None if there is none."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    for text in lines:
        parts = text.split()
        if len(parts) > 1 and parts[0] == key and parts[1].isdigit():
            return int(parts[1])
    return None
