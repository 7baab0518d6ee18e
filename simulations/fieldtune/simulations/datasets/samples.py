"""Checks of a user's samples and labels, and what ``fieldtune check`` says of them."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.client.data.arrays import check_arrays
from fieldtune.profiles.common.errors import DataError
from fieldtune.simulations.datasets.dataset import Dataset

_MAX_CLASSES = 100_000
"""A larger number indicates that the labels are not class numbers."""
_MOST_SHOWN = 10
"""Labels that a message lists."""


def checked_samples(
    where: str, x: NDArray[Any], y: NDArray[Any], names: tuple[str, str] = ("x", "y")
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Samples as float32 ``[n, ...]`` and labels as int32 ``[n]``.

    Raises:
        DataError: they are not numbers and labels of one shape each, or there is none.
    """
    samples, labels = check_arrays(where, x, y, names), names[1]
    if not samples.size:
        raise DataError(
            f"{where}: {names[0]} has shape {x.shape} and {labels} {y.shape}: at least one sample "
            "is needed"
        )
    if y.dtype.kind not in "iu":
        remedy = ""
        if y.dtype.kind in "fb":
            remedy = f", as with {labels}.astype(int)"
        elif y.dtype.kind in "USO":
            remedy = f", as with np.unique({labels}, return_inverse=True)[1]"
        raise DataError(
            f"{where}: {labels} holds {y.dtype}: number the classes 0, 1, 2, ...{remedy}"
        )
    if y.min() < 0 or y.max() >= _MAX_CLASSES:
        raise DataError(
            f"{where}: {labels} goes from {y.min()} to {y.max()}: number the classes 0, 1, 2, ..."
        )
    return samples, y.astype(np.int32)


def check_labels(where: str, y: NDArray[np.int32]) -> None:
    """Refuse labels that a classifier cannot be trained on.

    Raises:
        DataError: they are of a single class, or a number between them stands for no class.
    """
    numbers = np.unique(y)
    if len(numbers) == 1:
        raise DataError(
            f"{where}: all {len(y)} labels are {numbers[0]}: a classifier needs samples of at "
            "least two classes"
        )
    if len(numbers) <= numbers[-1]:
        shown = ", ".join(map(str, numbers[:_MOST_SHOWN]))
        more = ", ..." if len(numbers) > _MOST_SHOWN else ""
        raise DataError(
            f"{where}: the labels are {shown}{more}: number the {len(numbers)} classes "
            f"0..{len(numbers) - 1} without gaps, as with np.unique(y, return_inverse=True)[1]"
        )


def describe(dataset: Dataset) -> dict[str, Any]:
    """Size, range and SHA-256 of a data set, for :class:`DataFacts`; reads all samples once."""
    digest = hashlib.sha256()
    for array in (dataset.x, dataset.y, dataset.owner, dataset.group, dataset.test):
        if array is None:
            digest.update(b"-")
            continue
        if array.dtype.kind == "O":
            array = array.astype(str)
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data.cast("B"))
    scale = 255 if dataset.x.dtype == np.uint8 else 1
    return {
        "class_samples": np.bincount(dataset.y).tolist(),
        "low": float(dataset.x.min()) / scale,
        "high": float(dataset.x.max()) / scale,
        "data_sha256": digest.hexdigest(),
    }
