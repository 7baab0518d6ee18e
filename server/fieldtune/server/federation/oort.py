"""Oort: clients whose data is worth most per second (Lai et al. 2021, arXiv 2010.06081).

Algorithm 1. A client's statistical utility is ``|B| sqrt(mean of squared losses)`` over its samples
``B`` (equation 1). Devices report the mean loss and no other, so here it is ``|B| mean loss``,
which is smaller where losses differ between samples. It is multiplied by ``(T / t)`` to the power
of ``speed_weight`` where the client's time ``t`` is above the preferred one ``T``. A share of each
round's clients, which falls from ``exploration`` to a fifth, have not trained yet: faster ones are
more likely.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.client.contract.messages import TrainReport
from fieldtune.server.federation.plan import Plan
from fieldtune.server.federation.selection import generator, speed_s
from fieldtune.server.study.settings import server_settings

_DECAY, _LEAST_EXPLORATION = 0.98, 0.2
_LARGEST_LOSS = 1e6
"""The most that a reported loss counts as: it cannot be verified, and sums must be finite."""
_CUT_OFF = 0.95
"""Clients of at least this share of the utility that would suffice take part in the draw."""
_CLIPPED_AT = 95
"""Percentile of the utilities above which they are cut: outliers are not to be asked always."""
_WINDOW = 20
"""Rounds after which the preferred time is adapted."""
_PACE, _PACE_STEP = 50.0, 10.0
"""The preferred time as a percentile of the clients' times: at first, and its steps."""

Array = NDArray[np.float64]


class Oort:
    """Selects clients by utility.

    Args:
        plan: of the training.
    """

    def __init__(self, plan: Plan) -> None:
        settings = server_settings(plan.configuration)
        self._plan = plan
        self._exploration = float(settings["exploration"])
        self._speed_weight = float(settings["speed_weight"])
        self._utility: dict[int, float] = {}
        self._last: dict[int, int] = {}
        """Client -> the round of its latest training, from 1."""
        self._gained: dict[int, float] = {}
        """Round -> statistical utility of its clients together."""
        self._pace = _PACE

    def choose(self, number: int, place: int, count: int) -> list[int]:
        """Some that are worth most, and some that have not trained yet."""
        situation, rng = self._plan.situation, generator(self._plan, number, place)
        pool = situation.there(situation.free(self._plan.participants))
        known = [client for client in pool if client in self._utility]
        new = [client for client in pool if client not in self._utility]
        self._adapt(number, place)
        share = max(self._exploration * _DECAY**number, min(_LEAST_EXPLORATION, self._exploration))
        explored = min(sum(rng.random(count) < share), len(new))
        exploited = min(count - explored, len(known))
        explored = min(count - exploited, len(new))
        chosen = [*self._best(rng, known, exploited, number), *self._fast(rng, new, explored)]
        return sorted(chosen)

    def learn(self, number: int, client: int, report: TrainReport) -> None:
        """Update the client's statistical utility."""
        loss = report.loss
        if loss is None or not math.isfinite(loss):
            return
        self._utility[client] = report.samples * min(max(loss, 0.0), _LARGEST_LOSS)
        self._last[client] = number + 1
        self._gained[number] = self._gained.get(number, 0.0) + self._utility[client]

    def utilities(self, clients: Sequence[int], number: int) -> Array:
        """The utility of clients that have trained ``[n]`` (algorithm 1, lines 8 to 13)."""
        worth = np.array([self._utility[client] for client in clients])
        worth = np.minimum(worth, np.percentile([*self._utility.values()], _CLIPPED_AT))
        last = np.array([self._last[client] for client in clients], float)
        worth = worth + np.sqrt(0.1 * math.log(number + 1) / last)
        times = np.array([speed_s(self._plan, client) for client in clients])
        preferred = np.percentile([speed_s(self._plan, c) for c in self._utility], self._pace)
        slow = times > preferred
        worth[slow] *= (preferred / times[slow]) ** self._speed_weight
        return np.asarray(worth)

    def state(self) -> dict[str, Any]:
        """Utilities and pace."""
        return {
            "utility": {str(client): each for client, each in self._utility.items()},
            "last": {str(client): each for client, each in self._last.items()},
            "gained": {str(number): each for number, each in self._gained.items()},
            "pace": self._pace,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a stored state."""
        self._utility = {int(client): each for client, each in state["utility"].items()}
        self._last = {int(client): each for client, each in state["last"].items()}
        self._gained = {int(number): each for number, each in state["gained"].items()}
        self._pace = state["pace"]

    def _best(
        self, rng: np.random.Generator, clients: Sequence[int], count: int, number: int
    ) -> list[int]:
        """Drawn by utility from those near or above the least utility that would suffice."""
        if count < 1:
            return []
        worth = self.utilities(clients, number)
        enough = _CUT_OFF * np.sort(worth)[-count]
        near = [index for index, each in enumerate(worth) if each >= enough]
        return _drawn(rng, [clients[index] for index in near], worth[near], count)

    def _fast(self, rng: np.random.Generator, clients: Sequence[int], count: int) -> list[int]:
        """Drawn by predicted speed."""
        if count < 1:
            return []
        times = np.array([speed_s(self._plan, client) for client in clients])
        return _drawn(rng, clients, 1 / np.maximum(times, 1e-9), count)

    def _adapt(self, number: int, place: int) -> None:
        """Prefer slower clients once the utility of the faster ones declines (lines 3 to 5)."""
        if place or number < 2 * _WINDOW or number % _WINDOW:
            return
        now, before = (
            sum(self._gained.get(each, 0.0) for each in range(end - _WINDOW, end))
            for end in (number, number - _WINDOW)
        )
        if now < before:
            self._pace = min(self._pace + _PACE_STEP, 100.0)


def _drawn(
    rng: np.random.Generator, clients: Sequence[int], weights: Array, count: int
) -> list[int]:
    """``count`` clients, drawn without replacement in proportion to their weights."""
    weights = np.maximum(weights, 1e-12 * max(float(weights.max()), 1e-300))
    drawn = rng.choice(clients, size=count, replace=False, p=weights / weights.sum())
    return [int(client) for client in drawn]
