"""Dealing samples out to clients.

Each way of dealing returns one index array per client, and together these hold every sample
exactly once. A client's samples become arrays only where they are asked for, so that a process
holds those of the clients that it works for and not a copy of the whole data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol, overload

import numpy as np
from numpy.typing import NDArray

from fieldtune.client.data import ClientData
from fieldtune.profiles.errors import DataError
from fieldtune.simulations.datasets import Dataset

_LEAST = 2
_HELD_BYTES = 64 * 2**20

Index = NDArray[np.int_]


class Dealing(Protocol):
    """How to deal; :class:`~fieldtune.simulations.fleet.FleetPlan` is one."""

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
    if len(dataset.y) < _LEAST * how.clients:
        raise DataError(
            f"fleet.clients = {how.clients} is too many for {len(dataset.y)} samples: each client "
            f"needs at least {_LEAST}"
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


def iid(samples: int, clients: int, rng: np.random.Generator) -> list[Index]:
    """A random permutation, cut evenly."""
    return [np.sort(part) for part in np.array_split(rng.permutation(samples), clients)]


def dirichlet(
    y: NDArray[np.int32], clients: int, alpha: float, rng: np.random.Generator
) -> list[Index]:
    """Label skew: each class is dealt out in proportions drawn from ``Dirichlet(alpha)``.

    Hsu, Qi and Brown 2019 (arXiv 1909.06335). A client left with fewer than 2 samples is given
    some by those that have most.
    """
    shares: list[list[int]] = [[] for _ in range(clients)]
    for label in range(int(y.max()) + 1):
        members = rng.permutation(np.flatnonzero(y == label))
        for share, part in zip(shares, _cut(members, clients, alpha, rng), strict=True):
            share.extend(part.tolist())
    return _with_enough(shares)


def quantity(samples: int, clients: int, alpha: float, rng: np.random.Generator) -> list[Index]:
    """Quantity skew: clients differ in how much they hold, drawn from ``Dirichlet(alpha)``.

    Li et al., "Federated Learning on Non-IID Data Silos", ICDE 2022 (arXiv 2102.02079), IV-C.
    A client left with fewer than 2 samples is given some by those that have most.
    """
    parts = _cut(rng.permutation(samples), clients, alpha, rng)
    return _with_enough([part.tolist() for part in parts])


def shards(y: NDArray[np.int32], clients: int, each: int, rng: np.random.Generator) -> list[Index]:
    """Sorted by label, cut into ``clients * each`` shards, of which each client draws ``each``.

    McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data",
    AISTATS 2017 (arXiv 1602.05629), section 3.

    Raises:
        DataError: there are more shards than samples, or a client would have a single sample.
    """
    if len(y) < max(each, _LEAST) * clients:
        raise DataError(
            f"task.partition.shards = {each} for {clients} clients makes {each * clients} shards "
            f"of {len(y)} samples: lower task.partition.shards or fleet.clients"
        )
    by_label = rng.permutation(len(y))
    by_label = by_label[np.argsort(y[by_label], kind="stable")]
    cut = np.array_split(by_label, clients * each)
    drawn = rng.permutation(clients * each).reshape(clients, each)
    return [np.sort(np.concatenate([cut[shard] for shard in own])) for own in drawn]


def natural(dataset: Dataset, clients: int) -> tuple[list[Index], str]:
    """One client an owner, or several where there are more clients than owners; and how it went.

    An owner with more samples is split first. It is split between its groups where the data set
    names them and they suffice, otherwise in the order of its samples, in equal parts.

    Raises:
        DataError: the data set names no owners, too many, or one with too few samples.
    """
    if dataset.owner is None:
        raise DataError(
            "task.partition.kind = 'natural', but the data set does not say whose each sample is: "
            "choose iid, dirichlet, shards or quantity"
        )
    names, sizes = np.unique(dataset.owner, return_counts=True)
    what = dataset.owner_is
    if len(names) > clients:
        raise DataError(
            f"fleet.clients = {clients}, but the data set has {len(names)} natural clients: "
            f"set fleet.clients = {len(names)} or more, or task.partition.kind to another than "
            "natural"
        )
    pieces = np.full(len(names), clients // len(names))
    pieces[np.argsort(-sizes, kind="stable")[: clients % len(names)]] += 1
    least = int(np.argmin(sizes / pieces))
    if sizes[least] < _LEAST * pieces[least]:
        raise DataError(
            f"fleet.clients = {clients} splits {what} {names[least]!s} with {sizes[least]} samples "
            f"into {pieces[least]} clients: each needs at least {_LEAST}; lower fleet.clients"
        )
    shares = [
        part
        for name, into in zip(names, pieces.tolist(), strict=True)
        for part in _pieces(dataset, np.flatnonzero(dataset.owner == name), into)
    ]
    if len(names) == clients:
        return shares, f"naturally: a client is a {what}"
    spread = (
        f"{pieces.min()}" if pieces.min() == pieces.max() else f"{pieces.min()} or {pieces.max()}"
    )
    return shares, (
        f"naturally, but there are more clients than the {len(names)} {what}s: each {what} is "
        f"split into {spread} clients by {dataset.group_is}"
    )


def _pieces(dataset: Dataset, members: Index, into: int) -> list[Index]:
    """Samples of one owner in so many parts of at least 2 samples each."""
    if dataset.group is not None and into > 1:
        group = dataset.group[members]
        parts = [members[np.isin(group, some)] for some in np.array_split(np.unique(group), into)]
        if min(map(len, parts)) >= _LEAST:
            return parts
        members = members[np.argsort(group, kind="stable")]
    return [np.sort(part) for part in np.array_split(members, into)]


def _cut(members: Index, clients: int, alpha: float, rng: np.random.Generator) -> list[Index]:
    proportions = rng.dirichlet(np.full(clients, alpha))
    cuts = np.round(np.cumsum(proportions)[:-1] * len(members)).astype(int)
    return np.split(members, cuts)


def _with_enough(shares: list[list[int]]) -> list[Index]:
    for share in shares:
        while len(share) < _LEAST:
            share.append(max(shares, key=len).pop())
    return [np.sort(np.array(share)) for share in shares]


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
