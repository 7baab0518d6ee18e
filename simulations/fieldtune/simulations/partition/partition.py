"""Dealing samples out to clients.

A client's samples become arrays only where they are asked for, so that a process holds those of the
clients that it works for and not a copy of the whole data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol, overload

import numpy as np

from fieldtune.client.data.client_data import ClientData
from fieldtune.profiles.common.errors import DataError
from fieldtune.simulations.datasets import Dataset
from fieldtune.simulations.partition.strategies import (
    LEAST,
    Index,
    dirichlet,
    iid,
    natural,
    quantity,
    shards,
)

_HELD_BYTES = 64 * 2**20


class Dealing(Protocol):
    """How to deal; :class:`~fieldtune.simulations.fleet.plan.FleetPlan` is one."""

    @property
    def partition_kind(self) -> str | None:
        """``natural``, ``iid``, ``dirichlet``, ``shards`` or ``quantity``.

        None: natural where the data set names owners, otherwise dirichlet.
        """

    @property
    def alpha(self) -> float:
        """Concentration."""

    @property
    def shards(self) -> int:
        """Shards of each client."""

    @property
    def test_share(self) -> float:
        """Share of a client's samples that it tests on."""

    @property
    def clients(self) -> int:
        """How many."""

    @property
    def seed(self) -> int:
        """Of the dealing."""


class Partition(Sequence[ClientData]):
    """Each client's own train and test part.

    Args:
        dataset: the samples.
        parts: training and test samples of each client.
        told: how they were dealt out, in a few words.
    """

    def __init__(self, dataset: Dataset, parts: Sequence[tuple[Index, Index]], told: str) -> None:
        self.told = told
        self._dataset, self._parts = dataset, parts
        # Every client is described once before a study, so what is held is bounded by bytes.
        sample_bytes = dataset.x[:1].size * 4
        each = sample_bytes * len(dataset.y) / len(parts)
        self._held = lru_cache(max(int(_HELD_BYTES // max(each, 1)), 8))(self._make)

    def __len__(self) -> int:
        return len(self._parts)

    @overload
    def __getitem__(self, client: int) -> ClientData: ...
    @overload
    def __getitem__(self, client: slice) -> Sequence[ClientData]: ...
    def __getitem__(self, client: int | slice) -> ClientData | Sequence[ClientData]:
        if isinstance(client, slice):
            return [self[each] for each in range(len(self))[client]]
        return self._held(range(len(self))[client])

    def _make(self, client: int) -> ClientData:
        train, test = self._parts[client]
        return ClientData(
            train_x=self._dataset.samples(train),
            train_y=self._dataset.y[train],
            test_x=self._dataset.samples(test),
            test_y=self._dataset.y[test],
            classes=self._dataset.classes,
        )


def partition(dataset: Dataset, how: Dealing) -> Partition:
    """Each client's own train and test part; every sample goes to exactly one client.

    Raises:
        DataError: there are too few samples, or no natural owners where they are to decide.
    """
    rng = np.random.default_rng([how.seed, 0])
    kind = how.partition_kind or ("dirichlet" if dataset.owner is None else "natural")
    if len(dataset.y) < LEAST * how.clients:
        raise DataError(
            f"fleet.clients = {how.clients} is too many for {len(dataset.y)} samples: each client "
            f"needs at least {LEAST}"
        )
    if kind == "natural":
        shares, told = natural(dataset, how.clients)
    elif kind == "iid":
        shares, told = iid(len(dataset.y), how.clients, rng), "evenly at random"
    elif kind == "shards":
        shares = shards(dataset.y, how.clients, how.shards, rng)
        told = f"in shards sorted by label, {how.shards} a client"
    elif kind == "quantity":
        shares = quantity(len(dataset.y), how.clients, how.alpha, rng)
        told = f"at random in unequal amounts (Dirichlet, alpha = {how.alpha:g})"
    else:
        shares = dirichlet(dataset.y, how.clients, how.alpha, rng)
        told = f"with skewed labels (Dirichlet, alpha = {how.alpha:g})"
    return Partition(
        dataset, [_split(dataset, share, how.test_share, rng) for share in shares], told
    )


def _split(
    dataset: Dataset, share: Index, test_share: float, rng: np.random.Generator
) -> tuple[Index, Index]:
    """Train and test part, with at least one sample on either side."""
    if dataset.test is not None:
        aside = dataset.test[share]
        if aside.any() and not aside.all():
            return share[~aside], share[aside]
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
