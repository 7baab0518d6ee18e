"""Which clients a round asks: anyone, whoever is there, by speed, or by what they are worth.

Clients that still work on an earlier request are never asked. Every draw has a generator of its own
that follows from the seed, the round, and the place in the round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from fieldtune.client.contract.messages import TrainReport
from fieldtune.server.federation.plan import Plan
from fieldtune.server.study.settings import server_settings

_STREAM = 0x5E1


class Selector(Protocol):
    """A way of selecting clients."""

    def choose(self, number: int, place: int, count: int) -> list[int]:
        """Up to ``count`` clients in ascending order; none where none can be asked now.

        Args:
            number: of the round.
            place: how many clients the round has asked so far.
            count: at least 1.
        """

    def learn(self, number: int, client: int, report: TrainReport) -> None:
        """Take a usable report."""

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` needs to continue, as JSON values."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a stored state."""


def generator(plan: Plan, number: int, place: int) -> np.random.Generator:
    """The generator of one draw."""
    return np.random.default_rng(
        [plan.seed, number, place, _STREAM] if place else [plan.seed, number]
    )


class Uniform:
    """Clients drawn without replacement: of all, or of those that can be reached now."""

    def __init__(self, plan: Plan, *, only_there: bool = False) -> None:
        self._plan, self._only_there = plan, only_there

    def choose(self, number: int, place: int, count: int) -> list[int]:
        """Drawn uniformly."""
        pool = self._plan.situation.free(self._plan.participants)
        if self._only_there:
            pool = self._plan.situation.there(pool)
        return draw(generator(self._plan, number, place), pool, count)

    def learn(self, number: int, client: int, report: TrainReport) -> None:
        """Nothing."""

    def state(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing."""


class Tiers(Uniform):
    """Each round asks clients of one tier, which are about equally fast.

    TiFL (Chai et al. 2020, arXiv 2001.09249), section 4.3, with equal probabilities of the tiers:
    no client waits for one that is much slower. Clients are ordered by the time that their latest
    training took, or by the predicted time before it, and divided into tiers of equal size: into
    fewer than stated where a tier would have fewer clients than are asked for.
    """

    def choose(self, number: int, place: int, count: int) -> list[int]:
        """Drawn uniformly from a tier, which is drawn uniformly too."""
        situation, rng = self._plan.situation, generator(self._plan, number, place)
        pool = situation.there(situation.free(self._plan.participants))
        if len(pool) <= count:
            return sorted(pool)
        pool.sort(key=lambda client: (speed_s(self._plan, client), client))
        tiers = min(int(server_settings(self._plan.configuration)["tiers"]), len(pool) // count)
        tier = int(rng.integers(max(tiers, 1)))
        bounds = np.linspace(0, len(pool), max(tiers, 1) + 1).astype(int)
        return draw(rng, pool[bounds[tier] : bounds[tier + 1]], count)


def speed_s(plan: Plan, client: int) -> float:
    """Seconds of a client's training, as they were the last time, else as predicted."""
    took_s = plan.situation.took_s(client)
    return plan.expected_s.get(client, 0.0) if took_s is None else took_s


def draw(rng: np.random.Generator, pool: Sequence[int], count: int) -> list[int]:
    """Up to ``count`` of a pool, without replacement, in ascending order."""
    if not pool:
        return []
    drawn = rng.choice(pool, size=min(count, len(pool)), replace=False)
    return sorted(int(client) for client in drawn)
