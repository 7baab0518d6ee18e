"""Dealing samples out to clients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fieldtune.client.data import ClientData
from fieldtune.profiles.errors import DataError
from fieldtune.simulations.datasets import Dataset

_LEAST = 2


class Dealing(Protocol):
    """How to deal; :class:`~fieldtune.simulations.fleet.FleetPlan` is one."""

    @property
    def partition_kind(self) -> str:
        """``iid`` or ``dirichlet``."""

    @property
    def alpha(self) -> float:
        """Concentration."""

    @property
    def test_share(self) -> float:
        """Share of a client's samples that it tests on."""

    @property
    def clients(self) -> int:
        """How many."""

    @property
    def seed(self) -> int:
        """Of the dealing."""


def partition(dataset: Dataset, how: Dealing) -> list[ClientData]:
    """Each client's own train and test part; every sample goes to exactly one client.

    Natural owners decide where the data set names them, and then must be as many as the clients.

    Raises:
        DataError: there are too few samples or the wrong number of owners.
    """
    rng = np.random.default_rng([how.seed, 0])
    if dataset.owner is not None:
        shares = _natural(dataset.owner, how.clients)
    elif len(dataset.y) < _LEAST * how.clients:
        raise DataError(
            f"fleet.clients = {how.clients} is too many for {len(dataset.y)} samples: each client "
            f"needs at least {_LEAST}"
        )
    elif how.partition_kind == "iid":
        shares = [
            np.sort(part) for part in np.array_split(rng.permutation(len(dataset.y)), how.clients)
        ]
    else:
        shares = dirichlet(dataset.y, how.clients, how.alpha, rng)
    return [_split(dataset, share, how.test_share, rng) for share in shares]


def dirichlet(
    y: NDArray[np.int32], clients: int, alpha: float, rng: np.random.Generator
) -> list[NDArray[np.int_]]:
    """Label skew: each class is dealt out in proportions drawn from ``Dirichlet(alpha)``.

    Hsu, Qi and Brown 2019 (arXiv 1909.06335). A client left with fewer than 2 samples is given
    some by those that have most.
    """
    shares: list[list[int]] = [[] for _ in range(clients)]
    for label in range(int(y.max()) + 1):
        members = rng.permutation(np.flatnonzero(y == label))
        proportions = rng.dirichlet(np.full(clients, alpha))
        cuts = np.round(np.cumsum(proportions)[:-1] * len(members)).astype(int)
        for share, part in zip(shares, np.split(members, cuts), strict=True):
            share.extend(part.tolist())
    for share in shares:
        while len(share) < _LEAST:
            share.append(max(shares, key=len).pop())
    return [np.sort(np.array(share)) for share in shares]


def _natural(owner: NDArray[np.generic], clients: int) -> Sequence[NDArray[np.int_]]:
    names = np.unique(owner)
    if len(names) != clients:
        raise DataError(
            f"fleet.clients = {clients}, but the data set has {len(names)} natural clients: "
            f"set fleet.clients = {len(names)}"
        )
    return [np.flatnonzero(owner == name) for name in names]


def _split(
    dataset: Dataset, share: NDArray[np.int_], test_share: float, rng: np.random.Generator
) -> ClientData:
    """At least one sample on either side."""
    shuffled = rng.permutation(share)
    tests = min(max(round(test_share * len(share)), 1), len(share) - 1)
    test, train = np.sort(shuffled[:tests]), np.sort(shuffled[tests:])
    return ClientData(
        train_x=dataset.x[train],
        train_y=dataset.y[train],
        test_x=dataset.x[test],
        test_y=dataset.y[test],
        classes=dataset.classes,
    )
