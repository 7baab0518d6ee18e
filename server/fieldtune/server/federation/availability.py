"""When simulated clients can be reached: each has a pattern of times, which repeats.

``probability`` alternates between presences and absences of exponentially distributed length, so
that a client is there with the stated probability at any time. ``day_night`` and ``battery`` are
daily. ``trace`` is read from a file (:mod:`traces`).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from fieldtune.server.federation.traces import read_traces
from fieldtune.server.study.fleet_options import AvailabilitySection

_STREAM = 0xA7A1
_CYCLES = 64
"""Absences after which a client's random pattern repeats."""
_HOUR_S, _DAY_S = 3600.0, 86400.0
_JITTER_H = 1.0
"""Standard deviation between the habits of clients in one time zone."""
_PLUGGED_IN_H = 22.0
_INSIDE_S = 1e-3


@dataclass(frozen=True)
class Pattern:
    """The times at which a client is there, from the start of a training.

    Attributes:
        changes: ascending points in time within the period, in seconds: there from the first to the
            second, from the third to the fourth, and so on.
        period_s: after which it repeats.
    """

    changes: Sequence[float]
    period_s: float

    def there(self, at_s: float) -> bool:
        """Whether the client is there at this time."""
        return bisect_right(self.changes, at_s % self.period_s) % 2 == 1

    def wait_s(self, at_s: float) -> float:
        """Seconds from then until it is there: 0 where it is, infinite where it never is."""
        within = at_s % self.period_s
        index = bisect_right(self.changes, within)
        if index % 2:
            return 0.0
        if not self.changes:
            return math.inf
        if index < len(self.changes):
            return self.changes[index] - within
        return self.period_s - within + self.changes[0]

    def inside_s(self, at_s: float) -> float:
        """A point in time from then on at which it is there, infinite where it never is.

        It is a millisecond from the beginning, or half of the time for which it is there if that is
        less: so a rounding error does not leave it just before.
        """
        starts_s = at_s + self.wait_s(at_s)
        if math.isinf(starts_s):
            return starts_s
        within = at_s % self.period_s
        index = bisect_right(self.changes, within)
        began = within
        if index % 2 == 0:
            began = self.changes[index % len(self.changes)]
            index = index % len(self.changes) + 1
        ends = self.changes[index] if index < len(self.changes) else self.period_s
        return starts_s + min(_INSIDE_S, (ends - began) / 2)


ALWAYS = Pattern((0.0,), math.inf)


class Availability:
    """The patterns of a fleet's clients.

    Args:
        options: of the study; None: always there.
        seed: of the training.
        base: folder of the study file, in which a trace lies.

    Raises:
        StudyError: the trace cannot be read.
    """

    def __init__(self, options: AvailabilitySection | None, seed: int, base: Path = Path()) -> None:
        self._options, self._seed = options or AvailabilitySection(), seed
        self.always = self._options.kind == "always"
        self.traced = self._options.kind == "trace"
        """Whether there may be clients that are never there."""
        self._traces = read_traces(base / self._options.file) if self._options.file else []
        self.of = lru_cache(maxsize=None)(self._of)
        """The pattern of a client."""

    def _of(self, client: int) -> Pattern:
        options = self._options
        match options.kind:
            case "always":
                return ALWAYS
            case "probability":
                return self._at_random(client)
            case "trace":
                changes, period_s = self._traces[client % len(self._traces)]
                return Pattern(changes, period_s)
        rng = np.random.default_rng([self._seed, client, _STREAM])
        zone_h = options.zones_h[int(rng.integers(len(options.zones_h)))]
        jitter_h = _JITTER_H * rng.normal()
        if options.kind == "day_night":
            start_h, hours = options.from_h, (options.until_h - options.from_h) % 24
        else:
            start_h = _PLUGGED_IN_H
            hours = options.charges_h + options.lasts_h * (1 - options.lowest)
        return daily((start_h + jitter_h - zone_h - options.begins_h) * _HOUR_S, hours * _HOUR_S)

    def _at_random(self, client: int) -> Pattern:
        """Alternating exponential durations, in equilibrium at the start."""
        options, rng = self._options, np.random.default_rng([self._seed, client, _STREAM])
        if options.available == 1:
            return ALWAYS
        there_s = options.available * options.cycle_s
        starts_there = rng.random() < options.available
        lengths = rng.exponential(size=2 * _CYCLES)
        lengths[0 if starts_there else 1 :: 2] *= there_s
        lengths[1 if starts_there else 0 :: 2] *= options.cycle_s - there_s
        ends = np.cumsum(lengths)
        changes = [0.0, *ends[:-1]] if starts_there else [*ends[:-1]]
        return Pattern([float(each) for each in changes], float(ends[-1]))


def daily(start_s: float, seconds: float) -> Pattern:
    """There for so many seconds of each day, from ``start_s`` after the start of a training."""
    if seconds >= _DAY_S:
        return ALWAYS
    start = start_s % _DAY_S
    end = start + seconds
    if end <= _DAY_S:
        return Pattern((start, end), _DAY_S)
    return Pattern((0.0, end - _DAY_S, start), _DAY_S)
