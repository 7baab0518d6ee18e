"""Files of a coordinator's folder, which only its owner may read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fieldtune.profiles.common.errors import DeploymentError
from fieldtune.profiles.common.files import write_atomically, writing


def write_private(file: Path, text: str) -> None:
    """Write a file atomically, readable only by its owner from the start.

    Raises:
        StorageError: it cannot be written.
    """
    with writing(file, "try again"):
        write_atomically(file, text, mode=0o600)


def read_private(file: Path, is_valid: Callable[[str], bool], remedy: str) -> str:
    """The text of a file.

    Args:
        file: to read.
        is_valid: whether a text is what the file should hold.
        remedy: what to do where it is not.

    Raises:
        DeploymentError: it cannot be read, or is damaged.
    """
    try:
        text = file.read_text()
        if is_valid(text):
            return text
    except OSError as failed:
        raise DeploymentError(f"{file} cannot be read: {failed.strerror}") from None
    except UnicodeDecodeError:
        pass
    raise DeploymentError(f"{file} is damaged: {remedy}")
