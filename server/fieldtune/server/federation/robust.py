"""Averaging that one malicious device cannot decide: norm clipping and robust aggregation rules.

Norm clipping is on by default. An update whose norm is more than :data:`CLIP_ABOVE` times the
median norm of the training's latest updates is scaled down to that median. That a quantile of the
norms gives the bound is the idea of Andrew et al. 2021 (arXiv 1905.03871); unlike there, updates of
ordinary size are left as they are, so without an outlier the result is that of plain averaging, bit
for bit.

The rules: coordinate-wise trimmed mean and median (Yin et al. 2018, arXiv 1803.01498, definitions 2
and 1), Krum and Multi-Krum (Blanchard et al. 2017, arXiv 1703.02757, section 4). They agree with
Flower's strategies on the same updates (``tests/server/federation/test_robust.py``).
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Mapping, MutableSequence, Sequence

import numpy as np

from fieldtune.client.contract.messages import Weights
from fieldtune.server.federation.server_optimizer import Updates, Vector, weighted_mean

CLIP_ABOVE = 4.0
"""Multiple of the median norm above which an update is scaled down. On the digits, no update of
100 honest clients with skewed labels is (``simulations/benchmarks/robustness.py``)."""
_MOST_ALONE = 10.0
"""Where one client alone has its hyperparameters, its norm is compared with so many times the
median of the round's clients."""
_NORMS = 4096
"""The latest norms of a group of updates, of which the median is taken."""
_COLUMNS = 2**16
"""Weights that are sorted at a time, which bounds the memory."""

Norms = dict[str, MutableSequence[float]]
"""Group of updates -> the norms of its latest ones, oldest first."""


def clipped(
    start: Weights,
    updates: Mapping[int, Weights],
    groups: Mapping[int, str],
    norms: Norms,
    seen: Callable[[int, float], None] = lambda client, times: None,
) -> dict[int, tuple[Weights, float]]:
    """The updates that are too large, scaled down, and their norms as multiples of the median.

    Args:
        start: the weights that the clients began with.
        updates: client -> its trained weights.
        groups: client -> the hyperparameters that it trained with, as text: norms are comparable
            within a group.
        norms: group -> the norms of its latest updates; this round's are appended, and those before
            the latest ``_NORMS`` are dropped.
        seen: called with each client, and its norm as a multiple of the median.
    """
    sizes = {
        client: norm_of(weights.astype(np.float64) - start) for client, weights in updates.items()
    }
    found = {}
    of_round = sorted({groups[client] for client in updates})
    usual = _lower_median([*sizes.values()]) if len(of_round) > 1 else 0.0
    for group in of_round:
        own = {client: size for client, size in sizes.items() if groups[client] == group}
        most = _MOST_ALONE * usual if usual > 0 and len(own) == 1 else math.inf
        norms.setdefault(group, array("d")).extend(min(size, most) for size in own.values())
        del norms[group][:-_NORMS]
        reference = min(_lower_median(norms[group]), most)
        for client, size in own.items():
            seen(client, size / reference if reference > 0 else math.nan)
            if size > CLIP_ABOVE * reference > 0:
                moved = start + reference / size * (updates[client].astype(np.float64) - start)
                found[client] = moved.astype(np.float32), size / reference
    return found


def norm_of(vector: Vector) -> float:
    """Of a vector, with the bits of ``numpy.linalg.norm`` in half its time."""
    return math.sqrt(vector.dot(vector))


def _lower_median(norms: Sequence[float]) -> float:
    """The median; of an even number of norms, the lower one of the two in the middle."""
    middle = (len(norms) - 1) // 2
    return float(np.partition(norms, middle)[middle])


def trimmed_mean(updates: Updates, share: float) -> Vector:
    """The mean of each weight without its smallest and largest values, ``share`` of them each."""
    count = len(updates)
    cut = int(share * count)

    def middle(block: Vector) -> Vector:
        ordered = np.partition(block, (cut, count - cut - 1), axis=0)
        return np.asarray(ordered[cut : count - cut].mean(axis=0))

    return _by_column(updates, middle)


def coordinate_median(updates: Updates) -> Vector:
    """The median of each weight."""
    return _by_column(updates, lambda block: np.asarray(np.median(block, axis=0)))


def krum(updates: Updates, share: float, select: int | None = None) -> Vector:
    """The weighted mean of the updates that are nearest to their neighbours.

    An update's score is the sum of its squared distances to the ``n - f - 2`` nearest others, where
    ``f`` is ``share`` of the ``n`` updates.

    Args:
        updates: weights and samples of each client.
        share: of the clients that may be malicious.
        select: how many updates of the lowest scores to average; None: ``n - f - 2`` (Multi-Krum),
            so that two more attackers than expected in a round are still left out.
    """
    count = len(updates)
    neighbours = max(1, count - int(share * count) - 2)
    matrix = np.stack([each.weights for each in updates]).astype(np.float64)
    matrix -= matrix.mean(axis=0)  # distances do not change, and lose fewer digits
    squares = np.einsum("ij,ij->i", matrix, matrix)
    distances = squares[:, None] + squares[None, :] - 2 * matrix @ matrix.T
    np.fill_diagonal(distances, -np.inf)  # so that an update is not its own neighbour
    nearest = np.sort(distances, axis=1)[:, 1 : neighbours + 1]
    best = np.argsort(nearest.sum(axis=1), kind="stable")[: select or neighbours]
    return weighted_mean([updates[index] for index in sorted(best)])


def _by_column(updates: Updates, reduce: Callable[[Vector], Vector]) -> Vector:
    size = updates[0].weights.size
    parts = [
        reduce(np.stack([each.weights[at : at + _COLUMNS] for each in updates]).astype(np.float64))
        for at in range(0, size, _COLUMNS)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)
