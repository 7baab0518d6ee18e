"""SCAFFOLD: control variates that correct the drift of clients whose data differ.

Karimireddy et al. 2020 (arXiv 1910.06378), algorithm 1 with option II for the clients' control
variates. The coordinator keeps all of them: a client's next one follows from the weights that it
was given and those that it returns, so only the correction ``c - c_k`` travels, with the request.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fieldtune.client.contract.messages import Weights


@dataclass(frozen=True)
class LocalSteps:
    """What a client did in a round."""

    weights: Weights
    """After its training."""
    steps: int
    """Of its optimizer."""
    learning_rate: float
    """Of its SGD; above 0."""


class ControlVariates:
    """The control variates of one training: the server's ``c``, and ``c_k`` of each client.

    Args:
        clients: number of clients that may take part.
        trainable: number of weights that are trained; they come first in the weight vector. The
            others (moving statistics, frozen weights) have no gradient to correct.
    """

    def __init__(self, clients: int, trainable: int) -> None:
        self._clients, self._trainable = clients, trainable
        self._server: Weights | None = None
        self._own: dict[int, Weights] = {}

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` needs to continue with the same bits."""
        own = {str(client): each for client, each in sorted(self._own.items())}
        return {"server": self._server, "clients": own}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a stored state."""
        self._server = state["server"]
        self._own = {int(client): each for client, each in state["clients"].items()}

    def correction(self, client: int, size: int) -> Weights:
        """``c - c_k`` ``[size]``: after each step, a client subtracts this times its rate."""
        zeros = np.zeros(size, np.float32)
        server = zeros if self._server is None else self._server
        return np.asarray(server - self._own.get(client, zeros), np.float32)

    def own(self, clients: Iterable[int]) -> dict[int, Weights]:
        """``c_k`` of these clients."""
        return {client: self._own[client] for client in clients}

    def replace(self, smaller: Mapping[int, Weights]) -> None:
        """Replace ``c_k`` of clients, and change ``c`` by their share."""
        if self._server is None:
            return
        for client, each in sorted(smaller.items()):
            change = each.astype(np.float64) - self._own[client]
            self._server = (self._server + change / self._clients).astype(np.float32)
            self._own[client] = each

    def learn(self, start: Weights, trained: Mapping[int, LocalSteps]) -> None:
        """Update the control variates after a round.

        ``c_k <- c_k - c + (start - weights) / (steps * learning_rate)``, then
        ``c <- c + sum(change of c_k) / clients``.

        Args:
            start: the weights that the clients were given.
            trained: client -> its training.
        """
        before = np.zeros(start.size) if self._server is None else self._server.astype(np.float64)
        total = np.zeros(start.size)
        for client, each in sorted(trained.items()):
            moved = start.astype(np.float64) - each.weights
            change = moved / (each.steps * each.learning_rate) - before
            change[self._trainable :] = 0
            own = self._own.get(client)
            changed = change if own is None else own + change
            self._own[client] = changed.astype(np.float32)
            total += change
        self._server = (before + total / self._clients).astype(np.float32)
