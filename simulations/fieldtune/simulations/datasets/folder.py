"""A user's data: a folder with one ``.npz`` file per client.

The files have the format of a device's data (``x``, ``y`` and, for separate test data, ``x_test``,
``y_test``), so that the collected data of a fleet can be simulated unchanged. A ``data.toml``
beside them may name the classes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldtune.client.data.arrays import read_npz
from fieldtune.client.data.description import DESCRIPTION, read_description
from fieldtune.profiles.common.errors import DataError
from fieldtune.simulations.datasets.dataset import Dataset
from fieldtune.simulations.datasets.samples import checked_samples

_TRAIN, _TEST = ("x", "y"), ("x_test", "y_test")
_Part = tuple[NDArray[np.float32], NDArray[np.int32]]


def load_folder(folder: Path) -> Dataset:
    """Load the files of a folder in the order of their names; each file is an owner.

    Raises:
        DataError: there is no file, or a file is damaged or does not match the others; the
            message names it.
    """
    files = sorted(folder.glob("*.npz"))
    if not files:
        raise DataError(f"{folder} contains no .npz file: put one for each client in it")
    parts: list[tuple[Path, bool, _Part]] = []
    for file in files:
        read = _read(file)
        parts += [(file, is_test, part) for is_test, part in zip((False, True), read, strict=False)]
        if len(read) == 1 and len(read[0][1]) == 1:
            raise DataError(f"{file} has a single sample: a client needs at least 2")
    shape = parts[0][2][0].shape[1:]
    for file, _, (x, _) in parts:
        if x.shape[1:] != shape:
            raise DataError(
                f"{file} holds samples of shape {x.shape[1:]}, {files[0].name} of {shape}: all "
                "clients need the same"
            )
    labels, classes = (
        read_description(folder).labels or (),
        max(y.max() for *_, (_, y) in parts) + 1,
    )
    if labels and len(labels) < classes:
        raise DataError(
            f"{folder / DESCRIPTION} names {len(labels)} labels, and the samples have {classes} "
            "classes: name all, in the order of their numbers"
        )
    sizes = [len(y) for _, _, (_, y) in parts]
    is_test = np.repeat([is_test for _, is_test, _ in parts], sizes).astype(bool)
    return Dataset(
        np.concatenate([x for _, _, (x, _) in parts]),
        np.concatenate([y for _, _, (_, y) in parts]),
        np.repeat([file.stem for file, _, _ in parts], sizes),
        test=is_test if is_test.any() else None,
        owner_is="file",
        labels=labels,
    )


def _read(file: Path) -> list[_Part]:
    """The training data and, if the file has them, the test data."""
    arrays = read_npz(file, (*_TRAIN, *_TEST))
    wanted = [_TRAIN, _TEST] if any(name in arrays for name in _TEST) else [_TRAIN]
    for name in (name for names in wanted for name in names if name not in arrays):
        raise DataError(
            f"{file} has no array {name!r}: it needs x and y, and x_test and y_test both or neither"
        )
    return [checked_samples(str(file), arrays[x], arrays[y], (x, y)) for x, y in wanted]
