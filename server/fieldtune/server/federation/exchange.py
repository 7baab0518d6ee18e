"""What a training exchanges with the clients, and what it stores to be continued."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from fieldtune.client.contract.messages import (
    EvaluateReport,
    EvaluateRequest,
    TrainReport,
    TrainRequest,
    VariantRequest,
)

Request = TrainRequest | EvaluateRequest | VariantRequest
Report = TrainReport | EvaluateReport
Exchange = Mapping[int, Request]
"""Client -> request."""
Answers = Mapping[int, Report]
"""Client -> report; one for each client of the exchange."""
GoesOn = Callable[[int, Mapping[str, float]], bool]
"""``(completed rounds, measures after them) -> whether training continues``."""
State = Mapping[str, Any]
"""The state of a training between two exchanges, as nested mappings of JSON values and arrays."""
Keep = Callable[[State], None]
"""Stores the state after a round. A training that is given it continues with the next round, and
its result has the same bits as without the interruption."""


@dataclass(frozen=True, eq=False)
class Collect(Mapping[int, TrainRequest]):
    """Requests to train, and for how long to wait for reports.

    What is waited for are the reports on all open requests: on these, and on earlier ones that were
    left open.
    """

    requests: Mapping[int, TrainRequest]
    usable: float = math.inf
    """Number of reports without a failure that is enough."""
    until_s: float = math.inf
    """Point in time until which to wait."""
    leaves_open: bool = False
    """Whether to wait for the next report only (and those of the same time), and for the others
    later. Otherwise what has not come by then is not used any more."""
    patience_s: float = math.inf
    """Of these requests, where they may be left open: seconds after which a client is not waited
    for any more. Instead of its report, a failure ``late`` is delivered."""

    def __getitem__(self, client: int) -> TrainRequest:
        return self.requests[client]

    def __iter__(self) -> Iterator[int]:
        return iter(self.requests)

    def __len__(self) -> int:
        return len(self.requests)


class Situation(Protocol):
    """The time in a training, and which clients could be asked."""

    @property
    def now_s(self) -> float:
        """Seconds since the training began."""

    def free(self, clients: Collection[int]) -> list[int]:
        """Those that do not work on an earlier request, in the same order."""

    def there(self, clients: Collection[int]) -> list[int]:
        """Those that can be reached now, in the same order."""

    def someone_there_s(self, clients: Collection[int]) -> float:
        """Point in time from which one of them can be reached; infinite where that is unknown."""

    def took_s(self, client: int) -> float | None:
        """Seconds that the client's latest training took, transfers included; None before it."""


@dataclass(frozen=True)
class Untimed:
    """A situation without a clock: all clients can be asked at any time."""

    now_s: float = field(default=0.0, init=False)

    def free(self, clients: Collection[int]) -> list[int]:
        """All of them."""
        return list(clients)

    there = free

    def someone_there_s(self, clients: Collection[int]) -> float:
        """Now."""
        return self.now_s

    def took_s(self, client: int) -> float | None:
        """It is not known."""
        return None
