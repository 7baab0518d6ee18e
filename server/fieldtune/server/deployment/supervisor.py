"""``fieldtune coordinator start``: runs SuperLink on the loopback interface, and the proxy.

Both are child processes. When one ends, the other is stopped and the command fails, so that systemd
restarts both; SuperLink's state is in its database.
"""

from __future__ import annotations

import ctypes
import datetime
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType

from fieldtune.profiles.common.errors import DeploymentError, FleetError
from fieldtune.profiles.common.files import writing
from fieldtune.profiles.common.sd_notify import notify
from fieldtune.server.deployment.certificates import expires
from fieldtune.server.deployment.folder import CoordinatorFolder
from fieldtune.server.deployment.log_files import rotate
from fieldtune.server.deployment.nginx import nginx_configuration
from fieldtune.server.deployment.settings import listens
from fieldtune.server.deployment.superlink_control import (
    ENVIRONMENT,
    register_devices,
    superlink_answers,
)
from fieldtune.server.processes.child import tail

_START_S = 300.0
_STOP_S = 5.0
_LOOK_S = 60.0
"""Interval of looking after logs and watchdog; ``WatchdogSec`` of the unit is five times that."""
_ALLOCATION = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": str(2**20),
    "MALLOC_TRIM_THRESHOLD_": str(2**20),
}
"""Makes glibc return the memory of each request's body to the system; otherwise each of SuperLink's
threads keeps some of it."""
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
_EXPIRY_WARNING = datetime.timedelta(days=30)


def serve(folder: CoordinatorFolder, notes: Callable[[str], None]) -> None:
    """Run the coordinator until SIGINT or SIGTERM.

    Args:
        folder: of the coordinator.
        notes: prints a sentence about each event.

    Raises:
        DeploymentError: the certificate has expired, or the folder is being served already.
        FleetError: SuperLink or the proxy does not start, or ends by itself.
    """
    _check_certificate(folder, notes)
    with folder.being_served():
        for port in (folder.settings.superlink_port, folder.settings.port):
            _check_free(port)
        children = _Children(folder)
        notes("Starting SuperLink, which takes up to a minute")
        try:
            with _StopSignals() as asked_to_stop:
                children.start(
                    "SuperLink", superlink_command(folder), os.environ | _environment(folder)
                )
                if _wait_for_superlink(folder, children, asked_to_stop):
                    for sentence in register_devices(folder):
                        notes(sentence)
                    _note_certificates(folder, notes)
                    _start_proxy(folder, children, notes)
                    notes(f"Ready: devices connect to {folder.settings.address}. Ctrl-C stops")
                    notify("READY=1")
                _watch(folder, children, asked_to_stop)
                notify("STOPPING=1")
                notes("Stopping")
        finally:
            children.stop()


def superlink_command(folder: CoordinatorFolder) -> list[str]:
    """SuperLink with TLS, node authentication and a database, on loopback."""
    path, settings = folder.path, folder.settings
    return [
        sys.executable, "-m", "fieldtune.server.deployment.superlink_process",
        *("--host", "127.0.0.1", "--port", str(settings.superlink_port)),
        *("--ssl-ca-certfile", str(path / "ca.crt")),
        *("--ssl-certfile", str(path / "server.crt")),
        *("--ssl-keyfile", str(path / "server.key")),
        *("--enable-supernode-auth", "--isolation", "process"),
        *("--superexec-auth-secret-file", str(path / "executor.key")),
        *("--database", str(path / "superlink.db")),
    ]  # fmt: skip


class _Children:
    """The processes that make up the coordinator."""

    def __init__(self, folder: CoordinatorFolder) -> None:
        self._logs = folder.path / "logs"
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        log = self.log(name)
        with writing(log), log.open("ab") as output:
            self._running[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                umask=0o077,
                start_new_session=True,  # Ctrl-C is handled here: children are stopped in order
                preexec_fn=_end_with_parent,
            )

    def log(self, name: str) -> Path:
        return self._logs / f"{name.lower()}.log"

    def check(self) -> None:
        """Raise FleetError if one has ended."""
        for name, process in self._running.items():
            if (code := process.poll()) is not None:
                raise FleetError(
                    f"{name} ended with code {code}; the last lines of {self.log(name)}: "
                    f"{' '.join(tail(self.log(name), 3).split())}"
                )

    def stop(self) -> None:
        """Stop them in reverse order of their start; SuperLink's state is on disk."""
        for process in reversed(self._running.values()):
            for ask in (process.terminate, lambda p=process: p.send_signal(signal.SIGINT)):
                if process.poll() is None:
                    ask()
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(_STOP_S)
            if process.poll() is None:
                process.kill()
                process.wait()


def _watch(
    folder: CoordinatorFolder, children: _Children, asked_to_stop: Callable[[], bool]
) -> None:
    """Wait for a signal to stop; tell systemd's watchdog now and then that SuperLink answers."""
    look_again = 0.0
    while not asked_to_stop():
        children.check()
        if time.monotonic() >= look_again:
            look_again = time.monotonic() + _LOOK_S
            rotate(folder.path / "logs")
            if superlink_answers(folder):
                notify("WATCHDOG=1")
        time.sleep(0.2)


def _end_with_parent() -> None:
    """Have this process end where the coordinator is killed: prctl(2), PR_SET_PDEATHSIG."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class _StopSignals:
    """Notes SIGINT and SIGTERM in its block; yields a function that says whether one came."""

    def __enter__(self) -> Callable[[], bool]:
        self._asked = False
        self._before = {
            number: signal.signal(number, self._on_signal)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        return lambda: self._asked

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._asked = True


def _wait_for_superlink(
    folder: CoordinatorFolder, children: _Children, asked_to_stop: Callable[[], bool]
) -> bool:
    """Wait until SuperLink answers; False if a signal to stop came before."""
    give_up = time.monotonic() + _START_S
    while not asked_to_stop():
        children.check()
        if superlink_answers(folder):
            return True
        if time.monotonic() > give_up:
            raise FleetError(
                f"SuperLink has not started within {_START_S:.0f} s; "
                f"see {children.log('SuperLink')}"
            )
        time.sleep(0.2)
    return False


def _start_proxy(
    folder: CoordinatorFolder, children: _Children, notes: Callable[[str], None]
) -> None:
    configuration = folder.path / "nginx.conf"
    folder.write("nginx.conf", nginx_configuration(folder.path, folder.settings, ipv6=_has_ipv6()))
    nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if nginx is None:
        notes(
            "nginx is not installed, so no device can connect: 'apt-get install nginx-light' and "
            f"start again, or use another proxy configured like {configuration}"
        )
        return
    command = [nginx, "-e", str(children.log("proxy")), "-c", str(configuration)]
    children.start("proxy", command, dict(os.environ))
    give_up = time.monotonic() + _STOP_S
    while time.monotonic() < give_up:
        children.check()
        if listens(folder.settings.port):
            return
        time.sleep(0.05)
    raise FleetError(f"nginx does not listen; see {children.log('proxy')}")


def _check_certificate(folder: CoordinatorFolder, notes: Callable[[str], None]) -> None:
    left = expires(folder.server_certificate) - datetime.datetime.now(datetime.UTC)
    remedy = f"'fieldtune coordinator renew {folder.path}' makes a new one, devices need no change"
    if left <= datetime.timedelta(0):
        raise DeploymentError(
            f"The certificate in {folder.path} expired {(-left).days} days ago: {remedy}"
        )
    if left < _EXPIRY_WARNING:
        notes(f"The certificate expires in {left.days} days: {remedy}")


def _note_certificates(folder: CoordinatorFolder, notes: Callable[[str], None]) -> None:
    """Say what is to be done until devices without a certificate can be refused."""
    if folder.settings.client_certificates == "required":
        return
    without = [device.name for device in folder.devices() if not device.certificate]
    notes(
        f"Bundles of {', '.join(without)} have no certificate: 'fieldtune coordinator enroll "
        f"{folder.path} NAME --renew' makes new ones"
        if without
        else 'All devices have certificates: client_certificates = "required" in coordinator.toml '
        "refuses anyone else, also Flower's own SuperNode"
    )


def _check_free(port: int) -> None:
    if listens(port):
        raise FleetError(
            f"Port {port} is used by another program: stop it, or change the port in "
            "coordinator.toml (if devices connect to it, they must then be enrolled again)"
        )


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _environment(folder: CoordinatorFolder) -> dict[str, str]:
    return ENVIRONMENT | _ALLOCATION | {"FLWR_HOME": str(folder.path / "flwr")}
