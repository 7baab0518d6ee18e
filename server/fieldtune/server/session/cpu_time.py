"""How much processor time each phase of a study takes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

PHASES = ("compile", "train", "aggregate", "evaluate", "optimizer", "messages", "export")


class CpuTime:
    """Busy seconds by phase, over all processes of a study.

    CPU time, except for compiling and converting: there it is the wall time that the compile
    process was busy.
    """

    def __init__(self) -> None:
        self._cpu_s: Counter[str] = Counter()
        self._began = time.monotonic()

    def add(self, phase: str, cpu_s: float) -> None:
        """Add seconds to a phase."""
        self._cpu_s[phase] += cpu_s  # type: ignore[assignment]  # Counter counts in floats too

    @contextmanager
    def on(self, phase: str) -> Iterator[None]:
        """Add the CPU time that this thread spends in the block to a phase."""
        began = time.thread_time()
        try:
            yield
        finally:
            self.add(phase, time.thread_time() - began)

    @property
    def wall_s(self) -> float:
        """Seconds since this session of the study began."""
        return time.monotonic() - self._began

    def by_phase(self) -> dict[str, float]:
        """Busy seconds of each phase."""
        return {phase: float(self._cpu_s[phase]) for phase in PHASES}
