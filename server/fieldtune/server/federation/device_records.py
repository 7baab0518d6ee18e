"""What each real device did in a training: how large its updates were, and what failed."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from fieldtune.server.federation.exchange import Answers
from fieldtune.server.outcomes.trial import DeviceRecord


class DeviceRecords:
    """The records of one training.

    Args:
        names: client -> its name, of real devices only; others are not recorded.
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        self._names = names
        self._updates = Counter[str]()
        self._log2_norms = defaultdict[str, float](float)
        self._failures = defaultdict[str, Counter[str]](Counter)

    def norm(self, client: int, times: float) -> None:
        """Note an update, whose norm is this multiple of the median."""
        name = self._names.get(client)
        if name is not None and 0 < times < math.inf:
            self._updates[name] += 1
            self._log2_norms[name] += math.log2(times)

    def take(self, judged: Answers) -> None:
        """Note the failures among the answers to requests."""
        for client, report in judged.items():
            if report.failure and client in self._names:
                self._failures[self._names[client]][report.failure] += 1

    def all(self) -> dict[str, DeviceRecord]:
        """Device -> its record."""
        return {
            name: DeviceRecord(
                self._updates[name],
                self._log2_norms[name],
                dict(sorted(self._failures[name].items())),
            )
            for name in sorted(self._updates.keys() | self._failures.keys())
        }

    def state(self) -> dict[str, Any]:
        """For a checkpoint, as JSON."""
        return {
            name: [record.updates, record.log2_norms, dict(record.failures)]
            for name, record in self.all().items()
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Add what a checkpoint holds."""
        for name, (updates, log2_norms, failures) in state.items():
            self._updates[name] += updates
            self._log2_norms[name] += log2_norms
            self._failures[name].update(failures)
