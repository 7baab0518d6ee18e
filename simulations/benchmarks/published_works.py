"""Files of the architectures that published tables name, and the work in them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from multiprocessing import get_context
from pathlib import Path

from published_tables import Published

from fieldtune.profiles.costmodel.tflite_reader import TfliteFile
from fieldtune.profiles.costmodel.tflite_work import Work


def _build(task: tuple[str, str, str]) -> str:
    from published_models import rebuilt

    name, precision, path = task
    content = rebuilt(name, precision)
    # A file without content says that the architecture is not known.
    Path(path).write_bytes(content or b"")
    return name


def build(models: Path, wanted: Iterable[tuple[str, str]]) -> None:
    """Build what is not in the folder yet, in a process that is replaced now and then."""
    tasks = [
        (name, precision, str(path))
        for name, precision in dict.fromkeys(wanted)
        if not (path := models / f"{name}.{precision}.tflite").exists()
    ]
    with get_context("spawn").Pool(1, maxtasksperchild=20) as pool:
        for number, name in enumerate(pool.imap(_build, tasks), 1):
            print(f"\rbuilt {number}/{len(tasks)}: {name:50}", end="", file=sys.stderr)


class Works:
    """Work of the models in a folder, each read once."""

    def __init__(self, models: Path) -> None:
        self._models = models
        self._files: dict[str, TfliteFile | None] = {}
        self._works: dict[tuple[str, str], Work] = {}

    def of(self, row: Published) -> Work | None:
        """The work of a row's model with its runtime; None where it could not be rebuilt."""
        if row.file not in self._files:
            path = self._models / f"{row.file}.tflite"
            content = path.read_bytes() if path.exists() else b""
            self._files[row.file] = TfliteFile(content) if content else None
        file = self._files[row.file]
        if file is None:
            return None
        key = row.file, row.runtime
        if key not in self._works:
            self._works[key] = file.work(file.inference_signature, row.runtime)  # type: ignore[arg-type]
        return self._works[key]
