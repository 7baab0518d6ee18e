"""The server optimizer: federated averaging with a server learning rate and momentum.

FedAvg: McMahan et al. 2017, algorithm 1. Server learning rate and momentum: Reddi et al. 2021
(FedOpt, algorithm 1 with SGD) and Hsu et al. 2019 (FedAvgM). With learning rate 1 and momentum 0
the result is FedAvg's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.client.contract.messages import Weights

Updates = Sequence[tuple[Weights, int]]
"""Weights and number of samples of each client."""


def weighted_mean(updates: Updates) -> NDArray[np.float64]:
    """Mean of weight vectors, each weighted by its client's number of samples.

    Accumulates in float64 in the order given, so the same order gives the same bits.

    Raises:
        ValueError: there is no update, or none with a sample.
    """
    total = sum(samples for _, samples in updates)
    if total <= 0:
        raise ValueError("nothing to average: no update has a sample")
    mean = np.zeros(updates[0][0].shape, np.float64)
    for weights, samples in updates:
        mean += weights.astype(np.float64) * (samples / total)
    return mean


class ServerOptimizer:
    """Moves the global weights by the mean of the clients' changes.

    ``v <- momentum * v + (mean - w)``; ``w <- w + learning_rate * v``. ``aggregate`` makes the
    mean of the updates, or what takes its place.
    """

    def __init__(
        self,
        learning_rate: float = 1.0,
        momentum: float = 0.0,
        aggregate: Callable[[Updates], NDArray[np.float64]] = weighted_mean,
    ) -> None:
        self._learning_rate, self._momentum, self._aggregate = learning_rate, momentum, aggregate
        self._velocity: NDArray[np.float64] | float = 0.0

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` needs to continue with the same bits."""
        # Without momentum the velocity is multiplied by 0.
        return {"velocity": self._velocity} if self._momentum else {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a stored state."""
        self._velocity = state.get("velocity", 0.0)

    def step(self, weights: Weights, updates: Updates) -> Weights:
        """The next global weights, float32."""
        change = self._aggregate(updates) - weights
        self._velocity = self._momentum * self._velocity + change
        return (weights + self._learning_rate * self._velocity).astype(np.float32)
