"""Partition strategies; each returns one array of sample indices per client.

Each sample is in exactly one array, and each client gets at least two samples.
"""

from __future__ import annotations

from heapq import heapify, heapreplace

import numpy as np
from numpy.typing import NDArray

from fieldtune.profiles.common.errors import DataError
from fieldtune.simulations.datasets import Dataset

MIN_SAMPLES = 2
"""Minimum number of samples per client: one for training and one for testing."""

Index = NDArray[np.int_]


def iid(samples: int, clients: int, rng: np.random.Generator) -> list[Index]:
    """Random partition into equal parts."""
    return [np.sort(part) for part in np.array_split(rng.permutation(samples), clients)]


def dirichlet(
    y: NDArray[np.int32], clients: int, alpha: float, rng: np.random.Generator
) -> list[Index]:
    """Label skew: each class is divided in proportions drawn from ``Dirichlet(alpha)``.

    Hsu, Qi and Brown 2019 (arXiv 1909.06335). Clients with fewer than 2 samples are
    topped up from the largest ones.
    """
    shares: list[list[int]] = [[] for _ in range(clients)]
    for label in range(int(y.max()) + 1):
        members = rng.permutation(np.flatnonzero(y == label)).tolist()
        ends = _ends(len(members), clients, alpha, rng)
        for share, begin, end in zip(shares, [0, *ends], ends, strict=False):
            share += members[begin:end]
    return with_enough(shares)


def quantity(samples: int, clients: int, alpha: float, rng: np.random.Generator) -> list[Index]:
    """Quantity skew: the clients' shares of the samples are drawn from ``Dirichlet(alpha)``.

    Li et al., "Federated Learning on Non-IID Data Silos", ICDE 2022 (arXiv 2102.02079), IV-C.
    Clients with fewer than 2 samples are topped up from the largest ones.
    """
    order = rng.permutation(samples).tolist()
    ends = _ends(samples, clients, alpha, rng)
    return with_enough([order[a:b] for a, b in zip([0, *ends], ends, strict=False)])


def shards(y: NDArray[np.int32], clients: int, each: int, rng: np.random.Generator) -> list[Index]:
    """Sort by label, cut into ``clients * each`` shards and give each client ``each`` of them.

    McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data",
    AISTATS 2017 (arXiv 1602.05629), section 3.

    Raises:
        DataError: there are more shards than samples, or a client would have only one sample.
    """
    if len(y) < max(each, MIN_SAMPLES) * clients:
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
    """One client per owner, or several if there are more clients; and a short description.

    The owners with most samples are split into more clients. An owner is split by groups if the
    data set has enough of them, otherwise into equal parts in the order of its samples.

    Raises:
        DataError: the data set has no owners, too many owners, or an owner with too few samples.
    """
    if dataset.owner is None:
        raise DataError(
            "task.partition.kind = 'natural', but the data set has no owners of samples: "
            "choose iid, dirichlet, shards or quantity"
        )
    names, sizes = np.unique(dataset.owner, return_counts=True)
    what = dataset.owner_is
    if len(names) > clients:
        raise DataError(
            f"fleet.clients = {clients}, but the data set has {len(names)} {what}s: "
            f"set fleet.clients = {len(names)} or more, or choose another "
            "task.partition.kind"
        )
    pieces = np.full(len(names), clients // len(names))
    pieces[np.argsort(-sizes, kind="stable")[: clients % len(names)]] += 1
    least = int(np.argmin(sizes / pieces))
    if sizes[least] < MIN_SAMPLES * pieces[least]:
        raise DataError(
            f"{what} {names[least]!s} has too few samples ({sizes[least]}) for {pieces[least]} of "
            f"fleet.clients = {clients}: each client needs at least {MIN_SAMPLES}"
        )
    shares = [
        part
        for name, into in zip(names, pieces.tolist(), strict=True)
        for part in _pieces(dataset, np.flatnonzero(dataset.owner == name), into)
    ]
    if len(names) == clients:
        return shares, f"naturally: each {what} is a client"
    spread = (
        f"{pieces.min()}" if pieces.min() == pieces.max() else f"{pieces.min()} or {pieces.max()}"
    )
    return shares, (
        f"naturally, but there are more clients than the {len(names)} {what}s: each {what} is "
        f"split into {spread} clients by {dataset.group_is}"
    )


def _pieces(dataset: Dataset, members: Index, into: int) -> list[Index]:
    """Split an owner's samples into ``into`` parts of at least 2 samples each."""
    if dataset.group is not None and into > 1:
        group = dataset.group[members]
        parts = [members[np.isin(group, some)] for some in np.array_split(np.unique(group), into)]
        if min(map(len, parts)) >= MIN_SAMPLES:
            return parts
        members = members[np.argsort(group, kind="stable")]
    return [np.sort(part) for part in np.array_split(members, into)]


def _ends(samples: int, clients: int, alpha: float, rng: np.random.Generator) -> list[int]:
    """Where each client's part of so many samples ends, in proportions of ``Dirichlet(alpha)``."""
    proportions = rng.dirichlet(np.full(clients, alpha))
    cuts = np.round(np.cumsum(proportions)[:-1] * samples).astype(int)
    return [*cuts.tolist(), samples]


def with_enough(shares: list[list[int]]) -> list[Index]:
    """The shares, sorted, those with too few samples topped up with the last of the largest.

    Of several largest shares the first one gives.
    """
    short = [share for share in shares if len(share) < MIN_SAMPLES]
    largest = [(-len(share), number) for number, share in enumerate(shares)] if short else []
    heapify(largest)
    for share in short:
        while len(share) < MIN_SAMPLES:
            size, number = largest[0]
            share.append(shares[number].pop())
            heapreplace(largest, (size + 1, number))
    return [np.sort(np.array(share)) for share in shares]
