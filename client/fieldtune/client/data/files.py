"""Reading a device's data from a folder or a function; it never leaves the device.

A folder contains files of one kind: ``.npz`` (arrays ``x`` and ``y``), ``.csv`` (a header, one
sample per line) or images (one folder per label). ``docs/device.md`` describes them. An error
message is one sentence that names the file and never includes a sample, because it is sent to the
coordinator.
"""

from __future__ import annotations

import logging
import re
import tomllib
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fieldtune.client.data.arrays import check_arrays, read_npz
from fieldtune.client.data.client_data import ClientData
from fieldtune.client.data.images import SUFFIXES, read_image
from fieldtune.client.data.privacy import Privacy
from fieldtune.profiles.common.errors import DataError, did_you_mean
from fieldtune.profiles.common.load_object import load_object
from fieldtune.profiles.common.toml import from_toml
from fieldtune.profiles.common.validation import first_error

_LOG = logging.getLogger(__name__)
DESCRIPTION = "data.toml"
_Samples = tuple[NDArray[np.float32], NDArray[Any]]


class DataDescription(BaseModel):
    """The content of ``data.toml``, in the data folder or, for a function, the working directory.

    Args:
        classes: number of classes of the whole task, the same on every device.
        labels: names of the classes in the order of their numbers, the same on every device.
        label_column: name of the label column of a ``.csv``; default: the last column.
        shape: shape of one sample of a ``.csv``; default: a flat row.
        test_share: share of the samples used for testing if there is no separate test data.
        privacy: what the device's owner allows the coordinator.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: int | None = Field(default=None, ge=2)
    labels: tuple[str, ...] | None = Field(default=None, min_length=2)
    label_column: str | None = None
    shape: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    test_share: float = Field(default=0.25, gt=0, lt=1)
    privacy: Privacy = Privacy()


class DeviceData:
    """A device's data, read on first use and then kept in memory.

    If reading fails, it is tried again at the next use, so that the data can be fixed while the
    client runs.

    Args:
        where: a folder, or ``package.module:function``.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._data: ClientData | None = None
        self._privacy: Privacy | None = None

    def __call__(self, node_config: Mapping[str, object] | None = None) -> ClientData:
        """The data; raises DataError if it is invalid."""
        if self._data is None:
            self._data = load_device_data(self._where)
        return self._data

    def privacy(self, node_config: Mapping[str, object] | None = None) -> Privacy:
        """What the owner allows; raises DataError if ``data.toml`` is invalid."""
        if self._privacy is None:
            folder = Path(self._where)
            self._privacy = _description(folder if folder.is_dir() else Path()).privacy
        return self._privacy


def load_device_data(where: str) -> ClientData:
    """Read the data of a folder, or call ``package.module:function``.

    Raises:
        DataError: it is missing, empty, damaged or inconsistent.
    """
    if re.fullmatch(r"[\w.]+:\w+", where) and not Path(where).exists():
        return _from_function(where)
    try:
        return _from_folder(where, Path(where))
    except OSError as failed:
        raise DataError(
            f"{failed.filename or where} cannot be read: {failed.strerror}; check its permissions"
        ) from None
    except (MemoryError, RecursionError):
        raise DataError(f"{where} does not fit into memory: give this device less data") from None


def _from_folder(where: str, folder: Path) -> ClientData:
    if not folder.is_dir():
        raise DataError(
            f"the data folder {where} does not exist: give a folder, or package.module:function"
        )
    about = _description(folder)
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        train, test = _read_part(folder / "train", about), _read_part(folder / "test", about)
    else:
        train, test = _read_split(folder, about)
    return _client_data(where, train, test, about)


def _description(folder: Path) -> DataDescription:
    file = folder / DESCRIPTION
    if not file.exists():
        return DataDescription()
    try:
        return DataDescription.model_validate(from_toml(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as failed:
        raise DataError(f"{file} cannot be read: {failed}") from None
    except ValidationError as wrong:
        raise DataError(f"{file}: {first_error(wrong, DataDescription, quotes=False)}") from None


def _read_split(folder: Path, about: DataDescription) -> tuple[_Samples, _Samples]:
    """Training and test data; ``.npz`` files may contain the test data themselves."""
    if files := sorted(folder.glob("*.npz")):
        _check_one_kind(folder)
        tests = [_npz(file, "x_test", "y_test") for file in files if _has_test(file)]
        if tests:
            return _joined(folder, [_npz(file) for file in files]), _joined(folder, tests)
    return _split(_read_part(folder, about), about.test_share)


def _read_part(folder: Path, about: DataDescription) -> _Samples:
    kind = _check_one_kind(folder)
    if kind == "npz":
        return _joined(folder, [_npz(file) for file in sorted(folder.glob("*.npz"))])
    if kind == "csv":
        return _joined(folder, [_csv(file, about) for file in sorted(folder.glob("*.csv"))])
    return _images(folder)


def _check_one_kind(folder: Path) -> str:
    kinds = [kind for kind in ("npz", "csv") if any(folder.glob(f"*.{kind}"))]
    if any(each.is_dir() and each.name not in ("train", "test") for each in folder.iterdir()):
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


def _joined(folder: Path, parts: Sequence[_Samples]) -> _Samples:
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


def _npz(file: Path, x_name: str = "x", y_name: str = "y") -> _Samples:
    arrays = read_npz(file, (x_name, y_name))
    if len(arrays) < 2:
        raise DataError(f"{file} must hold the arrays {x_name} and {y_name}")
    return _samples(str(file), arrays[x_name], arrays[y_name], (x_name, y_name))


def _samples(
    where: str, x: NDArray[Any], y: NDArray[Any], names: tuple[str, str] = ("x", "y")
) -> _Samples:
    samples = check_arrays(where, x, y, names)
    if y.dtype.kind not in "biufUSO":
        raise DataError(f"{where}: y holds {y.dtype}, not labels: number the classes 0, 1, 2, ...")
    return samples, y


def _csv(file: Path, about: DataDescription) -> _Samples:
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


def _images(folder: Path) -> _Samples:
    images: list[NDArray[np.float32]] = []
    names: list[str] = []
    for label in sorted(each for each in folder.iterdir() if each.is_dir()):
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


def _split(samples: _Samples, test_share: float) -> tuple[_Samples, _Samples]:
    """A deterministic split with at least one sample on either side."""
    x, y = samples
    if len(y) < 2:
        raise DataError(
            f"the data has {len(y)} samples: at least 2 are needed, one of them for testing"
        )
    order = np.random.default_rng(0).permutation(len(y))
    tests = min(max(round(test_share * len(y)), 1), len(y) - 1)
    test, train = np.sort(order[:tests]), np.sort(order[tests:])
    return (x[train], y[train]), (x[test], y[test])


def _client_data(where: str, train: _Samples, test: _Samples, about: DataDescription) -> ClientData:
    if not len(train[1]):
        raise DataError(f"{where} has no training samples: provide at least one")
    if about.labels is not None and about.classes not in (None, len(about.labels)):
        raise DataError(
            f"{DESCRIPTION}: classes = {about.classes}, but there are {len(about.labels)} labels"
        )
    train_y, test_y = _numbers(train[1], about.labels), _numbers(test[1], about.labels)
    classes = about.classes or (about.labels and len(about.labels))
    if not classes:
        classes = max(2, 1 + max(int(part.max()) for part in (train_y, test_y) if len(part)))
        _LOG.info("found %d classes in the labels; %s can set the number", classes, DESCRIPTION)
    return ClientData(train[0], train_y, test[0], test_y, classes=classes)


def _numbers(y: NDArray[Any], labels: tuple[str, ...] | None) -> NDArray[np.int32]:
    """Labels as class numbers."""
    if labels is not None and y.dtype.kind in "US":
        number = {name: index for index, name in enumerate(labels)}
        unknown = sorted({str(name) for name in y} - number.keys())
        if unknown:
            _LOG.warning("unknown labels: %s", ", ".join(unknown[:10]))
            raise DataError(
                f"{sum(str(name) in set(unknown) for name in y)} of {len(y)} samples have a label "
                f"that is not among the {len(labels)} labels of {DESCRIPTION}"
            )
        return np.array([number[str(name)] for name in y], np.int32)
    try:
        numbers = y.astype(np.float64)
    except (TypeError, ValueError):
        raise DataError(
            f"the labels are names: list them in order in {DESCRIPTION}, labels = [...], the same "
            "on every device"
        ) from None
    if len(y) and (not np.isfinite(numbers).all() or (numbers != np.round(numbers)).any()):
        raise DataError("the labels are not whole numbers: number the classes 0, 1, 2, ...")
    if len(y) and np.abs(numbers).max() >= 2**31:
        raise DataError("the labels are too large: number the classes 0, 1, 2, ...")
    return numbers.astype(np.int32)


def _from_function(where: str) -> ClientData:
    function: Callable[[], Any] = load_object(
        where, setting="--data", error=DataError, quotes=False
    )
    try:
        returned = function()
    except DataError:
        raise
    except Exception as failed:  # a user's function may raise anything
        raise DataError(f"{where} raised {type(failed).__name__}") from failed
    if isinstance(returned, ClientData):
        return returned
    about = _description(Path.cwd())
    return _client_data(where, *_returned(where, returned, about.test_share), about)


def _returned(where: str, returned: Any, test_share: float) -> tuple[_Samples, _Samples]:
    """Training and test data from a function's ``(x, y)``, ``(x, y, owner)`` or 4-tuple.

    ``(x, y, owner)`` is what the function of a study returns; the 4-tuple is
    ``(x, y, x_test, y_test)``.
    """
    if not isinstance(returned, tuple) or len(returned) not in (2, 3, 4):
        raise DataError(f"{where} must return (x, y), (x, y, x_test, y_test) or a ClientData")
    try:
        arrays = [np.asarray(each) for each in returned]
    except (TypeError, ValueError):
        raise DataError(
            f"{where} returned something that is not an array: give all samples the same shape"
        ) from None
    train = _samples(where, arrays[0], arrays[1])
    if len(arrays) == 4:
        return train, _samples(where, arrays[2], arrays[3])
    return _split(train, test_share)


def summary(data: ClientData) -> str:
    """A short description of the data."""
    shape = "x".join(map(str, data.input_shape))
    return (
        f"{len(data.train_y)} training and {len(data.test_y)} test samples of shape {shape}, "
        f"{data.classes} classes"
    )
