"""Partitioning a data set among clients.

A client's arrays are created on demand, so that a process holds only those of the clients that it
simulates and not a copy of the whole data set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol, overload

import numpy as np
from numpy.typing import NDArray

from fieldtune.client.data.client_data import ClientData
from fieldtune.profiles.common.errors import DataError
from fieldtune.simulations.datasets import Dataset
from fieldtune.simulations.partition.strategies import (
    MIN_SAMPLES,
    Index,
    dirichlet,
    iid,
    natural,
    quantity,
    shards,
)

_CACHE_BYTES = 64 * 2**20


class PartitionSettings(Protocol):
    """Partition settings, implemented by :class:`~fieldtune.simulations.fleet.plan.FleetPlan`."""

    @property
    def partition_kind(self) -> str | None:
        """``natural``, ``iid``, ``dirichlet``, ``shards`` or ``quantity``.

        None: ``natural`` if the data set has owners, else ``dirichlet``.
        """

    @property
    def alpha(self) -> float:
        """Concentration parameter of the Dirichlet distribution."""

    @property
    def shards(self) -> int:
        """Number of shards per client."""

    @property
    def test_share(self) -> float:
        """Share of a client's samples used for testing."""

    @property
    def clients(self) -> int:
        """Number of clients."""

    @property
    def seed(self) -> int:
        """Seed of the partition."""


class PartitionedData(Sequence[ClientData]):
    """The training and test data of each client.

    Args:
        dataset: the samples.
        parts: indices of the training and the test samples of each client.
        description: short description of the partition.
    """

    def __init__(
        self, dataset: Dataset, parts: Sequence[tuple[Index, Index]], description: str
    ) -> None:
        self.description = description
        self._dataset, self._parts = dataset, parts
        # All clients are described before a study, so the cache is limited to a size in bytes.
        sample_bytes = dataset.x[:1].size * 4
        each = sample_bytes * len(dataset.y) / len(parts)
        self._cached = lru_cache(max(int(_CACHE_BYTES // max(each, 1)), 8))(self._make)

    def __len__(self) -> int:
        return len(self._parts)

    @property
    def sha256(self) -> str:
        """Of which sample is in which part of which client, in hexadecimal."""
        digest = hashlib.sha256()
        for train, test in self._parts:
            for index in (train, test):
                digest.update(f"{len(index)} ".encode() + index.astype("<i8").tobytes())
        return digest.hexdigest()

    @property
    def sizes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Number of training and of test samples of each client."""
        train, test = ([len(part[kind]) for part in self._parts] for kind in (0, 1))
        return np.array(train, np.int64), np.array(test, np.int64)

    @overload
    def __getitem__(self, client: int) -> ClientData: ...
    @overload
    def __getitem__(self, client: slice) -> Sequence[ClientData]: ...
    def __getitem__(self, client: int | slice) -> ClientData | Sequence[ClientData]:
        if isinstance(client, slice):
            return [self[each] for each in range(len(self))[client]]
        return self._cached(range(len(self))[client])

    def _make(self, client: int) -> ClientData:
        train, test = self._parts[client]
        return ClientData(
            train_x=self._dataset.samples(train),
            train_y=self._dataset.y[train],
            test_x=self._dataset.samples(test),
            test_y=self._dataset.y[test],
            classes=self._dataset.classes,
        )


def partition(dataset: Dataset, how: PartitionSettings) -> PartitionedData:
    """Partition a data set; every sample goes to exactly one client.

    Raises:
        DataError: there are too few samples, or the data set has no owners for ``natural``.
    """
    rng = np.random.default_rng([how.seed, 0])
    kind = how.partition_kind or ("dirichlet" if dataset.owner is None else "natural")
    if len(dataset.y) < MIN_SAMPLES * how.clients:
        raise DataError(
            f"fleet.clients = {how.clients} is too many for {len(dataset.y)} samples: each client "
            f"needs at least {MIN_SAMPLES}"
        )
    if kind == "natural":
        shares, description = natural(dataset, how.clients)
    elif kind == "iid":
        shares, description = iid(len(dataset.y), how.clients, rng), "evenly at random"
    elif kind == "shards":
        shares = shards(dataset.y, how.clients, how.shards, rng)
        description = f"in shards sorted by label, {how.shards} per client"
    elif kind == "quantity":
        shares = quantity(len(dataset.y), how.clients, how.alpha, rng)
        description = f"at random in unequal amounts (Dirichlet, alpha = {how.alpha:g})"
    else:
        shares = dirichlet(dataset.y, how.clients, how.alpha, rng)
        description = f"with skewed labels (Dirichlet, alpha = {how.alpha:g})"
    return PartitionedData(
        dataset, [_split(dataset, share, how.test_share, rng) for share in shares], description
    )


def _split(
    dataset: Dataset, share: Index, test_share: float, rng: np.random.Generator
) -> tuple[Index, Index]:
    """Split a client's samples into training and test data, with at least one sample in each."""
    if dataset.test is not None:
        reserved = dataset.test[share]
        if reserved.any() and not reserved.all():
            return share[~reserved], share[reserved]
    if dataset.group is not None:
        group = dataset.group[share]
        names = rng.permutation(np.unique(group))
        sizes = np.array([np.count_nonzero(group == name) for name in names])
        # As many groups as come closest to the share, but never all or none.
        wanted = int(np.argmin(np.abs(np.cumsum(sizes) - test_share * len(share)))) + 1
        if len(names) > 1:
            tested = np.isin(group, names[: min(wanted, len(names) - 1)])
            return share[~tested], share[tested]
    shuffled = rng.permutation(share)
    tests = min(max(round(test_share * len(share)), 1), len(share) - 1)
    return np.sort(shuffled[tests:]), np.sort(shuffled[:tests])
