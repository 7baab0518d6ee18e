"""A whole deployment on loopback, by commands that a user types: coordinator, proxy, devices."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn

import numpy as np
import pytest

from fieldtune.client.data.client_data import ClientData
from fieldtune.server.deployment.folder import CoordinatorFolder
from support.commandline import COMMAND, WIDE, in_this_process
from support.studies import dealt_data
from support.superlink import free_port

needs_nginx = pytest.mark.skipif(
    shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin") is None,
    reason="NO PROXY HERE: nginx is not installed (apt-get install nginx-light), so nothing of a "
    "deployment was tested",
)


def wait_until(what: Callable[[], bool], why: str, seconds: float = 300.0) -> None:
    """Wait for something to become true; AssertionError with the reason where it does not."""
    give_up = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < give_up, why
        time.sleep(0.1)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """AssertionError where what is done in the main thread takes longer, such as for ever."""

    def late(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"not done within {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run_script(main: Callable[[], int | None]) -> NoReturn:
    """Run a script's main and exit; Ctrl-C and SIGTERM alike have it end what it has started."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)


@dataclass
class Program:
    """A ``fieldtune`` command, or another program, that goes on running, and what it says."""

    arguments: Sequence[str | Path]
    log: Path
    environment: dict[str, str] = field(default_factory=dict)
    command: Sequence[str] = COMMAND
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [*self.command, *map(str, self.arguments)],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                env=os.environ | self.environment,
                cwd=self.log.parent,
                start_new_session=True,
            )

    def said(self) -> str:
        return self.log.read_text()

    def waits_to_say(self, words: str, seconds: float = 300.0) -> None:
        """Wait until it has said these words."""
        wait_until(
            lambda: words in self.said() or self.ended(), f"{self.arguments}: no {words!r}", seconds
        )
        assert words in self.said(), self.said()

    def ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def end(self, number: int = signal.SIGTERM, seconds: float = 60.0) -> int:
        """Send a signal and wait; the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(seconds)

    def children(self) -> list[int]:
        """Process ids of what it has started, in that order."""
        assert self.process is not None
        pid = self.process.pid
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Deployment:
    """A coordinator in a folder, and devices that are enrolled with it.

    Args:
        folder: for everything.
        host: what devices reach it by.
    """

    def __init__(self, folder: Path, host: str = "localhost") -> None:
        self.folder, self.host = folder, host
        self.path = folder / "coordinator"
        self.port, self.superlink_port = free_port(), free_port()
        self.coordinator = Program(
            ("coordinator", "start", self.path), folder / "start.log", {"PYTHONUNBUFFERED": "1"}
        )
        self.devices: dict[str, Program] = {}

    def init(self, *options: str) -> str:
        """``fieldtune coordinator init``; what it says."""
        return self.run(
            "coordinator", "init", self.path, "--host", self.host, "--port", self.port,
            "--superlink-port", self.superlink_port, *options,
        )  # fmt: skip

    def run(self, *arguments: object) -> str:
        """A command that must succeed and comes to an end; its standard output."""
        done = in_this_process(*map(str, arguments), cwd=self.folder)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def attempt(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """A command that may fail."""
        return subprocess.run(
            [*COMMAND, *map(str, arguments)],
            cwd=self.folder, capture_output=True, text=True, check=False, timeout=600,
            env=os.environ | WIDE,
        )  # fmt: skip

    def start(self) -> None:
        """``fieldtune coordinator start``, until devices may connect."""
        self.coordinator.log.unlink(missing_ok=True)
        self.coordinator.start()
        self.coordinator.waits_to_say("Ready")

    @contextmanager
    def running(self) -> Iterator[Deployment]:
        """The coordinator and all devices, connected meanwhile."""
        try:
            self.start()
            for device in self.devices.values():
                device.start()
            yield self
        finally:
            self.end()

    def enroll(self, name: str) -> Path:
        """``fieldtune coordinator enroll``; the bundle."""
        return Path(self.run("coordinator", "enroll", self.path, name).strip())

    def device(self, name: str, data: ClientData, profile: str) -> Program:
        """A device with its own data, not yet started."""
        home = self.folder / name
        home.mkdir()
        write_data(home / "data", data)
        _, made = self.opened().enroll(name)  # as the command does; a process costs seconds
        bundle = self.opened().bundle_file(name)
        made.write(bundle)
        self.devices[name] = Program(
            ("client", "run", bundle, "--data", home / "data", "--profile", profile),
            home / "client.log",
            {
                "XDG_RUNTIME_DIR": str(home),
                "XDG_CACHE_HOME": str(home / "cache"),
                "XDG_STATE_HOME": str(home / "state"),
            },
        )
        return self.devices[name]

    def opened(self) -> CoordinatorFolder:
        return CoordinatorFolder(self.path)

    def end(self) -> None:
        """End all that runs."""
        for program in [*self.devices.values(), self.coordinator]:
            if program.process is not None:
                for child in [] if program.ended() else program.children():
                    os.kill(child, signal.SIGCONT)
                program.end()


def write_data(folder: Path, data: ClientData) -> None:
    """A client's data as files that a device reads."""
    folder.mkdir()
    np.savez(
        folder / "samples.npz",
        x=data.train_x, y=data.train_y, x_test=data.test_x, y_test=data.test_y,
    )  # fmt: skip
    (folder / "data.toml").write_text(f"classes = {data.classes}\n")


def add_devices(deployment: Deployment, study: Path) -> None:
    """The study's clients as devices, each with the data that the simulator would deal it."""
    for number, (data, profile) in enumerate(dealt_data(study)):
        deployment.device(f"pi-{number}", data, profile)
