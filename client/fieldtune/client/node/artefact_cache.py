"""The device's cache of artefacts: files named by their SHA-256; the least recently used go."""

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
        try:
            if (self._folder / artefact).exists():
                return
            self._folder.mkdir(parents=True, exist_ok=True)
            self._make_room(len(model))
            # What a power cut damages is noticed when it is read, and sent again.
            write_atomically(self._folder / artefact, model, durable=False)
            self._trouble = ""
        except OSError as failed:
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
            elif _PART.fullmatch(file.name):
                file.unlink(missing_ok=True)  # a process was killed while it wrote it
        taken = sum(size for _, size, _ in held)
        for _, freed, file in sorted(held):
            if taken + size <= self._bound_bytes:
                break
            file.unlink(missing_ok=True)
            taken -= freed
