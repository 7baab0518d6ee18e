"""LRU cache of artefacts on the device's disk, as files named by their SHA-256."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
from pathlib import Path

from fieldtune.profiles.common.files import write_atomically

_LOG = logging.getLogger(__name__)
_NAME = re.compile(r"[0-9a-f]{64}")
_PART = re.compile(rf"\.?{_NAME.pattern}(\.\w+)?\.part")
MAX_MIB = 64.0


class ArtefactFolder:
    """Artefacts in a folder on the device's disk.

    If the disk is full or read-only, this is logged once and ignored: training continues from
    memory, and the coordinator sends the artefact again when needed.

    Args:
        folder: created if missing; other files in it are not touched.
        max_mib: maximum total size of the artefacts.
    """

    def __init__(self, folder: Path, max_mib: float = MAX_MIB) -> None:
        self._folder, self._max_bytes = folder, int(max_mib * 2**20)
        self._last_error = ""

    def read(self, artefact: str) -> bytes | None:
        """The artefact with this SHA-256; None if it is not cached or is damaged."""
        file = self._folder / artefact
        try:
            model = file.read_bytes()
        except OSError:
            return None
        if hashlib.sha256(model).hexdigest() != artefact:
            _LOG.warning("%s was damaged: it is deleted and will be sent again", file)
            with contextlib.suppress(OSError):  # a failing SD card is remounted read-only
                file.unlink(missing_ok=True)
            return None
        with contextlib.suppress(OSError):
            os.utime(file)  # marks it as the most recently used
        return model

    def write(self, artefact: str, model: bytes) -> None:
        """Store an artefact; evicts the least recently used ones if needed."""
        if len(model) > self._max_bytes:
            return
        try:
            if (self._folder / artefact).exists():
                return
            self._folder.mkdir(parents=True, exist_ok=True)
            self._make_room(len(model))
            # Damage from a power cut is detected on reading; the artefact is then sent again.
            write_atomically(self._folder / artefact, model, durable=False)
            self._last_error = ""
        except OSError as failed:
            if (error := failed.strerror or str(failed)) != self._last_error:
                self._last_error = error
                _LOG.warning(
                    "%s: an artefact cannot be cached: %s; training continues from memory",
                    self._folder, error,
                )  # fmt: skip

    def _make_room(self, size: int) -> None:
        held = []
        for file in self._folder.iterdir():
            if _NAME.fullmatch(file.name):
                about = file.stat()
                held.append((about.st_mtime_ns, about.st_size, file))
            elif _PART.fullmatch(file.name):
                file.unlink(missing_ok=True)  # left behind by a killed process
        taken = sum(size for _, size, _ in held)
        for _, freed, file in sorted(held):
            if taken + size <= self._max_bytes:
                break
            file.unlink(missing_ok=True)
            taken -= freed
