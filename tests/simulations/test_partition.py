"""Dealing samples and devices out to clients."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldtune.profiles.errors import DataError
from fieldtune.simulations.datasets import Dataset, load_dataset
from fieldtune.simulations.fleet import FleetPlan, assign_devices
from fieldtune.simulations.partition import partition

DEVICES = {"raspberry-pi-zero-2w": 0.4, "raspberry-pi-4b": 0.4, "raspberry-pi-5": 0.2}


def plan(
    clients: int = 100, kind: str = "dirichlet", seed: int = 0, alpha: float = 0.5
) -> FleetPlan:
    return FleetPlan("digits", kind, alpha, 0.25, clients, DEVICES, seed)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


@given(
    st.integers(1, 200), st.sampled_from(["dirichlet", "iid"]), st.integers(0, 5),
    st.sampled_from([0.05, 0.5, 100.0]),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_every_sample_goes_to_exactly_one_client(
    clients: int, kind: str, seed: int, alpha: float
) -> None:
    # Each sample is its own number, so that it can be followed.
    x = np.arange(1000, dtype=np.float32).reshape(-1, 1)
    dataset = Dataset(x, (np.arange(1000) % 7).astype(np.int32), None)
    dealt = partition(dataset, plan(clients, kind, seed, alpha))
    seen = np.concatenate([part for c in dealt for part in (c.train_x, c.test_x)])
    assert sorted(seen.ravel().tolist()) == x.ravel().tolist()
    assert all(len(c.train_y) and len(c.test_y) for c in dealt)


def test_digits_are_skewed_and_split_into_train_and_test(digits: Dataset) -> None:
    dealt = partition(digits, plan())
    assert len(dealt) == 100
    assert sum(len(c.train_y) + len(c.test_y) for c in dealt) == 1797
    favourite = [np.bincount(c.train_y, minlength=10).max() / len(c.train_y) for c in dealt]
    even = partition(digits, plan(kind="iid"))
    balanced = [np.bincount(c.train_y, minlength=10).max() / len(c.train_y) for c in even]
    assert np.mean(favourite) > 1.3 * np.mean(balanced)


def test_the_same_seed_deals_the_same(digits: Dataset) -> None:
    a, b, c = (partition(digits, plan(seed=seed)) for seed in (1, 1, 2))
    assert all((x.train_y == y.train_y).all() for x, y in zip(a, b, strict=True))
    assert any(len(x.train_y) != len(y.train_y) for x, y in zip(a, c, strict=True))


def test_natural_owners_decide_where_there_are_some() -> None:
    owner = np.array(["ann", "bob"] * 10)
    dataset = Dataset(np.zeros((20, 1), np.float32), np.zeros(20, np.int32), owner)
    assert [len(c.train_y) + len(c.test_y) for c in partition(dataset, plan(2))] == [10, 10]
    with pytest.raises(DataError, match=r"2 natural clients: set fleet\.clients = 2"):
        partition(dataset, plan(3))


def test_too_many_clients_are_refused(digits: Dataset) -> None:
    with pytest.raises(DataError, match="too many for 1797 samples"):
        partition(digits, plan(1000))


@given(st.integers(1, 300), st.integers(0, 10))
def test_device_shares_are_kept_to_within_one_client(clients: int, seed: int) -> None:
    counts = Counter(assign_devices(DEVICES, clients, seed))
    assert sum(counts.values()) == clients
    assert all(abs(counts[name] - share * clients) < 1 for name, share in DEVICES.items())


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("digitz", "task.data = 'digitz' is not known"),
        ("no_such_module:load", "cannot be imported"),
        ("math:nothing", "cannot be imported"),
        ("math:sqrt", "raised TypeError"),
        ("os:getcwd", r"must return \(x, y, owner\)"),
    ],
)
def test_a_data_set_that_cannot_be_used_is_a_sentence(name: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        load_dataset(name)
