"""What the devices last said of themselves, kept in the coordinator's folder."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from fieldtune.client.contract.deployment import StatusReport
from fieldtune.profiles.common.files import locked, write_atomically, writing

FILE = "status.json"


class Seen(BaseModel):
    """A device's last status."""

    model_config = ConfigDict(frozen=True)

    at: float
    """Unix time of it."""
    status: StatusReport


_SEEN = TypeAdapter(dict[str, Seen])


class FleetState:
    """The last status of each device.

    Args:
        folder: of the coordinator.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE

    def read(self) -> dict[str, Seen]:
        """By name; empty where nothing is kept or it cannot be read."""
        try:
            return _SEEN.validate_json(self._file.read_bytes())
        except (OSError, ValidationError):
            return {}

    def keep(self, told: Mapping[str, StatusReport], now: float | None = None) -> None:
        """Replace the status of these devices.

        Raises:
            StorageError: it cannot be written.
        """
        if not told:
            return
        at = time.time() if now is None else now
        with writing(self._file, "try again"), locked(self._file.with_name(f".{FILE}.lock")):
            seen = {**self.read(), **{n: Seen(at=at, status=each) for n, each in told.items()}}
            text = _SEEN.dump_json(seen, indent=1, exclude_none=True)
            write_atomically(self._file, text, mode=0o600)
