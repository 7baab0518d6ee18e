"""Arrays of samples and labels: read from ``.npz`` files, and checked.

A message names what is wrong and the remedy, and never includes a sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.profiles.common.errors import DataError


def read_npz(file: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The arrays of these names that a file has.

    Raises:
        DataError: it is not a ``.npz`` file of plain arrays, or damaged.
    """
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
            return {name: np.asarray(archive[name]) for name in names if name in archive.files}
    except Exception as damaged:  # NumPy and zipfile raise almost anything over damaged bytes
        if isinstance(damaged, OSError) and damaged.errno:
            raise DataError(f"{file} cannot be read: {damaged.strerror}") from None
        raise DataError(
            f"{file} is not a .npz file of plain arrays: write it again with numpy.savez"
        ) from None


def check_arrays(
    where: str, x: NDArray[Any], y: NDArray[Any], names: tuple[str, str] = ("x", "y")
) -> NDArray[np.float32]:
    """Samples as float32 ``[n, ...]``, once they are numbers and ``y`` is one label for each.

    Raises:
        DataError: the shapes do not fit, or ``x`` holds no finite numbers.
    """
    samples, labels = names
    if y.ndim == 2 and x.shape[:1] == y.shape[:1]:
        if y.shape[1] == 1:
            what, remedy = "a column", f"flatten it with {labels}.ravel()"
        else:
            what = f"a table of {y.shape[1]} columns"
            remedy = f"where they are one-hot, use {labels}.argmax(axis=1)"
        raise DataError(
            f"{where}: {labels} is {what}, and one label per sample is needed: {remedy}"
        )
    if x.ndim < 2 or y.ndim != 1 or len(x) != len(y):
        raise DataError(
            f"{where}: {samples} has shape {x.shape} and {labels} {y.shape}: one row of {samples} "
            "and one label per sample are needed"
        )
    if x.dtype.kind not in "biuf":
        raise DataError(f"{where}: {samples} holds {x.dtype}, not numbers: give it as int or float")
    with np.errstate(over="ignore"):  # an overflow becomes infinite, which is refused
        converted = x.astype(np.float32)
    if not np.isfinite(converted).all():
        raise DataError(
            f"{where}: {samples} holds values that are not finite: remove or replace those samples"
        )
    return converted
