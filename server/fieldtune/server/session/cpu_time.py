"""Where a study's time went."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

PHASES = ("compile", "train", "aggregate", "evaluate", "optimizer", "messages", "export")


class Spending:
    """Busy seconds by phase, over all processes of a study.

    CPU time, but for compiling and converting, where it is the time that the child was busy.
    """

    def __init__(self) -> None:
        self._cpu_s: Counter[str] = Counter()
        self._began = time.monotonic()

    def charge(self, phase: str, cpu_s: float) -> None:
        """Add seconds to a phase."""
        self._cpu_s[phase] += cpu_s  # type: ignore[assignment]  # Counter counts in floats too

    @contextmanager
    def on(self, phase: str) -> Iterator[None]:
        """Charge this process's own CPU time to a phase."""
        began = time.thread_time()
        try:
            yield
        finally:
            self.charge(phase, time.thread_time() - began)

    @property
    def wall_s(self) -> float:
        """Seconds since the study was begun or taken up again."""
        return time.monotonic() - self._began

    def by_phase(self) -> dict[str, float]:
        """Busy seconds of each phase."""
        return {phase: float(self._cpu_s[phase]) for phase in PHASES}
