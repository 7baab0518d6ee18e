"""q-FedAvg: clients with a high loss count more, so that errors differ less between clients.

Li et al. 2020, "Fair resource allocation in federated learning" (arXiv 1905.10497), algorithm 2.
"""

from __future__ import annotations

import numpy as np

from fieldtune.client.contract.messages import Weights
from fieldtune.server.federation.server_optimizer import Updates, Vector

MOST_TIMES = 10.0
"""A client's loss counts as at most this multiple of the round's median, and as at least the median
divided by it: it cannot be verified, and one loss of 0 would keep the weights where they are."""
_LARGEST = 1e6
"""The most that a loss counts as, so that its powers are finite."""
_SMALLEST = 1e-10
"""Added to every loss, as in Flower's strategy: 0 has no power below 1."""


def q_fedavg(weights: Weights, updates: Updates, q: float, client_learning_rate: float) -> Vector:
    """The global weights after one round.

    With ``L = 1 / client_learning_rate``, the loss ``F`` of the global weights on each client's
    training samples, and ``g = L (w - w_k)``: ``w - sum(F^q g) / sum(q F^(q-1) |g|^2 + L F^q)``.
    With ``q = 0`` it is the mean in which every client counts the same.

    Args:
        weights: the global ones, that the clients began with.
        updates: of the clients; each has a loss.
        q: 0 or more: the larger, the more the clients with a high loss count.
        client_learning_rate: of the clients' SGD.
    """
    losses = np.array([0.0 if each.loss is None else max(each.loss, 0.0) for each in updates])
    middle = float(np.median(losses))
    most = min(MOST_TIMES * middle, _LARGEST)
    losses = np.clip(losses, min(middle / MOST_TIMES, most), most) + _SMALLEST
    total, divisor = np.zeros(weights.shape, np.float64), 0.0
    for each, loss in zip(updates, losses.tolist(), strict=True):
        gradient = (weights.astype(np.float64) - each.weights) / client_learning_rate
        total += loss**q * gradient
        divisor += q * loss ** (q - 1) * float(gradient @ gradient)
        divisor += loss**q / client_learning_rate
    return weights - total / divisor
