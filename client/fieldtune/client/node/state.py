"""Where a client keeps what it must remember: its status, its lock, and what it was working on.

All of it is small and short-lived, so it lies in memory (``/run``) where it can: an SD card wears
out. A service gets its folders from systemd; a client in the foreground uses the user's own.
"""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fieldtune.profiles.common.errors import FleetError, StorageError
from fieldtune.profiles.common.files import locked, write_atomically

SERVICE_RUN = Path("/run/fieldtune")
_VMSTAT = Path("/proc/vmstat")


@dataclass
class Status:
    """How a client stands, for ``fieldtune client status``; it holds nothing secret."""

    name: str
    address: str
    profile: str
    pid: int
    state: str = "connecting"
    """``connecting``, ``connected``, ``working``, or ``stopped``."""
    detail: str = ""
    """What it is at, or why it is not connected."""
    node_id: int | None = None
    answered: int = 0
    refused: int = 0
    """Messages that it could not do, and answered with why."""
    last: str = ""
    """The last message and what came of it."""
    changed: float = 0.0
    """Unix time."""


@dataclass(frozen=True)
class Unfinished:
    """A message that a process before this one had begun and never answered."""

    head: bytes
    trial: int
    round: int
    out_of_memory: bool
    """Whether the kernel has killed a process for lack of memory since."""


class Place:
    """The folders of one client.

    Args:
        name: of the device.
        run: for what need not outlive the system.
        cache: for artefacts.
    """

    def __init__(self, name: str, run: Path, cache: Path) -> None:
        self.name, self.run, self.cache = name, run, cache

    @classmethod
    def of(cls, name: str) -> Place:
        """The folders that systemd gives the service, or else the user's own."""
        given = os.environ.get("RUNTIME_DIRECTORY"), os.environ.get("CACHE_DIRECTORY")
        if given[0] and given[1]:
            return cls(name, Path(given[0].split(":")[0]), Path(given[1].split(":")[0]))
        home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        return cls(name, user_run() / name, Path(home) / "fieldtune" / name)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the place while a client runs.

        Raises:
            FleetError: another process holds it.
            StorageError: the folder cannot be made, or is somebody else's.
        """
        refusal = FleetError(
            f"{self.name} runs on this machine already: 'fieldtune client status' shows it"
        )
        with ExitStack() as held:
            try:
                self.run.mkdir(parents=True, exist_ok=True, mode=0o755)
                for folder in (self.run, self.run.parent):
                    # Root gives a service its folder; nobody else may, in a folder for everybody.
                    if folder.stat().st_uid not in (0, os.getuid()):
                        raise StorageError(f"{folder} belongs to another user: remove it")
                held.enter_context(locked(self.run / "lock", refusal))
            except OSError as failed:
                raise StorageError(f"{self.run}: cannot be written: {failed.strerror}") from None
            yield

    def begin(self, head: bytes, trial: int, round: int) -> None:
        """Remember what is being worked on, in case the process does not survive it."""
        noted = {
            "head": base64.b64encode(head).decode(),
            "trial": trial,
            "round": round,
            "killed": _killed_for_memory(),
        }
        _replace(self.run / "working.json", noted)

    def finish(self) -> None:
        """Forget what was being worked on."""
        (self.run / "working.json").unlink(missing_ok=True)

    def unfinished(self) -> Unfinished | None:
        """What a process before this one had begun."""
        try:
            noted = json.loads((self.run / "working.json").read_text())
            head = base64.b64decode(noted["head"])
            killed = noted["killed"] is not None and (_killed_for_memory() or 0) > noted["killed"]
            return Unfinished(head, int(noted["trial"]), int(noted["round"]), killed)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def remember(self, node_id: int | None) -> None:
        """Note the node id while it counts as connected, so that a killed client comes back."""
        if node_id is None:
            (self.run / "node").unlink(missing_ok=True)
        else:
            _replace(self.run / "node", node_id)

    def remembered(self) -> int | None:
        """The node id of a client that did not end cleanly."""
        try:
            return int(json.loads((self.run / "node").read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def show(self, status: Status) -> None:
        """Write the status for others to read."""
        status.changed = time.time()
        _replace(self.run / "status.json", asdict(status))


def user_run() -> Path:
    """The folder of a user's clients that run in the foreground."""
    if given := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(given) / "fieldtune"
    return Path(f"/tmp/fieldtune-{os.getuid()}")


def statuses() -> list[Status]:
    """The clients that have run on this machine since it started, services first."""
    found = []
    for folder in (SERVICE_RUN, user_run()):
        for file in sorted(folder.glob("*/status.json")):
            try:
                found.append(Status(**json.loads(file.read_text())))
            except (OSError, ValueError, TypeError):
                continue
    return found


def _replace(file: Path, value: Any) -> None:
    """Write all of it or nothing; a full disk must not stop a client."""
    with suppress(OSError):
        write_atomically(file, json.dumps(value), mode=0o644, durable=False)


def _killed_for_memory() -> int | None:
    """Processes that the kernel has killed for lack of memory, from ``/proc/vmstat``."""
    try:
        lines = _VMSTAT.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)
