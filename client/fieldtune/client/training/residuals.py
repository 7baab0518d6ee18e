"""What a device's encoded updates have left out, kept until its next update."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from fieldtune.client.contract.messages import TrainRequest, Weights

_CAPACITY = 4
"""Number of trainings, of which the latest are kept."""


@dataclass(frozen=True)
class _Kept:
    round: int
    residual: Weights


class Residuals:
    """Kept in memory: a device that restarts begins without, and sends that much less."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, int], _Kept] = OrderedDict()

    def of(self, request: TrainRequest) -> Weights | None:
        """The residual of the request's training; None where there is none.

        A request of an earlier round belongs to another training of the same number, or to one
        that was begun again.
        """
        kept = self._kept.get((request.artefact, request.trial))
        return kept.residual if kept and kept.round < request.round else None

    def keep(self, request: TrainRequest, residual: Weights) -> None:
        """Replace the residual of the request's training."""
        key = request.artefact, request.trial
        self._kept.pop(key, None)
        while len(self._kept) >= _CAPACITY:
            self._kept.popitem(last=False)
        self._kept[key] = _Kept(request.round, residual)
