"""The device's cache of artefacts: files named by their SHA-256; the least recently used go."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
from pathlib import Path

_LOG = logging.getLogger(__name__)
_NAME = re.compile(r"[0-9a-f]{64}")
BOUND_MIB = 64.0


class ArtefactFolder:
    """Artefacts in a folder on the device's disk.

    A disk that is full, or that cannot be written, is one line in the log and no more: training
    goes on from memory, and the coordinator sends an artefact again when it is needed again.

    Args:
        folder: made where it is missing; other files in it are left alone.
        bound_mib: what all artefacts in it may take together.
    """

    def __init__(self, folder: Path, bound_mib: float = BOUND_MIB) -> None:
        self._folder, self._bound_bytes = folder, int(bound_mib * 2**20)
        self._trouble = ""

    def read(self, artefact: str) -> bytes | None:
        """The artefact with this SHA-256; None where it is not held or was damaged."""
        file = self._folder / artefact
        try:
            model = file.read_bytes()
        except OSError:
            return None
        if hashlib.sha256(model).hexdigest() != artefact:
            _LOG.warning("%s was damaged: it is dropped and will be sent again", file)
            with contextlib.suppress(OSError):  # a card that fails is mounted again read-only
                file.unlink(missing_ok=True)
            return None
        with contextlib.suppress(OSError):
            os.utime(file)  # the most recently used is dropped last
        return model

    def write(self, artefact: str, model: bytes) -> None:
        """Keep an artefact; others make room for it."""
        if len(model) > self._bound_bytes:
            return
        part = self._folder / f"{artefact}.part"
        try:
            if (self._folder / artefact).exists():
                return
            self._folder.mkdir(parents=True, exist_ok=True)
            self._make_room(len(model))
            part.write_bytes(model)
            part.rename(self._folder / artefact)
            self._trouble = ""
        except OSError as failed:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            if (said := failed.strerror or str(failed)) != self._trouble:
                self._trouble = said
                _LOG.warning(
                    "%s: an artefact cannot be kept: %s; training goes on from memory",
                    self._folder, said,
                )  # fmt: skip

    def _make_room(self, size: int) -> None:
        held = []
        for file in self._folder.iterdir():
            if _NAME.fullmatch(file.name):
                about = file.stat()
                held.append((about.st_mtime_ns, about.st_size, file))
            elif _NAME.fullmatch(file.stem) and file.suffix == ".part":
                file.unlink(missing_ok=True)  # a process was killed while it wrote it
        taken = sum(size for _, size, _ in held)
        for _, freed, file in sorted(held):
            if taken + size <= self._bound_bytes:
                break
            file.unlink(missing_ok=True)
            taken -= freed
