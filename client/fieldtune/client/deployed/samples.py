"""Samples for ``fieldtune client predict``: lines of numbers, arrays or images, one at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.client.data.arrays import read_npz
from fieldtune.client.data.images import SUFFIXES, read_image
from fieldtune.profiles.common.errors import DataError

_PIXEL = np.float32(255)


def samples_of(file: Path, shape: tuple[int, ...]) -> Iterator[NDArray[Any]]:
    """The raw samples in a file.

    Args:
        file: ``.npy`` or ``.npz`` (array ``x``) of one sample or several, an image, or lines of
            numbers as of a ``.csv``.
        shape: of a sample, as the model takes it.

    Raises:
        DataError: the file cannot be read, or holds no samples.
    """
    kind = file.suffix.lower()
    if kind in SUFFIXES:
        yield np.rint(read_image(file) * _PIXEL)
    elif kind in (".npy", ".npz"):
        array = _array(file)
        yield from [array] if array.size == int(np.prod(shape)) else np.atleast_1d(array)
    else:
        try:
            with file.open(encoding="utf-8-sig") as lines:
                yield from lines_of(lines, str(file))
        except OSError as failed:
            raise DataError(f"{file} cannot be read: {failed.strerror}") from None
        except UnicodeDecodeError:
            raise DataError(
                f"{file} is neither text nor .npy, .npz or an image ({', '.join(SUFFIXES)})"
            ) from None


def lines_of(lines: Iterable[str], where: str) -> Iterator[NDArray[Any]]:
    """A sample of each line: numbers with commas or blanks between them.

    A first line of names is skipped.

    Raises:
        DataError: another line has something that is not a number, or there is no sample.
    """
    found = False
    for number, line in enumerate(lines, 1):
        fields = line.split(",") if "," in line else line.split()
        if not fields:
            continue
        try:
            with np.errstate(over="ignore"):  # what is too large for float32 is infinite
                sample = np.array([float(each) for each in fields], np.float32)
        except ValueError:
            if number > 1 or any(map(_is_number, fields)):
                raise DataError(
                    f"{where}, line {number}: not numbers with commas or blanks between them"
                ) from None
        else:
            found = True
            yield sample
    if not found:
        raise DataError(f"{where} has no sample: give a line of numbers for each")


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _array(file: Path) -> NDArray[Any]:
    if file.suffix.lower() == ".npz":
        arrays = read_npz(file, ("x",))
        if not arrays:
            raise DataError(f"{file} has no array x")
        return arrays["x"]
    try:
        with file.open("rb") as opened:
            return np.asarray(np.lib.format.read_array(opened, allow_pickle=False))
    except OSError as failed:
        raise DataError(f"{file} cannot be read: {failed.strerror}") from None
    except Exception:  # NumPy raises almost anything over damaged bytes
        raise DataError(f"{file} is not a .npy file: write it again with numpy.save") from None
