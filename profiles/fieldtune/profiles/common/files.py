"""Atomic writes, file locks, and whether a file has changed."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fieldtune.profiles.common.errors import FieldtuneError, StorageError

_PART = re.compile(r"\..+\.[0-9a-f]{8}\.part")


def readable(path: Path) -> Path:
    """The path, unless there is a device or a pipe, of which the end may never be reached.

    For paths that a file names which somebody else may have made.

    Raises:
        OSError: it is neither a file nor a folder.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "It is neither a file nor a folder", str(path))
    return path


def write_atomically(
    path: Path,
    content: bytes | str,
    *,
    mode: int | None = None,
    parents: bool = False,
    durable: bool = True,
) -> None:
    """Write a file atomically: a reader sees the old content or the new, never a part.

    The content is written to a temporary file in the same folder (``.NAME.<random>.part``), which
    is then renamed to the target. When this returns, the new file survives a power cut.

    Args:
        path: the file.
        content: all of it; a text is encoded as UTF-8.
        mode: permission bits, set before any content is written. None: by the process's umask.
        parents: whether missing parent folders are created.
        durable: False skips fsync, for files that can be recreated: after a power cut the file
            may have its old content or be damaged.

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
        sync_folder(path.parent)


def remove_parts(folder: Path) -> None:
    """Remove temporary files of :func:`write_atomically` that a kill has left below a folder.

    Nobody may be writing there.
    """
    for part in folder.glob("**/.*.part"):
        if _PART.fullmatch(part.name):
            with suppress(OSError):
                part.unlink()


def _make_folder(folder: Path, *, durable: bool) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent, durable=durable)
    folder.mkdir(exist_ok=True)
    if durable:
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Fsync a folder, so that the names of new files survive a power cut."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


@dataclass(frozen=True)
class Stamp:
    """Tells one content of a file from another without reading it."""

    inode: int
    size: int
    changed_ns: int


def stamp(file: Path) -> Stamp | None:
    """The stamp of a file; None where there is none."""
    try:
        about = file.stat()
    except OSError:
        return None
    return Stamp(about.st_ino, about.st_size, about.st_mtime_ns)


@contextmanager
def writing(
    path: Path, remedy: str = "run the same command to go on; finished trials are kept"
) -> Iterator[None]:
    """Turn an OSError into a StorageError whose message ends with the remedy."""
    try:
        yield
    except (FileExistsError, NotADirectoryError):
        raise StorageError(
            f"{path} cannot be written: there is a file where a folder is needed; choose another "
            "folder, or move that file"
        ) from None
    except OSError as failed:
        raise StorageError(
            f"{path} cannot be written ({failed.strerror}): free some disk space or check its "
            f"permissions, then {remedy}"
        ) from failed


@contextmanager
def locked(file: Path, refusal: FieldtuneError | None = None) -> Iterator[None]:
    """Hold the lock of a file (``flock``); it is released at the latest when the process ends.

    Args:
        file: created if missing; its content does not matter.
        refusal: raised if another process holds the lock. None: wait for it.

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
