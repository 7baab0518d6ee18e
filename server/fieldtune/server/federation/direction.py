"""Leaving out clients whose updates point against those of the others, round after round.

A single update of the wrong direction tells little: where labels are skewed, up to half of the
honest updates of a round have a negative cosine similarity to the mean of the others. But it is
another half each round, while a client that flips its updates is against the others each time. So
evidence is added up over a training, as in Wald's sequential probability ratio test (1945): the
logarithm of how much likelier the client's cosine similarities are if they are distributed as the
others' but with the opposite sign, than if they are distributed as the others'. Both distributions
are Student's t, whose heavy tails bound what one round can say. That updates are compared with
their weighted mean by cosine similarity is as in Muñoz-González et al. 2019 (arXiv 1909.05125,
algorithm 1), who decide in each round alone.

Of the updates of honest clients of the built-in data sets, with hyperparameters from anywhere in
their studies' spaces, this leaves out two in 10,000 (``docs/benchmark.md``). Where none is left
out, the result is that without this check, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

import numpy as np
from numpy.typing import NDArray

from fieldtune.client.contract.messages import Weights
from fieldtune.server.federation.robust import norm_of
from fieldtune.server.federation.server_optimizer import Vector

LEAVE_OUT_ABOVE = 6.0
"""Evidence, as the logarithm of a likelihood ratio, above which an update is left out."""
_ORDINARY = 1.5
"""Multiple of the round's median norm above which an update does more harm if it is malicious: the
evidence counts as many times as its norm is above this one."""
_DOUBT = 0.25
"""What each round takes off the evidence, in favour of the client."""
_FREEDOM = 2.0
"""Degrees of freedom of Student's t: a round adds at most a few units of evidence."""
_LEAST = 0.05
"""The smallest spread of cosine similarities that is assumed."""
_FEWEST = 5
"""Updates in a round from which a median and a spread say something."""
_KEPT_BYTES = 2**25
"""Of the updates of a round, as they are compared."""


def opposed(
    start: Weights, updates: Mapping[int, Weights], evidence: dict[str, float]
) -> dict[int, float]:
    """The clients whose updates are to be left out of this round, with the evidence against them.

    Args:
        start: the weights that the clients began with.
        updates: client -> its trained weights, finite.
        evidence: client, as text -> evidence against it in this training; this round's is added.
    """
    clients = sorted(updates)
    if len(clients) < _FEWEST:
        return {}
    before = np.array([evidence.get(str(client), 0.0) for client in clients])
    voting = before <= 0  # a suspect has no say in what the others' direction is
    if voting.sum() < max(_FEWEST, len(clients) / 2):
        voting[:] = True
    moves = _Moves(start, [updates[client] for client in clients])
    norms = np.array([norm_of(each) for each in moves])
    after = before + _evidence(_cosines(moves, norms, voting), voting) - _DOUBT
    after = np.maximum(after, -LEAVE_OUT_ABOVE)  # an honest past does not excuse for long
    evidence |= {str(client): float(now) for client, now in zip(clients, after, strict=True)}
    with np.errstate(over="ignore"):  # where most updates are 0
        harm = np.maximum(norms / max(_ORDINARY * median(norms.tolist()), 1e-300), 1.0)
    out = after * harm > LEAVE_OUT_ABOVE
    if 2 * out.sum() >= len(clients):  # there is no majority that they could be against
        return {}
    return {clients[index]: float(after[index]) for index in np.flatnonzero(out)}


class _Moves:
    """The updates' differences from the weights that they began with, in any number of passes.

    They are kept between passes while they are small, since to make them takes longest.
    """

    def __init__(self, start: Weights, weights: Sequence[Weights]) -> None:
        self.size = start.size
        self._start, self._weights = start.astype(np.float64), weights
        keeps = self._start.nbytes * len(weights) <= _KEPT_BYTES
        self._kept = [*map(self._move, weights)] if keeps else None

    def __iter__(self) -> Iterator[Vector]:
        return map(self._move, self._weights) if self._kept is None else iter(self._kept)

    def _move(self, weights: Weights) -> Vector:
        move = weights.astype(np.float64)
        move -= self._start
        return move


def _cosines(moves: _Moves, norms: Vector, voting: NDArray[np.bool_]) -> Vector:
    """Cosine similarity of each update to the mean direction of the other voting ones.

    Directions count alike, whatever the updates' norms, so that a large update has no more say.
    """
    moved = norms > 0
    votes = voting & moved
    total = np.zeros(moves.size)
    for move, norm, vote in zip(moves, norms, votes, strict=True):
        if vote:
            total += move / norm
    along = np.array(
        [
            float(each @ total) / norm if norm else 0.0
            for each, norm in zip(moves, norms, strict=True)
        ]
    )
    # Without its own direction, of length 1, where it is part of the total.
    others = np.sqrt(np.maximum(total @ total - votes * (2 * along - 1), 0.0))
    cosines = np.zeros(len(norms))
    np.divide(along - votes, others, out=cosines, where=moved & (others > 0))
    return cosines


def _evidence(cosines: Vector, voting: NDArray[np.bool_]) -> Vector:
    """How much likelier each value is with the opposite sign, as a logarithm.

    0 where the voting clients do not agree on a direction themselves.
    """
    known = cosines[voting]
    middle = median(known.tolist())
    if middle <= 0:
        return np.zeros(len(cosines))
    # The median deviation is robust to attackers, and the standard deviation to few values; a
    # spread of few values is uncertain, so it is widened.
    robust = 1.4826 * median(np.abs(known - middle).tolist())
    scale = max(robust, float(np.std(known)) / 2, _LEAST) * (1 + 4 / len(known))
    as_others = np.log1p((cosines - middle) ** 2 / (_FREEDOM * scale**2))
    mirrored = np.log1p((cosines + middle) ** 2 / (_FREEDOM * scale**2))
    return np.asarray((_FREEDOM + 1) / 2 * (as_others - mirrored))
