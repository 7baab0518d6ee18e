"""Light nodes for tests: the client's real program, each with folders of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fieldtune.client.contract.bundle import Bundle


def wait_for(what: Callable[[], Any], limit_s: float = 120.0) -> Any:
    """What ``what`` returns once that is true; fails after a while."""
    give_up = time.monotonic() + limit_s
    while not (found := what()):
        assert time.monotonic() < give_up, f"waited {limit_s:.0f} s in vain"
        time.sleep(0.05)
    return found


@dataclass
class Device:
    """A device: its bundle, its data and the process that serves them."""

    folder: Path
    bundle: Bundle
    data: str
    keeps: Path | None = None
    """Where it keeps what it writes, in place of its folder."""
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.bundle.write(self.folder / "device.bundle.toml")

    @property
    def process(self) -> subprocess.Popen[bytes]:
        return self.processes[-1]

    @property
    def status(self) -> dict[str, Any]:
        """What ``fieldtune client status`` reads."""
        try:
            return dict(
                json.loads(
                    (self.folder / "run/fieldtune" / self.bundle.name / "status.json").read_text()
                )
            )
        except FileNotFoundError:
            return {"state": "", "detail": "", "pid": 0}

    @property
    def log(self) -> str:
        """What it has said."""
        return (self.folder / "log").read_text()

    @property
    def folders(self) -> dict[str, str]:
        """Environment that keeps its files apart from others'."""
        kept = self.keeps or self.folder
        return {
            "XDG_RUNTIME_DIR": str(kept / "run"),
            "XDG_CACHE_HOME": str(kept / "cache"),
            "XDG_STATE_HOME": str(kept / "state"),
        }

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.processes.append(
                subprocess.Popen(
                    [
                        sys.executable, "-m", "fieldtune.client", "run",
                        str(self.folder / "device.bundle.toml"),
                        "--data", self.data, "--profile", "x86-mini-pc",
                    ],
                    stdout=log, stderr=log, env=os.environ | self.folders, cwd=self.folder,
                )
            )  # fmt: skip

    def is_in(self, state: str) -> bool:
        """Whether this process, not one before it, says that it is in a state."""
        status = self.status
        return bool(status["state"] == state and status["pid"] == self.process.pid)

    def until(self, state: str) -> None:
        wait_for(lambda: self.is_in(state))

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(30)

    def clean_up(self) -> None:
        for process in self.processes:
            process.terminate()  # it says goodbye, so nobody waits for it
        for process in self.processes:
            process.wait()
