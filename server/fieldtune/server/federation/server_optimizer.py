"""The server optimizer: how the change that a round's clients propose moves the global weights.

FedAvg: McMahan et al. 2017, algorithm 1. Server learning rate and momentum: Reddi et al. 2021
(arXiv 2003.00295, algorithm 1 with SGD) and Hsu et al. 2019 (FedAvgM). FedAdagrad, FedYogi and
FedAdam: Reddi et al. 2021, algorithm 2. With SGD, learning rate 1 and momentum 0 the result is
FedAvg's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fieldtune.client.contract.messages import Weights

Vector = NDArray[np.float64]

Adaptive = Literal["adagrad", "yogi", "adam"]


_BLOCK = 2**15
"""Weights that are averaged at a time."""


class Update(NamedTuple):
    """What one client's training contributes to the next global weights."""

    weights: Weights
    """After its training."""
    samples: float
    """That it trained on; its weight in the mean."""
    loss: float | None = None
    """Mean loss of the weights that it was given, on its training samples; None if not asked."""


Updates = Sequence[Update]

Aggregate = Callable[[Weights, Updates], Vector]
"""``(global weights, updates) -> one weight vector in place of the updates``."""


def weighted_mean(updates: Updates) -> Vector:
    """Mean of weight vectors, each weighted by its client's number of samples.

    Accumulates in float64 in the order given, so the same order gives the same bits; by blocks that
    stay in the processor's cache.

    Raises:
        ValueError: there is no update, or none with a sample.
    """
    total = sum(each.samples for each in updates)
    if total <= 0:
        raise ValueError("nothing to average: no update has a sample")
    mean = np.zeros(updates[0].weights.size, np.float64)
    shares = np.empty(min(mean.size, _BLOCK))
    for at in range(0, mean.size, _BLOCK):
        block = mean[at : at + _BLOCK]
        share = shares[: block.size]
        for each in updates:
            share[:] = each.weights[at : at + _BLOCK]
            share *= each.samples / total
            block += share
    return mean


class Step(Protocol):
    """One step of the server optimizer."""

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` needs to continue with the same bits."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a stored state."""

    def __call__(self, weights: Weights, change: Vector) -> Weights:
        """The next global weights, float32, given the change that the clients propose."""


class SgdStep:
    """``v <- momentum * v + change``; ``w <- w + learning_rate * v``."""

    def __init__(self, learning_rate: float = 1.0, momentum: float = 0.0) -> None:
        self._learning_rate, self._momentum = learning_rate, momentum
        self._velocity: Vector | float = 0.0

    def state(self) -> dict[str, Any]:
        """The velocity, if there is momentum: without, it is multiplied by 0."""
        return {"velocity": self._velocity} if self._momentum else {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a stored state."""
        self._velocity = state.get("velocity", 0.0)

    def __call__(self, weights: Weights, change: Vector) -> Weights:
        """One step."""
        self._velocity = self._momentum * self._velocity + change
        return (weights + self._learning_rate * self._velocity).astype(np.float32)


class AdaptiveStep:
    """FedAdagrad, FedYogi or FedAdam (Reddi et al. 2021, algorithm 2).

    With the clients' mean change ``d``: ``m <- beta_1 m + (1 - beta_1) d``, ``v`` as below, and
    ``w <- w + learning_rate * m / (sqrt(v) + tau)``. ``m`` and ``v`` begin at 0, as in Flower's
    strategies; in the paper ``v`` begins at ``tau^2`` or more, which makes a difference only to
    weights that move by less than about ``tau`` in the first rounds. As in the paper there is no
    bias correction, which Flower's FedAdam has.

    Args:
        rule: ``adagrad`` (``v + d^2``, and beta_1 = 0 as in the paper's experiments), ``yogi``
            (``v - (1 - beta_2) d^2 sign(v - d^2)``) or ``adam`` (``beta_2 v + (1 - beta_2) d^2``).
        learning_rate: of the server.
        beta_1: decay of the mean change.
        beta_2: decay of its square.
        tau: the degree of adaptivity: the smaller, the more steps differ between weights.
    """

    def __init__(
        self, rule: Adaptive, learning_rate: float, beta_1: float, beta_2: float, tau: float
    ) -> None:
        self._rule, self._learning_rate, self._tau = rule, learning_rate, tau
        self._beta_1, self._beta_2 = 0.0 if rule == "adagrad" else beta_1, beta_2
        self._m: Vector | float = 0.0
        self._v: Vector | float = 0.0

    def state(self) -> dict[str, Any]:
        """Both moments."""
        return {"m": self._m, "v": self._v}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a stored state."""
        self._m, self._v = state["m"], state["v"]

    def __call__(self, weights: Weights, change: Vector) -> Weights:
        """One step."""
        square = change * change
        self._m = self._beta_1 * self._m + (1 - self._beta_1) * change
        match self._rule:
            case "adagrad":
                self._v = self._v + square
            case "yogi":
                self._v = self._v - (1 - self._beta_2) * square * np.sign(self._v - square)
            case "adam":
                self._v = self._beta_2 * self._v + (1 - self._beta_2) * square
        moved = self._learning_rate * self._m / (np.sqrt(self._v) + self._tau)
        return np.asarray(weights + moved, np.float32)


class ServerOptimizer:
    """Moves the global weights by what a round's clients propose.

    Args:
        step: of the optimizer.
        aggregate: makes one weight vector of the updates; its difference from the global weights
            is the change.
    """

    def __init__(
        self,
        step: Step | None = None,
        aggregate: Aggregate = lambda weights, updates: weighted_mean(updates),
    ) -> None:
        self._step, self._aggregate = step or SgdStep(), aggregate

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` needs to continue with the same bits."""
        own = getattr(self._aggregate, "state", None)
        return {**self._step.state(), **({"aggregation": own()} if own else {})}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a stored state."""
        self._step.restore(state)
        if "aggregation" in state:
            self._aggregate.restore(state["aggregation"])  # type: ignore[attr-defined]

    def step(self, weights: Weights, updates: Updates) -> Weights:
        """The next global weights, float32."""
        return self._step(weights, self._aggregate(weights, updates) - weights)
