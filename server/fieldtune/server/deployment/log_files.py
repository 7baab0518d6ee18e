"""Log files of bounded size: what logrotate calls ``copytruncate``."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

LARGEST_BYTES = 10 * 2**20
KEPT = 2
"""Older files kept of each log: ``NAME.log.1`` is newer than ``NAME.log.2``."""


def rotate(folder: Path, largest_bytes: int = LARGEST_BYTES) -> None:
    """Begin each log of a folder anew that is larger than allowed.

    The programs keep their files open for appending. Lines written between copying and truncating
    are lost. A log that cannot be copied, as on a full disk, is truncated.
    """
    for log in folder.glob("*.log"):
        with suppress(OSError):
            if log.stat().st_size <= largest_bytes:
                continue
            with suppress(OSError):
                for number in range(KEPT, 1, -1):
                    older = log.with_name(f"{log.name}.{number - 1}")
                    if older.exists():
                        older.replace(log.with_name(f"{log.name}.{number}"))
                shutil.copyfile(log, log.with_name(f"{log.name}.1"))
            with log.open("r+b") as opened:
                opened.truncate(0)
