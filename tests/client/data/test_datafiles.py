"""A device's own data: what is read from where, and the sentence for what cannot be."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fieldtune.client.data.client_data import ClientData
from fieldtune.client.data.files import DeviceData, load_device_data, summary
from fieldtune.profiles.common.errors import DataError
from support.images import image_bytes

RNG = np.random.default_rng(0)


def npz(file: Path, n: int = 8, **changes: np.ndarray) -> None:
    arrays = {"x": RNG.normal(size=(n, 4, 4, 1)), "y": np.arange(n) % 3}
    np.savez(file, **(arrays | changes))


def test_npz_files_are_joined_and_split_the_same_way_each_time(tmp_path: Path) -> None:
    npz(tmp_path / "a.npz")
    npz(tmp_path / "b.npz")
    (tmp_path / "data.toml").write_text("classes = 5\ntest_share = 0.5")
    data, again = load_device_data(str(tmp_path)), load_device_data(str(tmp_path))
    assert (len(data.train_y), len(data.test_y), data.classes) == (8, 8, 5)
    assert data.input_shape == (4, 4, 1)
    assert data.train_x.dtype == np.float32
    assert (data.test_x == again.test_x).all()
    assert summary(data) == "8 training and 8 test samples of shape 4x4x1, 5 classes"


def test_a_test_part_is_taken_as_it_is_given(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    npz(inside / "a.npz", x_test=np.zeros((2, 4, 4, 1)), y_test=np.array([1, 2]))
    data = load_device_data(str(inside))
    assert (len(data.train_y), data.test_y.tolist()) == (8, [1, 2])
    for part in ("train", "test"):
        (tmp_path / "apart" / part).mkdir(parents=True)
        npz(tmp_path / "apart" / part / "a.npz", n=3)
    data = load_device_data(str(tmp_path / "apart"))
    assert (len(data.train_y), len(data.test_y)) == (3, 3)


def test_a_csv_has_a_header_and_a_label_column(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('kind,"a",b\nwalk,1,2\nrun,3,4.5\nwalk,5,-6e1\n')
    (tmp_path / "data.toml").write_text(
        'labels = ["run", "walk"]\nlabel_column = "kind"\nshape = [2, 1]'
    )
    data = load_device_data(str(tmp_path))
    everything = np.concatenate([data.train_x, data.test_x]).reshape(-1, 2)
    labels = np.concatenate([data.train_y, data.test_y])
    rows = {tuple(row): label for row, label in zip(everything.tolist(), labels, strict=True)}
    assert rows == {(1.0, 2.0): 1, (3.0, 4.5): 0, (5.0, -60.0): 1}
    assert (data.input_shape, data.classes) == ((2, 1), 2)


def test_a_csv_of_one_line_keeps_its_last_column_as_label(tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "a.csv").write_text("a,b,label\n1,2,3\n")
    data = load_device_data(str(tmp_path))
    assert (data.train_x.tolist(), data.train_y.tolist(), data.classes) == ([[1, 2]], [3], 4)


def test_images_lie_in_a_folder_a_label(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for n in range(2):
            pixels = RNG.integers(0, 256, (3, 2, 3), np.uint8)
            (tmp_path / label / f"{n}.png").write_bytes(image_bytes(pixels))
    (tmp_path / "data.toml").write_text('labels = ["dog", "cat", "bird"]')
    data = load_device_data(str(tmp_path))
    assert (data.input_shape, data.classes) == ((3, 2, 3), 3)
    assert sorted(np.concatenate([data.train_y, data.test_y]).tolist()) == [0, 0, 1, 1]


def empty(folder: Path) -> None:
    """Nothing in it."""


def mixed(folder: Path) -> None:
    npz(folder / "a.npz")
    (folder / "a.csv").write_text("a,b\n1,2\n")


def csv(text: str, description: str = "") -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / "a.csv").write_text(text)
        (folder / "data.toml").write_text(description)

    return make


def arrays(description: str = "", **changes: np.ndarray) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        npz(folder / "a.npz", **changes)
        (folder / "data.toml").write_text(description)

    return make


def broken_npz(folder: Path) -> None:
    (folder / "a.npz").write_bytes(b"PK\x03\x04 no")


def npy_called_npz(folder: Path) -> None:
    np.save(folder / "a.npy", np.zeros((8, 2)))
    (folder / "a.npy").rename(folder / "a.npz")


def damaged_npz(folder: Path) -> None:
    """The deflated bytes of its first array are no longer what they were."""
    file = folder / "a.npz"
    np.savez_compressed(file, x=RNG.normal(size=(64, 8)), y=np.arange(64) % 3)
    content = bytearray(file.read_bytes())
    content[200:400] = b"\xff" * 200
    file.write_bytes(content)


def no_samples(folder: Path) -> None:
    x, y = np.zeros((0, 2)), np.zeros(0)
    npz(folder / "a.npz", x=x, y=y, x_test=x, y_test=y)


def image(name: str, content: bytes, description: str = "") -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / "0").mkdir()
        (folder / "0" / name).write_bytes(content)
        (folder / "data.toml").write_text(description)

    return make


def two_sizes(folder: Path) -> None:
    (folder / "0").mkdir()
    for n in (1, 2):
        (folder / "0" / f"{n}.png").write_bytes(image_bytes(np.zeros((n, 2), np.uint8)))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (empty, "contains no data: put .npz"),
        (mixed, "contains npz and csv"),
        (broken_npz, "is not a .npz file of plain arrays"),
        (arrays(y=np.array([object()] * 8)), "is not a .npz file of plain arrays"),
        (npy_called_npz, "a.npz is not a .npz file of plain arrays: write it again"),
        (damaged_npz, "a.npz is not a .npz file of plain arrays: write it again"),
        (arrays(y=np.zeros(8, "datetime64[s]")), "a.npz: y holds datetime64.* number the"),
        (arrays(x=np.zeros((8, 2), "timedelta64[s]")), "a.npz: x holds timedelta64.* not numbers"),
        (no_samples, "has no training samples: provide at least one"),
        (arrays(y=np.arange(7)), "x has shape .8, 4, 4, 1. and y .7,."),
        (arrays(x=np.zeros((8, 0))[:, :0].reshape(8, 0).sum(1)), "one row of x"),
        (arrays(x=np.array([["a"]] * 8)), "not numbers"),
        (arrays(x=np.full((8, 2), np.nan)), "not finite"),
        (arrays("classes = 2"), "labels from 0 to 2 in a task of 2 classes"),
        (arrays(y=np.array([-1] * 8)), "labels from -1"),
        (arrays(y=np.array([0.5] * 8)), "not whole numbers"),
        (arrays(y=np.array([1e12] * 8)), "too large"),
        (arrays(x=np.zeros((0, 4)), y=np.zeros(0, int)), "has 0 samples"),
        (arrays("clases = 2"), "clases is not a known key .did you mean 'classes'"),
        (arrays("classes = 1"), "data.toml: classes: must be greater"),
        (arrays("classes ="), "data.toml cannot be read"),
        (arrays('classes = 3\nlabels = ["a", "b"]'), "classes = 3, but there are 2 labels"),
        (csv("a,b\n1,walk\n2,run\n"), "the labels are names: list them in order"),
        (
            csv("a,b\n1,x\n2,x\n3,x\n", 'labels = ["a", "b"]'),
            "samples have a label that is not among the 2 labels",
        ),
        (csv("a,b\n1,0\nhigh,1\n"), "in line 3, column 1: not a number"),
        (csv("a,b\n1,0\n2\n"), "not a number, or a column is missing"),
        (csv("a\n1\n"), "has one column"),
        (csv("a,b\n1,0\n", 'label_column = "c"'), "has no column 'c'"),
        (csv("a,b\n1,0\n", "shape = [2]"), "has 1 features"),
        (image("a.png", b"\x89PNG\r\n\x1a\nnonsense"), "is damaged or not an image: replace"),
        (image("a.txt", b"x"), "its folders contain no images"),
        (two_sizes, "convert all images to the same size"),
    ],
)
def test_what_cannot_be_used_is_one_sentence_that_quotes_no_sample(
    tmp_path: Path, make: Callable[[Path], None], sentence: str
) -> None:
    make(tmp_path)
    with pytest.raises(DataError, match=sentence) as refused:
        load_device_data(str(tmp_path))
    assert "\n" not in str(refused.value)
    assert "high" not in str(refused.value)


def test_an_image_is_refused_with_what_to_do_where_pillow_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image("a.png", image_bytes(np.zeros((2, 2), np.uint8)))(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(DataError, match=r"pip install 'fieldtune\[images\]'") as refused:
        load_device_data(str(tmp_path))
    assert refused.value.exit_code == 2


def test_a_folder_that_is_not_there_is_named() -> None:
    with pytest.raises(DataError, match="/no/such does not exist"):
        load_device_data("/no/such")


def test_data_can_be_mended_while_the_client_runs(tmp_path: Path) -> None:
    source = DeviceData(str(tmp_path))
    with pytest.raises(DataError):
        source()
    npz(tmp_path / "a.npz")
    data: ClientData = source()
    (tmp_path / "a.npz").unlink()
    assert source() is data


@pytest.mark.parametrize("unreadable", ["", "0", "0/a.png"])
def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, unreadable: str) -> None:
    folder = tmp_path / "data"
    (folder / "0").mkdir(parents=True)
    Image.new("L", (4, 4)).save(folder / "0/a.png")
    Image.new("L", (4, 4)).save(folder / "0/b.png")
    target = folder / unreadable
    for each in takewhile(lambda each: each.stat().st_mode & 0o777 == 0o700, tmp_path.parents):
        each.chmod(0o711)
    tmp_path.chmod(0o711)
    target.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)  # root may read everything
        with pytest.raises(DataError, match="cannot be read") as refused:
            load_device_data(str(folder))
    finally:
        os.seteuid(user)
        target.chmod(0o755)
    assert "\n" not in str(refused.value)


def test_raw_values_are_scaled_as_the_description_says(tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "a.csv").write_text("a,b,label\n1,21,1\n")
    (tmp_path / "data.toml").write_text("offset = 1\nscale = 10\n")
    data = load_device_data(str(tmp_path))
    assert (data.train_x.tolist(), data.test_x.tolist()) == ([[0, 2]], [[0, 2]])
    assert (data.scaling.offset, data.scaling.scale) == (1, 10)


def test_images_are_pixels_of_0_to_255(tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        for name in "xy":
            (tmp_path / label / f"{name}.png").write_bytes(
                image_bytes(np.full((2, 2), 255, np.uint8))
            )
    (tmp_path / "data.toml").write_text('labels = ["a", "b"]')
    data = load_device_data(str(tmp_path))
    assert (data.train_x.max(), data.scaling.scale, data.labels) == (1, 255, ("a", "b"))
    (tmp_path / "data.toml").write_text('labels = ["a", "b"]\nscale = 255')
    with pytest.raises(DataError, match="images are always read as 0"):
        load_device_data(str(tmp_path))


def test_fresh_samples_are_read_anew_and_never_trained_on(tmp_path: Path) -> None:
    npz(tmp_path / "a.npz")
    (tmp_path / "data.toml").write_text("classes = 4\nscale = 2")
    data = DeviceData(str(tmp_path))
    assert data.fresh() is None
    (tmp_path / "fresh").mkdir()
    stamps = {data.fresh_stamp()}
    assert data.fresh() is None
    npz(tmp_path / "fresh/1.npz", n=3, x=np.full((3, 4, 4, 1), 4.0))
    stamps.add(data.fresh_stamp())
    fresh = data.fresh()
    assert fresh is not None
    assert (fresh.test_x.max(), len(fresh.test_y), fresh.classes) == (2, 3, 4)
    assert len(data().train_y) + len(data().test_y) == 8
    npz(tmp_path / "fresh/2.npz", n=5)
    stamps.add(data.fresh_stamp())
    assert len(stamps) == 3
