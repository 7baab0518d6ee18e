"""How long the light node waits: for its next message, and between attempts to connect."""

from __future__ import annotations

import random

from fieldtune.client.contract.combined_calls import LONGEST_WAIT_S

_IDLE_AFTER_S = 120.0
"""A node without messages for this long takes part in no study at the moment."""
_ACTIVE_HOLD_S = 20.0
_MIN_POLL_S, _ACTIVE_POLL_S, _IDLE_POLL_S = 0.05, 1.0, 2.0
"""Poll intervals where the coordinator cannot hold a call: right after a message, during a study,
and when idle. A poll takes about 3 ms of a slow core."""
_POLL_SHARE_OF_IDLE_TIME = 0.12
"""Poll interval as a share of the time since the last message, to limit the added latency."""


class Backoff:
    """Exponential back-off: waiting times that double, with equal jitter.

    Args:
        first_s: upper bound of the first waiting time, in seconds.
        max_s: upper bound of all waiting times, in seconds.
        rng: draws the jitter, so that not all devices of a fleet reconnect at once.
    """

    def __init__(self, first_s: float, max_s: float, rng: random.Random) -> None:
        self._first_s, self._max_s, self._rng = first_s, max_s, rng
        self._next_s = first_s

    def next_s(self) -> float:
        """The next waiting time in seconds."""
        wait_s, self._next_s = self._next_s, min(2 * self._next_s, self._max_s)
        return wait_s * self._rng.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Start again with the first waiting time, after a success."""
        self._next_s = self._first_s


def held_call_s(idle_s: float) -> float:
    """Seconds after which the coordinator answers a call at the latest, if there is no message.

    Each begins with a heartbeat. During a study, when the coordinator is busy, it ends well before
    the next heartbeat is overdue.

    Args:
        idle_s: time since the last message.
    """
    return _ACTIVE_HOLD_S if idle_s < _IDLE_AFTER_S else LONGEST_WAIT_S


def poll_interval_s(idle_s: float) -> float:
    """Seconds between two polls, ``idle_s`` seconds after the last message."""
    longest_s = _ACTIVE_POLL_S if idle_s < _IDLE_AFTER_S else _IDLE_POLL_S
    return min(max(_POLL_SHARE_OF_IDLE_TIME * idle_s, _MIN_POLL_S), longest_s)
