"""A client's state on disk: its status, its lock, its node id and the message in progress.

All of it is small and short-lived, so it is kept in memory (``/run``) if possible, to avoid wear of
an SD card. Deployed models have a folder of their own, which lasts. A service gets its folders from
systemd; a client in the foreground uses the user's folders.
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
from typing import Annotated, Any

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from fieldtune.client.deployed.slots import user_state
from fieldtune.profiles.common.errors import FleetError, StorageError
from fieldtune.profiles.common.files import locked, write_atomically
from fieldtune.profiles.common.text import printable

SERVICE_RUN = Path("/run/fieldtune")
_VMSTAT = Path("/proc/vmstat")


@dataclass
class Status:
    """A client's status, for ``fieldtune client status``; contains no secrets."""

    name: str
    address: str
    profile: str
    pid: int
    state: str = "connecting"
    """``connecting``, ``connected``, ``working``, or ``stopped``."""
    detail: str = ""
    """The message in progress, or why it is not connected."""
    node_id: int | None = None
    answered: int = 0
    refused: int = 0
    """Number of messages that were answered with a failure."""
    last: str = ""
    """The last message and its outcome."""
    last_failure: str = ""
    """The latest message that was answered with a failure."""
    changed: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    """Unix time of the last change."""


_STATUS = TypeAdapter(Status)
_NODE = TypeAdapter(int)


@dataclass(frozen=True)
class Unfinished:
    """A message that a previous process started but never answered."""

    head: bytes
    trial: int
    round: int
    out_of_memory: bool
    """Whether the kernel's OOM killer has killed a process since."""


class _Working(BaseModel):
    """``working.json``."""

    head: str
    trial: int
    round: int
    killed: int | None


class ClientFolders:
    """The folders of one client.

    Args:
        name: name of the device.
        run: folder for state that is lost on reboot.
        cache: folder for artefacts.
        state: folder for deployed models; None: that of artefacts.
    """

    def __init__(self, name: str, run: Path, cache: Path, state: Path | None = None) -> None:
        self.name, self.run, self.cache, self.state = name, run, cache, state or cache

    @classmethod
    def of(cls, name: str) -> ClientFolders:
        """The folders that systemd gives the service, or else the user's folders."""
        given = os.environ.get("RUNTIME_DIRECTORY"), os.environ.get("CACHE_DIRECTORY")
        if given[0] and given[1]:
            # Units from before models were deployed have no state folder.
            state = os.environ.get("STATE_DIRECTORY") or given[1]
            return cls(name, *(Path(each.split(":")[0]) for each in (given[0], given[1], state)))
        home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        cache = Path(home) / "fieldtune" / name
        return cls(name, user_run() / name, cache, user_state() / name)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the client's lock while it runs.

        Raises:
            FleetError: another process holds the lock.
            StorageError: the folder cannot be created or belongs to another user.
        """
        refusal = FleetError(
            f"{self.name} already runs on this machine: 'fieldtune client status' shows it"
        )
        with ExitStack() as held:
            try:
                self.run.mkdir(parents=True, exist_ok=True, mode=0o755)
                for folder in (self.run, self.run.parent):
                    # Only root may create a folder for another user: below /tmp, others could.
                    if folder.stat().st_uid not in (0, os.getuid()):
                        raise StorageError(f"{folder} belongs to another user: remove it")
                held.enter_context(locked(self.run / "lock", refusal))
            except OSError as failed:
                raise StorageError(f"{self.run}: cannot be written: {failed.strerror}") from None
            yield

    def begin(self, head: bytes, trial: int, round: int) -> None:
        """Record the message in progress, in case the process is killed."""
        record = {
            "head": base64.b64encode(head).decode(),
            "trial": trial,
            "round": round,
            "killed": _oom_kills(),
        }
        _replace(self.run / "working.json", record)

    def finish(self) -> None:
        """Delete the record of the message in progress."""
        (self.run / "working.json").unlink(missing_ok=True)

    def unfinished(self) -> Unfinished | None:
        """The message that a previous process was working on, or None."""
        try:
            record = _Working.model_validate_json((self.run / "working.json").read_bytes())
            head = base64.b64decode(record.head)
        except (OSError, ValueError):  # also that of pydantic and of base64
            return None
        killed = record.killed is not None and (_oom_kills() or 0) > record.killed
        return Unfinished(head, record.trial, record.round, killed)

    def save_node_id(self, node_id: int | None) -> None:
        """Save the connected node's id, so that a killed client can resume. None: delete it."""
        if node_id is None:
            (self.run / "node").unlink(missing_ok=True)
        else:
            _replace(self.run / "node", node_id)

    def saved_node_id(self) -> int | None:
        """The node id of a client that did not shut down cleanly, or None."""
        try:
            return _NODE.validate_json((self.run / "node").read_bytes())
        except (OSError, ValidationError):
            return None

    def write_status(self, status: Status) -> None:
        """Write the status file."""
        status.changed = time.time()
        _replace(self.run / "status.json", asdict(status))


def user_run() -> Path:
    """The runtime folder of a user's clients that run in the foreground."""
    if given := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(given) / "fieldtune"
    return Path(f"/tmp/fieldtune-{os.getuid()}")  # noqa: S108 - its owner is checked


def statuses() -> list[Status]:
    """Status of all clients that have run on this machine since boot, services first."""
    found = []
    for folder in (SERVICE_RUN, user_run()):
        for file in sorted(folder.glob("*/status.json")):
            if (status := read_status(file)) is not None:
                found.append(status)
    return found


def read_status(file: Path) -> Status | None:
    """The status in a file, whose texts are safe to show; None where it is not readable."""
    try:
        status = _STATUS.validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None
    for name, value in vars(status).items():
        if isinstance(value, str):
            setattr(status, name, printable(value))
    return status


def _replace(file: Path, value: Any) -> None:
    """Write a file atomically; errors are ignored, since a full disk must not stop a client."""
    with suppress(OSError):
        write_atomically(file, json.dumps(value), mode=0o644, durable=False)


def _oom_kills() -> int | None:
    """Number of OOM kills since boot, from ``/proc/vmstat``; None if not available."""
    try:
        lines = _VMSTAT.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)
