"""The files of a folder as samples: ``.npz``, ``.csv`` or images; of one kind in a folder.

An error message names the file and never includes a sample, because it is sent to the coordinator.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.client.data.arrays import check_arrays, read_npz
from fieldtune.client.data.description import DESCRIPTION, DataDescription
from fieldtune.client.data.images import SUFFIXES, read_image
from fieldtune.profiles.common.errors import DataError, did_you_mean

FRESH = "fresh"
"""The folder beside the data with samples that the owner has labelled since."""

Samples = tuple[NDArray[np.float32], NDArray[Any]]
"""``x`` ``[n, ...]``, and labels ``[n]`` as numbers or names."""


def read_part(folder: Path, about: DataDescription) -> Samples:
    """All samples of a folder, ``x`` ``[n, ...]`` and ``y`` ``[n]``, without test data in them.

    Raises:
        DataError: it holds none, files of several kinds, or a damaged one.
    """
    kind = kind_of(folder)
    if kind == "npz":
        return _joined(folder, [_npz(file) for file in sorted(folder.glob("*.npz"))])
    if kind == "csv":
        return _joined(folder, [_csv(file, about) for file in sorted(folder.glob("*.csv"))])
    return _images(folder)


def included_test_part(folder: Path) -> Samples | None:
    """The test data that ``.npz`` files contain themselves; None where they contain none."""
    files = sorted(folder.glob("*.npz"))
    if not files or kind_of(folder) != "npz":
        return None
    tests = [_npz(file, "x_test", "y_test") for file in files if _has_test(file)]
    return _joined(folder, tests) if tests else None


def kind_of(folder: Path) -> str:
    """``npz``, ``csv`` or ``images``.

    Raises:
        DataError: the folder holds none of them, or several.
    """
    kinds = [kind for kind in ("npz", "csv") if any(folder.glob(f"*.{kind}"))]
    if any(
        each.is_dir() and each.name not in ("train", "test", FRESH) for each in folder.iterdir()
    ):
        kinds.append("images")
    if not kinds:
        raise DataError(
            f"{folder} contains no data: put .npz or .csv files in it, or a folder of images per "
            "label"
        )
    if len(kinds) > 1:
        raise DataError(
            f"{folder} contains {' and '.join(kinds)}: keep only one kind of data in it"
        )
    return kinds[0]


def _joined(folder: Path, parts: Sequence[Samples]) -> Samples:
    shapes = {x.shape[1:] for x, _ in parts}
    if len(shapes) > 1:
        raise DataError(f"{folder}: samples of different shapes: {sorted(shapes)}")
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])


def _has_test(file: Path) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            return "x_test.npy" in archive.namelist()
    except Exception:  # zipfile raises almost anything over damaged bytes
        return False  # reading the training data will report the error


def _npz(file: Path, x_name: str = "x", y_name: str = "y") -> Samples:
    arrays = read_npz(file, (x_name, y_name))
    if len(arrays) < 2:
        raise DataError(f"{file} must hold the arrays {x_name} and {y_name}")
    return checked_samples(str(file), arrays[x_name], arrays[y_name], (x_name, y_name))


def checked_samples(
    where: str, x: NDArray[Any], y: NDArray[Any], names: tuple[str, str] = ("x", "y")
) -> Samples:
    """Arrays as samples and labels.

    Raises:
        DataError: the samples are no finite numbers, or the labels are none.
    """
    samples = check_arrays(where, x, y, names)
    if y.dtype.kind not in "biufUSO":
        raise DataError(f"{where}: y holds {y.dtype}, not labels: number the classes 0, 1, 2, ...")
    return samples, y


def _csv(file: Path, about: DataDescription) -> Samples:
    try:
        with file.open(encoding="utf-8-sig") as lines:
            names = [name.strip().strip('"') for name in lines.readline().split(",")]
    except (OSError, UnicodeDecodeError):
        raise DataError(f"{file} cannot be read as text: write it again as UTF-8") from None
    label = about.label_column or names[-1]
    if label not in names:
        raise DataError(f"{file} has no column {label!r}{did_you_mean(label, names)}")
    at = names.index(label)
    others = [column for column in range(len(names)) if column != at]
    if not others:
        raise DataError(f"{file} has one column: features and a label are needed")
    read: dict[str, Any] = {
        "delimiter": ",", "skiprows": 1, "ndmin": 2, "encoding": "utf-8-sig", "quotechar": '"',
    }  # fmt: skip
    try:
        with warnings.catch_warnings(action="ignore"):  # empty lines, which are skipped
            x = np.loadtxt(file, np.float32, usecols=others, **read)
            y = np.loadtxt(file, np.str_, usecols=[at], **read)[:, 0]
    except OSError as failed:
        raise DataError(f"{file} cannot be read: {failed.strerror}") from None
    except ValueError as failed:
        place = re.search(r"at row (\d+)(?:, column (\d+))?", str(failed))
        row = f" in line {int(place[1]) + 2}" if place else ""
        column = f", column {place[2]}" if place and place[2] else ""
        raise DataError(f"{file}{row}{column}: not a number, or a column is missing") from None
    if about.shape is not None:
        if int(np.prod(about.shape)) != x.shape[1]:
            raise DataError(
                f"{file} has {x.shape[1]} features, {DESCRIPTION} has shape = {list(about.shape)}"
            )
        x = x.reshape(len(x), *about.shape)
    return check_arrays(str(file), x, np.char.strip(y)), np.char.strip(y)


def _images(folder: Path) -> Samples:
    images: list[NDArray[np.float32]] = []
    names: list[str] = []
    for label in sorted(each for each in folder.iterdir() if each.is_dir() and each.name != FRESH):
        for file in sorted(each for each in label.iterdir() if each.suffix.lower() in SUFFIXES):
            images.append(read_image(file))
            names.append(label.name)
            if images[-1].shape != images[0].shape:
                raise DataError(
                    f"{file} has shape {images[-1].shape}, others {images[0].shape}: convert all "
                    "images to the same size and number of channels"
                )
    if not images:
        raise DataError(f"{folder}: its folders contain no images ({', '.join(SUFFIXES)})")
    return np.stack(images), np.array(names)
