"""Writing a file whole or not at all, and having a file to oneself."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fieldtune.profiles.common.errors import FieldtuneError, StorageError


def write_atomically(
    path: Path,
    content: bytes | str,
    *,
    mode: int | None = None,
    parents: bool = False,
    durable: bool = True,
) -> None:
    """Write a file so that there is the old one or the new one at any time, never half of one.

    The content goes to a file of its own beside the target (``.NAME.<random>.part``), which then
    takes the target's name. When this returns, the new file outlasts a power cut.

    Args:
        path: the file.
        content: all of it; a text is encoded as UTF-8.
        mode: its permission bits from the first byte on; as the process's umask says where None.
        parents: whether folders that are missing are made.
        durable: False spares the waiting for the disk, for what can be made again: after a power
            cut the file may be the old one, or damaged.

    Raises:
        OSError: it cannot be written; the old file is left as it was.
    """
    data = content.encode() if isinstance(content, str) else content
    if parents:
        _make_folder(path.parent, durable=durable)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode)
        with os.fdopen(file, "wb") as out:
            if mode is not None:
                os.fchmod(file, mode)
            out.write(data)
            if durable:
                out.flush()
                os.fsync(file)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    if durable:
        _sync_folder(path.parent)


def _make_folder(folder: Path, *, durable: bool) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent, durable=durable)
    folder.mkdir(exist_ok=True)
    if durable:
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Have the folder's entries on the disk: a new file's name is one."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


@contextmanager
def writing(
    path: Path, remedy: str = "run the same command to go on; finished trials are kept"
) -> Iterator[None]:
    """Turn a failure to write into a StorageError whose sentence ends in the remedy."""
    try:
        yield
    except OSError as failed:
        raise StorageError(
            f"{path} cannot be written ({failed.strerror}): free some disk space or check its "
            f"permissions, then {remedy}"
        ) from failed


@contextmanager
def locked(file: Path, refusal: FieldtuneError | None = None) -> Iterator[None]:
    """Hold the lock of a file (``flock``) while inside; it ends with the process at the latest.

    Args:
        file: made where it is missing; what it holds does not matter.
        refusal: raised where another process holds the lock. None: wait for it.

    Raises:
        OSError: the file cannot be opened.
    """
    with file.open("a") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | (fcntl.LOCK_NB if refusal else 0))
        except BlockingIOError:
            assert refusal is not None
            raise refusal from None
        yield
