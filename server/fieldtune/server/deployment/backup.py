"""Backup of a coordinator's folder as one file, and its restoration on this or another machine.

A backup has what cannot be made again: settings, keys and certificates, enrolled devices, bundles
that were not copied yet, refused reports, rollouts and the devices' last status. SuperLink's
database and logs are not in it: a new database is filled from ``devices/`` at the next start, and
studies resume from their run folders.
"""

from __future__ import annotations

import gzip
import io
import posixpath
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO

from fieldtune.profiles.common.errors import DeploymentError, FieldtuneError
from fieldtune.profiles.common.files import write_atomically, writing
from fieldtune.profiles.common.text import printable
from fieldtune.server.deployment.folder import CoordinatorFolder

_LEFT_OUT = ("logs", "flwr")
_LARGEST_MIB, _MOST_FILES = 1024, 100_000


def back_up(folder: CoordinatorFolder, file: Path) -> int:
    """Write the backup, readable only by its owner; the coordinator may be running.

    Returns:
        The number of devices in it.

    Raises:
        DeploymentError: the folder cannot be read.
        StorageError: the file cannot be written.
    """
    packed = io.BytesIO()
    with folder.unchanged(), _archive(packed) as archive:
        for path in sorted(folder.path.rglob("*")):
            name = path.relative_to(folder.path)
            if _is_kept(name) and path.is_file():
                try:
                    archive.add(path, str(name), recursive=False)
                except OSError as failed:
                    raise DeploymentError(
                        f"{path} cannot be read ({failed.strerror}): nothing is backed up"
                    ) from None
        devices = len(folder.devices())
    with writing(file, "try again"):
        write_atomically(file, packed.getvalue(), mode=0o600)
    return devices


def restore(file: Path, path: Path) -> CoordinatorFolder:
    """Make a coordinator's folder from a backup.

    Args:
        file: the backup.
        path: the folder to make; it may exist if it is empty.

    Raises:
        DeploymentError: the file is not a backup, or the folder is not empty.
        StorageError: the folder cannot be written.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise DeploymentError(f"{path} is not empty: restore into a new folder")
    try:
        with _unpacked(file) as content, tarfile.open(fileobj=content, mode="r:") as archive:
            members = list(islice(archive, _MOST_FILES + 1))
            names = {member.name for member in members if _is_file(member)}
            # A backup has no folders, links or devices. Nothing but files is written, each within
            # the folder and owned by whoever restores it.
            if (
                "coordinator.toml" not in names
                or len(names) < len(members)
                or len(members) > _MOST_FILES
            ):
                raise DeploymentError(f"{file} is not a backup of a coordinator's folder")
            with writing(path, "try again"):
                try:
                    path.mkdir(mode=0o700, parents=True, exist_ok=True)
                    path.chmod(0o700)
                    for name in ("devices", "bundles", "logs", "flwr"):
                        (path / name).mkdir(mode=0o700, exist_ok=True)
                    archive.extractall(path, members, filter="data")
                    return _whole(CoordinatorFolder(path))
                except BaseException:
                    shutil.rmtree(path, ignore_errors=True)  # so that it can be tried again
                    raise
    except FileNotFoundError:
        raise DeploymentError(f"{file} does not exist") from None
    except FieldtuneError:
        raise
    except Exception as failed:  # tarfile and gzip raise almost anything over damaged bytes
        if isinstance(failed, OSError) and failed.errno:
            raise DeploymentError(f"{file} cannot be read: {failed.strerror}") from None
        raise DeploymentError(
            f"{file} is not a backup, or damaged: {printable(str(failed), 200)}"
        ) from None


def _archive(packed: io.BytesIO) -> tarfile.TarFile:
    """An archive to write; of a link, such as one to a certificate elsewhere, it has the file."""
    return tarfile.open(fileobj=packed, mode="w:gz", dereference=True)


@contextmanager
def _unpacked(file: Path) -> Iterator[IO[bytes]]:
    """The archive in a backup: all of it is read, since gzip compares its check sum at the end.

    Raises:
        DeploymentError: it is far larger than a backup.
    """
    with gzip.open(file) as packed, tempfile.TemporaryFile() as content:
        while part := packed.read(2**20):
            content.write(part)
            if content.tell() > _LARGEST_MIB * 2**20:
                raise DeploymentError(
                    f"{file} unpacks to more than {_LARGEST_MIB} MiB: it is not a backup of a "
                    "coordinator's folder"
                )
        content.seek(0)
        yield content


def _whole(folder: CoordinatorFolder) -> CoordinatorFolder:
    """The folder, once keys, certificates and devices can be read.

    Raises:
        DeploymentError: one is missing or damaged.
    """
    for read in (
        lambda: folder.ca_certificate,
        lambda: folder.authority_key,
        lambda: folder.server_certificate,
        lambda: folder.executor_key,
        folder.devices,
    ):
        read()
    return folder


def _is_file(member: tarfile.TarInfo) -> bool:
    """Whether a backup may have it; a sparse file can be far larger than the archive."""
    name = Path(posixpath.normpath(member.name).lstrip("/"))
    return member.isfile() and not member.issparse() and not _is_superlinks(name)


def _is_kept(name: Path) -> bool:
    return not _is_superlinks(name) and not name.name.endswith((".lock", ".part"))


def _is_superlinks(name: Path) -> bool:
    top = name.parts[0]
    return top in _LEFT_OUT or top.startswith("superlink.db")
