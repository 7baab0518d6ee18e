"""Disk cache of converted data sets, so that workers map arrays instead of unpacking an archive.

Each entry is a folder of ``.npy`` files below ``$FIELDTUNE_CACHE`` (or ``~/.cache/fieldtune``),
named by a hash of its sources. It is written to a temporary folder and renamed, so that processes
can share a cache and a crash leaves no incomplete entry. All workers share the mapped pages.
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


def load_or_convert(
    name: str, version: int, sources: Sequence[Path], convert: Callable[[], Dataset]
) -> Dataset:
    """The result of ``convert``, from the cache if available.

    If the cache cannot be written, the arrays stay in memory; this is slower, but not an error.

    Args:
        name: name of the data set.
        version: version of the conversion; changing it invalidates cached entries.
        sources: the files to convert; the entry's name includes a hash of their content.
        convert: reads the files; of the result, samples, labels, owners and groups are cached.
    """
    digest = hashlib.blake2b(f"{version}".encode(), digest_size=16)
    for source in sources:
        digest.update(source.read_bytes())
    folder = default_folder() / "datasets" / f"{name}-{digest.hexdigest()}"
    try:
        return _read(folder)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, EOFError):  # damaged: recreated below
        shutil.rmtree(folder, ignore_errors=True)
    dataset = convert()
    try:
        _write(folder, dataset)
        return _read(folder)
    except (OSError, ValueError, EOFError):
        return dataset


def _read(folder: Path) -> Dataset:
    arrays = {
        # Only the samples are large; memory-mapped, they are read on demand.
        name: np.load(folder / f"{name}.npy", mmap_mode="r" if name == "x" else None)
        for name in _ARRAYS
        if name in ("x", "y") or (folder / f"{name}.npy").exists()
    }
    return Dataset(arrays["x"], arrays["y"], arrays.get("owner"), arrays.get("group"))


def _write(folder: Path, dataset: Dataset) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        for name in _ARRAYS:
            array = getattr(dataset, name)
            if array is not None:
                np.save(temporary / f"{name}.npy", array, allow_pickle=False)
        temporary.rename(folder)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        if not folder.is_dir():  # else another process has written the same content
            raise
