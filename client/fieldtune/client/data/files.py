"""Reading a device's data from a folder or a function; it never leaves the device.

``docs/device.md`` describes what may be in the folder. An error message is one sentence that never
includes a sample, because it is sent to the coordinator.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.client.data.client_data import PIXELS, ClientData, Scaling
from fieldtune.client.data.description import DESCRIPTION, DataDescription, read_description
from fieldtune.client.data.formats import (
    FRESH,
    Samples,
    checked_samples,
    included_test_part,
    kind_of,
    read_part,
)
from fieldtune.client.data.privacy import Privacy
from fieldtune.profiles.common.errors import DataError
from fieldtune.profiles.common.load_object import load_object

_LOG = logging.getLogger(__name__)


class DeviceData:
    """A device's data, read on first use and then kept in memory.

    If reading fails, it is tried again at the next use, so that the data can be fixed while the
    client runs.

    Args:
        where: a folder, or ``package.module:function``.
        allowed: ``KEY=VALUE`` entries that override those of ``[privacy]``.
    """

    def __init__(self, where: str, allowed: Sequence[str] = ()) -> None:
        self._where, self._allowed = where, allowed
        self._data: ClientData | None = None
        self._privacy: Privacy | None = None

    def __call__(self, node_config: Mapping[str, object] | None = None) -> ClientData:
        """The data; raises DataError if it is invalid."""
        if self._data is None:
            self._data = load_device_data(self._where)
        return self._data

    def fresh(self) -> ClientData | None:
        """The samples in the folder ``fresh`` as they are now (:func:`load_fresh`)."""
        return load_fresh(self._where)

    def fresh_stamp(self) -> tuple[tuple[str, int, int], ...]:
        """Changes when a file in the folder ``fresh`` does, or ``data.toml``; empty without."""
        folder = Path(self._where)
        try:
            fresh = [file for file in sorted((folder / FRESH).rglob("*")) if file.is_file()]
            described = [folder / DESCRIPTION] if (folder / DESCRIPTION).is_file() else []
            files = [(file, file.stat()) for file in (*fresh, *(described if fresh else ()))]
        except OSError:
            return ()
        return tuple((str(file), about.st_size, about.st_mtime_ns) for file, about in files)

    def privacy(self, node_config: Mapping[str, object] | None = None) -> Privacy:
        """What the owner allows.

        Raises:
            DataError: ``data.toml`` is invalid.
            UsageError: an entry of ``allowed`` is.
        """
        if self._privacy is None:
            folder = Path(self._where)
            described = read_description(folder if folder.is_dir() else Path()).privacy
            self._privacy = Privacy.given(self._allowed, described)
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


def load_fresh(where: str) -> ClientData | None:
    """The samples in the folder ``fresh`` beside the data, as training and as test part alike.

    None where there is no such folder, or it is empty.

    Raises:
        DataError: they do not fit ``data.toml``.
    """
    folder = Path(where)
    fresh = folder / FRESH
    if not (fresh.is_dir() and any(fresh.iterdir())):
        return None
    try:
        about = read_description(folder)
        samples = read_part(fresh, about)
        return _client_data(str(fresh), samples, samples, about, _scaling(folder, about))
    except OSError as failed:
        raise DataError(f"{failed.filename or fresh} cannot be read: {failed.strerror}") from None
    except (MemoryError, RecursionError):
        raise DataError(f"{fresh} does not fit into memory: keep fewer samples in it") from None


def _from_folder(where: str, folder: Path) -> ClientData:
    if not folder.is_dir():
        raise DataError(
            f"the data folder {where} does not exist: give a folder, or package.module:function"
        )
    about = read_description(folder)
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        train, test = read_part(folder / "train", about), read_part(folder / "test", about)
    else:
        train, test = _read_split(folder, about)
    return _client_data(where, train, test, about, _scaling(folder, about))


def _scaling(folder: Path, about: DataDescription) -> Scaling:
    """What a raw value is: of images a pixel in 0..255, which is read as 0..1."""
    part = folder / "train" if (folder / "train").is_dir() else folder
    if kind_of(part) != "images":
        return Scaling(about.offset, about.scale)
    if about.offset != 0 or about.scale != 1:
        raise DataError(
            f"{DESCRIPTION} has offset or scale, but images are always read as 0..1: remove them"
        )
    return PIXELS


def _read_split(folder: Path, about: DataDescription) -> tuple[Samples, Samples]:
    """Training and test data; ``.npz`` files may contain the test data themselves."""
    test = included_test_part(folder)
    samples = read_part(folder, about)
    return _split(samples, about.test_share) if test is None else (samples, test)


def _split(samples: Samples, test_share: float) -> tuple[Samples, Samples]:
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


def _client_data(
    where: str, train: Samples, test: Samples, about: DataDescription, scaling: Scaling
) -> ClientData:
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
    if scaling != PIXELS:  # images are read as 0..1 already
        train, test = ((scaling.apply(x), y) for x, y in (train, test))
    return ClientData(
        train[0], train_y, test[0], test_y, classes=classes, labels=about.labels or (),
        scaling=scaling,
    )  # fmt: skip


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
    except (Exception, SystemExit) as failed:  # a user's function may raise anything
        raise DataError(f"{where} raised {type(failed).__name__}") from failed
    if isinstance(returned, ClientData):
        return returned
    about = read_description(Path.cwd())
    train, test = _returned(where, returned, about.test_share)
    return _client_data(where, train, test, about, Scaling(about.offset, about.scale))


def _returned(where: str, returned: Any, test_share: float) -> tuple[Samples, Samples]:
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
    train = checked_samples(where, arrays[0], arrays[1])
    if len(arrays) == 4:
        return train, checked_samples(where, arrays[2], arrays[3])
    return _split(train, test_share)


def summary(data: ClientData) -> str:
    """A short description of the data."""
    shape = "x".join(map(str, data.input_shape))
    return (
        f"{len(data.train_y)} training and {len(data.test_y)} test samples of shape {shape}, "
        f"{data.classes} classes"
    )
