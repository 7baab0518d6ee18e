"""Converted data sets on disk, so that a worker maps arrays instead of unpacking an archive.

Each entry is a folder of ``.npy`` files below ``$FIELDTUNE_CACHE`` (or ``~/.cache/fieldtune``),
named after the content that it was made from. It is written beside its place and renamed: two
processes may share a cache, and a crash leaves no half entry. All workers share the mapped pages.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fieldtune.server.compiler.cache import default_folder
from fieldtune.simulations.datasets.dataset import Dataset

_ARRAYS = ("x", "y", "owner", "group")


def converted(
    name: str, version: int, sources: Sequence[Path], convert: Callable[[], Dataset]
) -> Dataset:
    """What ``convert`` returns, from the cache where it is there already.

    A cache that cannot be written costs time, not the study: then the arrays stay in memory.

    Args:
        name: of the data set.
        version: of the conversion; a new one makes new entries.
        sources: the files that are converted; their content is part of the entry's name.
        convert: reads them; ``test``, ``owner_is`` and ``group_is`` of its data set are not kept.
    """
    digest = hashlib.blake2b(f"{version}".encode(), digest_size=16)
    for source in sources:
        digest.update(source.read_bytes())
    folder = default_folder() / "datasets" / f"{name}-{digest.hexdigest()}"
    try:
        return _read(folder)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, EOFError):  # damaged: made anew below
        shutil.rmtree(folder, ignore_errors=True)
    dataset = convert()
    try:
        _write(folder, dataset)
        return _read(folder)
    except (OSError, ValueError, EOFError):
        return dataset


def _read(folder: Path) -> Dataset:
    arrays = {
        # Only the samples are large; a map of them costs nothing until they are read.
        name: np.load(folder / f"{name}.npy", mmap_mode="r" if name == "x" else None)
        for name in _ARRAYS
        if name in ("x", "y") or (folder / f"{name}.npy").exists()
    }
    return Dataset(arrays["x"], arrays["y"], arrays.get("owner"), arrays.get("group"))


def _write(folder: Path, dataset: Dataset) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        for name in _ARRAYS:
            array = getattr(dataset, name)
            if array is not None:
                np.save(beside / f"{name}.npy", array, allow_pickle=False)
        beside.rename(folder)
    except OSError:
        shutil.rmtree(beside, ignore_errors=True)
        if not folder.is_dir():  # else another process was first, with the same content
            raise
