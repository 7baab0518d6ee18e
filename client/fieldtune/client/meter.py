"""Measuring what a device spends.

A :class:`Meter` brackets one message: ``start`` before, ``stop`` after. What a machine cannot tell
is None, never a guess. The simulator puts its own meter in the place of :class:`HostMeter`, and
marks what it says as simulated.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fieldtune.client.runtime import Inference, Session


@dataclass(frozen=True)
class Measurement:
    """What one message cost the device."""

    wall_s: float
    cpu_s: float | None = None
    peak_memory_mib: float | None = None
    energy_j: float | None = None
    inference_ms: float | None = None
    simulated: bool = False


class Meter(Protocol):
    """Measures one message at a time."""

    def start(self) -> None:
        """Begin measuring."""

    def stop(
        self, session: Session | Inference, *, train_steps: int = 0, samples: int = 0
    ) -> Measurement:
        """End measuring what was done with the session: so many train calls or test samples."""


class HostMeter:
    """The machine that this process runs on: wall clock, CPU time and peak memory.

    Peak memory is the process's high-water mark since ``start``: writing 5 to
    ``/proc/self/clear_refs`` resets VmHWM (Linux, proc(5)).
    """

    def __init__(self, proc: Path = Path("/proc/self")) -> None:
        self._proc = proc
        self._wall = self._cpu = 0.0

    def start(self) -> None:
        """Reset the high-water mark and read the clocks."""
        try:
            (self._proc / "clear_refs").write_text("5")
            self._resettable = True
        except OSError:
            self._resettable = False
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def stop(
        self, session: Session | Inference, *, train_steps: int = 0, samples: int = 0
    ) -> Measurement:
        """Read the clocks again; evaluation tells the mean inference time of a sample."""
        wall_s = time.perf_counter() - self._wall
        return Measurement(
            wall_s=wall_s,
            cpu_s=time.process_time() - self._cpu,
            peak_memory_mib=self._peak_memory_mib(),
            inference_ms=1e3 * wall_s / samples if samples and not train_steps else None,
        )

    def _peak_memory_mib(self) -> float | None:
        if not self._resettable:
            return None
        for line in (self._proc / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        return None
