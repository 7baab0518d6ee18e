"""PartitionSettings samples and devices out to clients."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldtune.client.data.client_data import ClientData
from fieldtune.profiles.common.errors import DataError
from fieldtune.simulations.datasets import Dataset, load_dataset
from fieldtune.simulations.fleet.plan import FleetPlan, assign_devices
from fieldtune.simulations.partition.partition import partition
from fieldtune.simulations.partition.strategies import MIN_SAMPLES, with_enough

DEVICES = {"raspberry-pi-zero-2w": 0.4, "raspberry-pi-4b": 0.4, "raspberry-pi-5": 0.2}


KINDS = ("natural", "iid", "dirichlet", "shards", "quantity")


def plan(
    clients: int = 100,
    kind: str | None = None,
    seed: int = 0,
    alpha: float = 0.5,
    *,
    test_share: float = 0.25,
    shards: int = 2,
) -> FleetPlan:
    return FleetPlan("digits", kind, alpha, test_share, clients, DEVICES, seed, shards)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


def numbered(samples: int, owners: int = 0, groups: int = 0) -> Dataset:
    """Each sample is its own number, so that it can be followed; owners hold blocks."""
    x = np.arange(samples, dtype=np.float32).reshape(-1, 1)
    owner = np.arange(samples) * owners // samples if owners else None
    group = (np.arange(samples) % groups).astype(np.int32) if groups else None
    return Dataset(x, (np.arange(samples) % 7).astype(np.int32), owner, group)


def held(client: ClientData) -> list[int]:
    return [
        *client.train_x.ravel().astype(int).tolist(),
        *client.test_x.ravel().astype(int).tolist(),
    ]


@given(
    st.integers(1, 200), st.sampled_from(KINDS), st.integers(0, 5),
    st.sampled_from([1e-9, 0.5, 1e9]), st.sampled_from([0.01, 0.25, 0.99]), st.integers(1, 5),
    st.integers(0, 40),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_every_sample_goes_to_exactly_one_client(
    clients: int, kind: str, seed: int, alpha: float, test_share: float, shards: int, groups: int
) -> None:
    dataset = numbered(1000, owners=min(clients, 9), groups=groups)
    how = plan(clients, kind, seed, alpha, test_share=test_share, shards=shards)
    parts = partition(dataset, how)
    assert len(parts) == clients
    assert sorted(sample for client in parts for sample in held(client)) == list(range(1000))
    assert all(len(c.train_y) and len(c.test_y) for c in parts)
    # A group of one owner is never on both sides, unless it is all that a client has.
    if dataset.group is not None:
        for client in parts:
            train, test = (
                set(dataset.group[x.ravel().astype(int)]) for x in (client.train_x, client.test_x)
            )
            assert not train & test or len(train | test) == 1


@given(st.integers(1, 60), st.integers(0, 5), st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_a_client_draws_its_shards_of_nearly_one_label_each(
    clients: int, seed: int, shards: int
) -> None:
    parts = partition(numbered(1000), plan(clients, "shards", seed, shards=shards))
    for client in parts:
        labels = np.concatenate([client.train_y, client.test_y])
        # A shard lies on few labels: as many as its length spans of 7 labels sorted, and one more.
        span = -(-7 // (clients * shards)) + 1
        assert len(set(labels.tolist())) <= shards * span
        assert abs(len(labels) - 1000 / clients) <= shards


def test_quantity_skew_differs_in_amount_and_not_in_labels(digits: Dataset) -> None:
    sizes = {
        alpha: [len(held(c)) for c in partition(digits, plan(20, "quantity", alpha=alpha))]
        for alpha in (0.3, 1000.0)
    }
    assert sum(sizes[0.3]) == sum(sizes[1000.0]) == 64 * 1797
    assert np.std(sizes[0.3]) > 5 * np.std(sizes[1000.0])
    largest = max(partition(digits, plan(20, "quantity", alpha=0.3)), key=lambda c: len(c.train_y))
    counts = np.bincount(largest.train_y, minlength=10)
    assert counts.max() < 2 * counts.mean()


def test_digits_are_skewed_and_split_into_train_and_test(digits: Dataset) -> None:
    parts = partition(digits, plan())
    assert len(parts) == 100
    assert sum(len(c.train_y) + len(c.test_y) for c in parts) == 1797
    favourite = [np.bincount(c.train_y, minlength=10).max() / len(c.train_y) for c in parts]
    even = partition(digits, plan(kind="iid"))
    balanced = [np.bincount(c.train_y, minlength=10).max() / len(c.train_y) for c in even]
    assert np.mean(favourite) > 1.3 * np.mean(balanced)


def test_the_same_seed_deals_the_same(digits: Dataset) -> None:
    a, b, c = (partition(digits, plan(seed=seed)) for seed in (1, 1, 2))
    assert all((x.train_y == y.train_y).all() for x, y in zip(a, b, strict=True))
    assert any(len(x.train_y) != len(y.train_y) for x, y in zip(a, c, strict=True))


def test_natural_owners_decide_where_there_are_some() -> None:
    parts = partition(numbered(21, owners=2), plan(2))
    assert [len(held(client)) for client in parts] == [11, 10]
    assert parts.description == "naturally: each owner is a client"
    # Unless the study says otherwise.
    mixed = partition(numbered(1000, owners=2), plan(2, "iid"))
    assert all(min(held(client)) < 100 and max(held(client)) > 900 for client in mixed)
    with pytest.raises(DataError, match="has no owners of samples"):
        partition(numbered(20), plan(2, "natural"))
    with pytest.raises(DataError, match=r"5 owners: set fleet\.clients = 5 or more"):
        partition(numbered(20, owners=5), plan(3))


@given(st.integers(1, 12), st.integers(0, 30), st.integers(0, 20))
@settings(max_examples=40, deadline=None)
def test_owners_are_split_where_there_are_more_clients(owners: int, more: int, groups: int) -> None:
    dataset = numbered(1000, owners, groups)
    parts = partition(dataset, plan(owners + more))
    assert dataset.owner is not None
    of = [set(dataset.owner[held(client)].tolist()) for client in parts]
    assert all(len(names) == 1 for names in of)
    pieces = Counter(min(names) for names in of)
    assert max(pieces.values()) - min(pieces.values()) <= 1
    if dataset.group is not None and groups >= max(pieces.values()):
        for owner in range(owners):
            seen = [
                set(dataset.group[held(client)].tolist())
                for client, names in zip(parts, of, strict=True)
                if names == {owner}
            ]
            assert sum(map(len, seen)) == len(set().union(*seen))
    if more:
        assert f"more clients than the {owners} owners" in parts.description


def test_an_owner_with_too_few_samples_is_not_split() -> None:
    dataset = Dataset(
        np.zeros((22, 1), np.float32), np.zeros(22, np.int32), np.repeat([3, 8], [19, 3])
    )
    assert len(partition(dataset, plan(3))) == 3
    with pytest.raises(
        DataError, match=r"owner 8 has too few samples \(3\) for 2 of fleet\.clients = 4"
    ):
        partition(dataset, plan(4))


def test_what_the_data_sets_aside_is_what_a_client_tests_on() -> None:
    aside = np.arange(1000) % 10 == 0
    dataset = replace(numbered(1000), test=aside)
    for client in partition(dataset, plan(20, "iid")):
        assert aside[client.test_x.ravel().astype(int)].all()
        assert not aside[client.train_x.ravel().astype(int)].any()


def test_a_client_that_was_let_go_is_made_again_the_same() -> None:
    wide = Dataset(
        np.random.default_rng(0).random((100, 2**18), np.float32), np.zeros(100, np.int32), None
    )
    parts = partition(wide, plan(50, "iid"))
    first = [client.train_x.copy() for client in parts]
    assert all(np.array_equal(a, b.train_x) for a, b in zip(first, parts, strict=True))
    assert len(parts[-2:]) == 2
    assert parts[-1] is parts[49]
    with pytest.raises(IndexError):
        parts[50]


def test_too_many_clients_are_refused(digits: Dataset) -> None:
    for kind in KINDS[1:]:
        with pytest.raises(DataError, match="too many for 1797 samples"):
            partition(digits, plan(1000, kind))
    with pytest.raises(DataError, match="shards = 20 for 100 clients makes 2000 shards of 1797"):
        partition(digits, plan(100, "shards", shards=20))


@given(st.integers(1, 300), st.integers(0, 10))
def test_device_shares_are_kept_to_within_one_client(clients: int, seed: int) -> None:
    counts = Counter(assign_devices(DEVICES, clients, seed))
    assert sum(counts.values()) == clients
    assert all(abs(counts[name] - share * clients) < 1 for name, share in DEVICES.items())


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("digitz", r"task.data = 'digitz' is unknown \(did you mean 'digits'\?\)"),
        ("no_such_module:load", "cannot be imported: there is no module 'no_such_module'"),
        ("math:nothing", "cannot be imported: module 'math' has no 'nothing'"),
        ("math:sqrt", "raised TypeError"),
        ("os:getcwd", r"must return \(x, y, owner\)"),
    ],
)
def test_a_data_set_that_cannot_be_used_is_a_sentence(name: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        load_dataset(name)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(0, 30))
def test_small_shares_are_topped_up_from_the_largest(sizes: list[int], more: int) -> None:
    sizes[-1] += max(2 * len(sizes) - sum(sizes), 0) + more  # enough for all
    ends = np.cumsum([0, *sizes]).tolist()
    shares = [list(range(a, b)) for a, b in pairwise(ends)]
    expected = [list(share) for share in shares]
    for share in expected:
        while len(share) < MIN_SAMPLES:
            share.append(max(expected, key=len).pop())
    found = with_enough(shares)
    assert [part.tolist() for part in found] == [sorted(share) for share in expected]
