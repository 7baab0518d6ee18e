"""What a user's own function returns as data, checked, and described for ``fieldtune check``."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from fieldtune.profiles.common.errors import DataError
from fieldtune.server.study.data_facts import DataFacts
from fieldtune.simulations.datasets import load_dataset
from fieldtune.simulations.datasets.samples import describe
from fieldtune.simulations.fleet.clients import SimulatedClients
from fieldtune.simulations.fleet.plan import FleetPlan

X, Y = np.arange(24.0).reshape(8, 3), np.arange(8) % 4


@pytest.fixture
def returned(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module whose ``load`` returns its ``value``."""
    module = ModuleType("own_data")
    module.load = lambda: module.value  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own_data", module)
    return module


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ((X, Y * 0, None), "all 8 labels are 0: a classifier needs samples of at least two"),
        ((X, Y + 1, None), "the labels are 1, 2, 3, 4: number the 4 classes 0..3 without gaps"),
        ((X, Y % 3 * 5, None), "labels are 0, 5, 10: number the 3 classes 0..2 without gaps, as "),
        ((X, np.eye(4)[Y], None), "where they are one-hot, use y.argmax(axis=1)"),
        ((X, Y[:, None], None), "y is a column, and one label per sample is needed: flatten it"),
        ((X[:0], Y[:0], None), "x has shape (0, 3) and y (0,): at least one sample is needed"),
        ((X, Y * 1.0, None), "y holds float64: number the classes 0, 1, 2, ..., as with y.astype"),
        ((X, list("abcdabcd"), None), "as with np.unique(y, return_inverse=True)[1]"),
        ((X, Y - 1, None), "y goes from -1 to 2: number the classes 0, 1, 2, ..."),
        ((X.astype(str), Y, None), "x holds <U32, not numbers: give it as int or float"),
        ((X * np.nan, Y, None), "x holds values that are not finite: remove or replace those"),
        (([[1, 2], [3]], Y, None), "not an array: give all samples the same shape"),
        ((X, Y, Y[:3]), "returned 8 samples and an owner of shape (3,)"),
        ((X, Y, np.where(Y > 1, np.nan, Y)), "returned owners that are NaN: name one for each"),
        ((X, Y, [None, *"abcdefg"]), "owners of several types: name all by strings, or all by"),
        ((X, Y), "must return (x, y, owner), where owner may be None"),
        (X, "must return (x, y, owner), where owner may be None"),
    ],
)
def test_data_that_cannot_be_used_are_one_sentence(
    value: Any, sentence: str, returned: ModuleType
) -> None:
    returned.value = value  # type: ignore[attr-defined]
    with pytest.raises(DataError) as refused:
        load_dataset("own_data:load")
    assert str(refused.value).startswith("task.data = 'own_data:load'")
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_study_file_may_name_the_classes(returned: ModuleType) -> None:
    returned.value = X, Y, None  # type: ignore[attr-defined]
    plan = FleetPlan(
        "own_data:load", "iid", 1.0, 0.25, 2, {"raspberry-pi-5": 1.0}, 0, labels=tuple("abcd")
    )
    assert SimulatedClients(FleetPlan.from_json(plan.to_json())).kind()["labels"] == tuple("abcd")
    with pytest.raises(DataError, match=r"task\.labels names 3 classes, and own_data:load has 4"):
        SimulatedClients(replace(plan, labels=tuple("abc")))
    more = replace(plan, labels=tuple("abcde"))  # of the last one, no sample is there
    assert SimulatedClients(more).kind()["labels"] == tuple("abcde")
    unused = replace(plan, labels=tuple("abc"), labelled=False)
    assert SimulatedClients(unused).kind()["classes"] == 4


def test_a_folder_may_name_more_classes_than_its_samples_are_of(tmp_path: Path) -> None:
    for name in ("a", "b"):
        np.savez(tmp_path / f"{name}.npz", x=X, y=Y)
    (tmp_path / "data.toml").write_text('labels = ["a", "b", "c", "d", "e"]')
    plan = FleetPlan(str(tmp_path), "owner", 1.0, 0.25, 2, {"raspberry-pi-5": 1.0}, 0)
    assert SimulatedClients(plan).kind()["labels"] == tuple("abcde")


def test_labels_that_are_not_used_may_be_of_one_class(returned: ModuleType) -> None:
    returned.value = X, Y * 0, None  # type: ignore[attr-defined]
    assert load_dataset("own_data:load", labelled=False).classes == 1


def test_the_facts_tell_data_apart_and_warn_of_large_values(returned: ModuleType) -> None:
    def facts(x: Any, y: Any = Y, owner: Any = None) -> DataFacts:
        returned.value = x, y, owner  # type: ignore[attr-defined]
        described = describe(load_dataset("own_data:load"))
        return DataFacts.of({**described, "partition": "", "partition_sha256": ""})

    same = [facts(X), facts(X.copy())]
    assert same[0] == same[1]
    assert same[0].class_samples == (2, 2, 2, 2)
    assert (same[0].low, same[0].high, same[0].warning) == (0.0, 23.0, None)
    others = [facts(X + 1e-6), facts(X, (Y + 1) % 4), facts(X, Y, list("aabbccdd")), same[0]]
    assert len({each.data_sha256 for each in others}) == 4
    assert str(facts(X * 0 + 3).warning) == (
        "All values of the samples are 3: there is nothing to learn from them"
    )
    assert "from 0 to 230, and training on such" in str(facts(X * 10).warning)
    assert str(facts(X * 10).warning).endswith("divide pixels by 255")
    assert str(facts(X * -20).warning).endswith("scale them, for example to mean 0 and standard "
                                                "deviation 1")  # fmt: skip
