"""Fashion-MNIST: 70,000 greyscale images of clothes, 28x28 pixels, 10 classes.

Source: Xiao, Rasul and Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine
Learning Algorithms", arXiv 1708.07747 (MIT licence), as Debian packages it. The files are in the
IDX format of MNIST: two zero bytes, the type (8: unsigned byte), the number of dimensions, each
dimension as a big-endian 32-bit number, then the values.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldtune.profiles.common.errors import DataError
from fieldtune.server.compiler.cache import default_folder
from fieldtune.simulations.datasets.cache import load_or_convert
from fieldtune.simulations.datasets.dataset import Dataset

CLOTHES = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
    "ankle boot",
)  # fmt: skip
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
_PARTS = ("train", "t10k")
_UNSIGNED_BYTE = 8


def load_fashion() -> Dataset:
    """``x``: uint8 ``[70000, 28, 28, 1]``; ``y``: int32 ``[70000]``; no natural clients.

    The 60,000 training images come first, then the 10,000 test images.

    Raises:
        DataError: the files are not installed or damaged.
    """
    folders = (DEBIAN_FOLDER, default_folder() / "fashion-mnist")
    for folder in folders:
        files = [
            folder / f"{part}-{what}-ubyte.gz"
            for part in _PARTS
            for what in ("images-idx3", "labels-idx1")
        ]
        if all(file.is_file() for file in files):
            kept = load_or_convert("fashion-mnist", 1, files, partial(read_images, files))
            return replace(kept, labels=CLOTHES)
    raise DataError(
        "The data set 'fashion-mnist' is not installed: apt-get install dataset-fashion-mnist "
        f"(or 'make data'), or put its four -ubyte.gz files in {folders[-1]}"
    )


def read_images(files: list[Path]) -> Dataset:
    """Images and labels from pairs of IDX files.

    Raises:
        DataError: a file is damaged, or images and labels do not match.
    """
    x = np.concatenate([read_idx(file) for file in files[::2]])
    y = np.concatenate([read_idx(file) for file in files[1::2]])
    if x.ndim != 3 or y.shape != x.shape[:1]:
        raise DataError(
            f"{files[0].parent}: images of shape {x.shape} do not match labels of shape "
            f"{y.shape}: install the data set again"
        )
    return Dataset(x[..., None], y.astype(np.int32), owner=None)


def read_idx(file: Path) -> NDArray[np.uint8]:
    """The array of a gzipped IDX file of unsigned bytes.

    Raises:
        DataError: it is not such a file.
    """
    try:
        raw = gzip.decompress(file.read_bytes())
        shape = np.frombuffer(raw, ">u4", count=raw[3], offset=4).astype(np.int64)
        if raw[:3] != bytes([0, 0, _UNSIGNED_BYTE]):
            raise ValueError("it does not start as an IDX file of unsigned bytes")
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)
    except (OSError, EOFError, zlib.error, ValueError, IndexError) as damaged:
        raise DataError(f"{file} is damaged ({damaged}): install the data set again") from None
