"""Where a device keeps its deployed models: ``current.tflite`` beside ``previous.tflite``.

Each step of a switch is one rename, so whatever happens in between, ``current.tflite`` is the old
model or the new one, once there has been any.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

from fieldtune.client.deployed.package import DamagedError, Package, packed, unpacked
from fieldtune.profiles.common.files import remove_parts, sync_folder, write_atomically

_LOG = logging.getLogger(__name__)
CURRENT, PREVIOUS = "current.tflite", "previous.tflite"
_NEXT, _NUMBER = "next.tflite", "order"


class Slots:
    """The deployed models of one device.

    Args:
        folder: made when the first model is kept; applications only read it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def file(self) -> Path:
        """The model that the device runs."""
        return self.folder / CURRENT

    def current(self) -> Package | None:
        """The model that the device runs; None without one, or where it is damaged."""
        return self._read(CURRENT)

    def previous(self) -> Package | None:
        """The model that it ran before, if that is another one."""
        before, now = self._read(PREVIOUS), self._read(CURRENT)
        return None if before and now and before.card == now.card else before

    def newest_order(self) -> int:
        """Number of the newest order that was followed; 0 before the first."""
        numbers = [0]
        with suppress(OSError, ValueError):
            numbers.append(int((self.folder / _NUMBER).read_text()))
        numbers += [each.order.number for each in (self.current(), self.previous()) if each]
        return max(numbers)

    def accept(self, number: int) -> None:
        """Note, before an order is followed, that earlier ones no longer count.

        Raises:
            OSError: it cannot be written.
        """
        self._write(_NUMBER, f"{number}\n".encode())

    def switch(self, package: Package) -> None:
        """Run this model from now on; the one before becomes the previous one.

        Raises:
            OSError: it cannot be written; the device goes on with the model that it had.
        """
        following = self.folder / _NEXT
        try:
            self._write(_NEXT, packed(package))  # before anything else: the disk may be full
            if (current := self.current()) is not None:
                self._write(PREVIOUS, packed(current))
            following.replace(self.file)
        except BaseException:
            with suppress(OSError):
                following.unlink(missing_ok=True)
            raise
        sync_folder(self.folder)

    def go_back(self) -> Package | None:
        """Run the previous model again; None, and nothing is changed, where there is none.

        Raises:
            OSError: it cannot be written; the device goes on with the model that it had.
        """
        previous = self.previous()
        if previous is not None:
            self._write(CURRENT, packed(previous))
        return previous

    def recover(self) -> None:
        """After a start: remove what a kill has left, and replace a damaged current model."""
        if not self.folder.is_dir():
            return
        remove_parts(self.folder)
        with suppress(OSError):
            (self.folder / _NEXT).unlink(missing_ok=True)
        if self.file.exists() and self.current() is None and (previous := self._read(PREVIOUS)):
            _LOG.warning("%s is damaged: going back to %s", self.file, previous.card.name)
            with suppress(OSError):
                self._write(CURRENT, packed(previous))

    def _read(self, name: str) -> Package | None:
        file = self.folder / name
        try:
            return unpacked(file.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as failed:
            _LOG.warning("%s cannot be read: %s", file, failed.strerror)
            return None
        except DamagedError as damaged:
            _LOG.warning("%s is damaged: %s", file, damaged)
            return None

    def _write(self, name: str, content: bytes) -> None:
        # Applications of other users read the model.
        write_atomically(self.folder / name, content, mode=0o644, parents=True)


def state_folders() -> list[Path]:
    """Where clients of this machine keep deployed models, services first: folders by device."""
    found = [Path("/var/lib/fieldtune"), Path("/var/cache/fieldtune"), user_state()]
    return [each for each in dict.fromkeys(found) if os.access(each, os.R_OK | os.X_OK)]


def user_state() -> Path:
    """The state folder of a user's clients that run in the foreground."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "fieldtune"
