"""A folder of files, one a client, as the data of a study."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fieldtune.profiles.common.errors import DataError
from fieldtune.simulations.datasets import load_dataset, locate_dataset
from fieldtune.simulations.fleet.plan import FleetPlan
from fieldtune.simulations.partition.partition import partition
from support.commandline import Command

STUDY = """
[study]
name = "gathered"
trials = 1
rounds = 3
objectives = ["error"]
[task]
data = "files"
model = "logistic"
variants = ["fp32"]
[fleet]
clients = 3
devices = { "raspberry-pi-5" = 1.0 }
[space.client]
learning_rate = { low = 0.1, high = 1.0, log = true }
local_epochs = { choices = [10] }
[space.server]
clients_per_round = { choices = [3] }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three clients that tell two blobs apart; bob sets his test part aside."""
    rng = np.random.default_rng(0)
    (tmp_path / "files").mkdir()
    for name in ("ann", "bob", "cid"):
        y = np.arange(40) % 2
        x = rng.normal(0, 0.3, (40, 3)) + y[:, None]
        if name == "bob":
            arrays = {"x": x[:30], "y": y[:30], "x_test": x[30:], "y_test": y[30:]}
        else:
            arrays = {"x": x, "y": y}
        np.savez(tmp_path / f"files/{name}.npz", **arrays)
    return tmp_path / "files"


def test_each_file_is_a_client_with_its_own_test_part(folder: Path) -> None:
    dataset = load_dataset(str(folder))
    plan = FleetPlan(str(folder), None, 0.5, 0.5, 3, {"raspberry-pi-5": 1.0}, 0)
    parts = partition(dataset, plan)
    assert parts.description == "naturally: each file is a client"
    assert [(len(c.train_y), len(c.test_y)) for c in parts] == [(20, 20), (30, 10), (20, 20)]
    with np.load(folder / "bob.npz") as bob:
        assert np.array_equal(parts[1].test_x, bob["x_test"].astype(np.float32))
        assert np.array_equal(parts[1].train_y, bob["y"])


def test_a_folder_is_found_from_the_study_file_and_not_before_a_built_in_name(
    folder: Path,
) -> None:
    assert locate_dataset("files", folder.parent) == str(folder)
    assert locate_dataset("../files", folder) == str(folder)
    (folder / "digits").mkdir()
    assert locate_dataset("digits", folder) == "digits"
    assert locate_dataset("elsewhere", folder) == "elsewhere"


x, y = np.zeros((4, 3)), np.zeros(4, int)


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"y": y}, "has no array 'x': it needs x and y"),
        ({"x": x, "y": y, "y_test": y}, "has no array 'x_test'"),
        ({"x": x, "y": y[:3]}, r"x has shape \(4, 3\) and y \(3,\): one row of x and one label"),
        ({"x": x[:0], "y": y[:0]}, "at least one sample"),
        ({"x": x[:1], "y": y[:1]}, "has a single sample: a client needs at least 2"),
        ({"x": x[:, 0], "y": y}, r"x has shape \(4,\) and y \(4,\)"),
        ({"x": x[:, :2], "y": y}, r"samples of shape \(2,\), ann.npz of \(3,\): all clients"),
        ({"x": x, "y": y, "x_test": x[:, :2], "y_test": y}, r"samples of shape \(2,\)"),
        ({"x": x * np.nan, "y": y}, "x holds values that are not finite"),
        ({"x": x + 1j, "y": y}, "x holds complex128, not numbers: give it as int"),
        ({"x": x, "y": y - 1}, "y goes from -1 to -1: number the classes 0, 1, 2"),
        ({"x": x, "y": y + 10**9}, "y goes from 1000000000 to 1000000000"),
        ({"x": x, "y": y + 0.5}, "y holds float64: number the classes 0, 1, 2"),
        ({"x": x, "y": np.array(list("abcd"))}, "y holds <U1: number the classes"),
        ({"x": x.astype(object), "y": y}, "is not a .npz file of plain arrays"),
        ({"x": x, "y": y[:, None]}, r"y is a column, .*: flatten it with y.ravel\(\)"),
        ({"x": x, "y": np.eye(4)}, r"y is a table of 4 columns, .*: where they are one-hot, use y"),
        ({"x": x + 1e300, "y": y}, "x holds values that are not finite: remove or replace"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(
    arrays: dict[str, np.ndarray], sentence: str, folder: Path
) -> None:
    np.savez(folder / "dan.npz", **arrays)
    with pytest.raises(DataError, match=sentence) as refused:
        load_dataset(str(folder))
    assert str(folder / "dan.npz") in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"text", b"\x93NUMPY"])
def test_a_damaged_file_is_named(content: bytes, folder: Path) -> None:
    (folder / "dan.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"dan\.npz is not a \.npz file of plain arrays"):
        load_dataset(str(folder))


def test_a_lone_array_or_no_file_at_all_is_refused(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", x)
    (tmp_path / "array.npy").rename(folder / "dan.npz")
    with pytest.raises(DataError, match=r"dan\.npz is not a \.npz file of plain arrays"):
        load_dataset(str(folder))
    with pytest.raises(DataError, match=r"contains no \.npz file: put one for each client in it"):
        load_dataset(str(tmp_path))


@pytest.mark.integration
def test_a_study_runs_on_a_folder_beside_it(folder: Path, fieldtune: Command) -> None:
    study = folder.parent / "gathered.toml"
    study.write_text(STUDY)
    done = fieldtune("tune", study, "--out", folder.parent / "run", "--workers", "1", cwd="/")
    assert done.returncode == 0, done.stderr
    (point,) = json.loads((folder.parent / "run/pareto.json").read_text())["front"]
    assert point["test_samples"] == 30
    assert point["measures"]["error"] < 0.1
    study.write_text(STUDY.replace("clients = 3", "clients = 2").replace("[3]", "[2]"))
    refused = fieldtune("check", study)
    assert refused.returncode == 2
    assert "the data set has 3 files: set fleet.clients = 3 or more" in refused.stderr
