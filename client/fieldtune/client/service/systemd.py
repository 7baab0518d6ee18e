"""The client as a systemd service: its unit file, with the fewest privileges that it needs.

systemd.exec(5) and systemd.resource-control(5) describe the settings. The bundle is owned by root
and passed to the service as a credential. Of the home folders it sees only its program and data.
Every user may read a unit, so the URL of the proxy, which may hold a password, is in a file beside
the bundle.
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fieldtune.client.contract.bundle import SUFFIX, Bundle
from fieldtune.profiles.common.errors import FleetError, StorageError, UsageError
from fieldtune.profiles.common.files import write_atomically
from fieldtune.profiles.host.probe import Host

_SETTINGS = Path("etc/fieldtune")
_UNITS = Path("etc/systemd/system")
_HOME_FOLDERS = (Path("/home"), Path("/root"))
_BOOTED = Path("/run/systemd/system")
_SHARE_OF_MEMORY = 0.6
_MIN_MIB = 192
_RESTART_STEPS_SINCE = 254
"""First systemd version with back-off for restarts (``RestartSteps``)."""


@dataclass(frozen=True)
class Service:
    """Parameters of a client's unit file.

    Args:
        name: name of the device.
        python: the interpreter in whose environment fieldtune is installed.
        data: an absolute folder, or ``package.module:function``.
        profile: name in the catalogue.
        user: user to run as; None for a dynamic user of systemd.
        memory_mib: memory limit.
        directory: working directory, to find a function that returns the data.
        reports_power: whether the board reports its power, which needs access to a device file.
        systemd: version of systemd.
        proxy: URL of the HTTP proxy to the coordinator.
        privacy: ``KEY=VALUE`` entries over ``[privacy]``.
    """

    name: str
    python: Path
    data: str
    profile: str
    user: str | None
    memory_mib: int
    directory: Path | None = None
    reports_power: bool = False
    systemd: int = 252
    proxy: str | None = None
    privacy: tuple[str, ...] = ()

    @property
    def unit(self) -> str:
        """Name of the unit."""
        return f"fieldtune-client-{self.name}.service"

    @property
    def environment_file(self) -> str:
        """Name of the file that holds the URL of the proxy."""
        return f"{self.name}.env"

    def text(self) -> str:
        """The unit file."""
        command = [
            str(self.python), "-m", "fieldtune.client", "run", "%d/bundle",
            "--data", self.data.replace("%", "%%"), "--profile", self.profile,
            *(word.replace("%", "%%") for each in self.privacy for word in ("--privacy", each)),
        ]  # fmt: skip
        who = ["DynamicUser=yes"] if self.user is None else [f"User={self.user}"]
        devices = (
            ["DevicePolicy=closed", "DeviceAllow=/dev/vcio rw", "SupplementaryGroups=video"]
            if self.reports_power
            else ["PrivateDevices=yes"]
        )
        steps = (
            ["RestartSteps=6", "RestartMaxDelaySec=300"]
            if self.systemd >= _RESTART_STEPS_SINCE
            else []
        )
        lines = [
            "# Written by 'fieldtune client install', which overwrites it when run again.",
            "[Unit]",
            f"Description=fieldtune client {self.name}",
            "Wants=network-online.target",
            "After=network-online.target time-sync.target",
            "StartLimitIntervalSec=0",
            "",
            "[Service]",
            "Type=notify",
            f"ExecStart={' '.join(map(_quoted, command))}",
            f"LoadCredential=bundle:/{_SETTINGS}/{self.name}{SUFFIX}",
            *([f"WorkingDirectory={_path(self.directory)}"] if self.directory else []),
            # Artefacts train with one thread; more threads would only use memory.
            "Environment=OPENBLAS_NUM_THREADS=1 MALLOC_ARENA_MAX=2 PYTHONUNBUFFERED=1",
            *([f"EnvironmentFile=/{_SETTINGS}/{self.environment_file}"] if self.proxy else []),
            "Restart=always",
            "RestartSec=5",
            *steps,
            "TimeoutStartSec=300",  # a small board first loads packages from a slow SD card
            "TimeoutStopSec=45",
            "",
            "# Memory: the board stays usable; if memory runs out, only this service is killed.",
            f"MemoryMax={self.memory_mib}M",
            "MemorySwapMax=0",
            "OOMScoreAdjust=500",
            "",
            "# Privileges: only those that it needs.",
            *who,
            f"RuntimeDirectory=fieldtune/{self.name}",
            "RuntimeDirectoryPreserve=restart",
            f"CacheDirectory=fieldtune/{self.name}",
            f"StateDirectory=fieldtune/{self.name}",  # deployed models, for applications to read
            *self._homes(),
            *devices,
            *_SANDBOX,
            "",
            "[Install]",
            "WantedBy=multi-user.target",
        ]
        return "\n".join(lines) + "\n"

    def _homes(self) -> list[str]:
        """Settings that hide the home folders, except for what the service reads."""
        needed = {self.python.parent.parent, Path(sys.base_prefix), *map(Path, sys.path)}
        if self.directory is not None:
            needed.add(self.directory)
        else:
            needed.add(Path(self.data))
        seen = [
            path
            for path in sorted(needed)
            if path.is_absolute()
            and path.is_dir()
            and any(path.is_relative_to(h) for h in _HOME_FOLDERS)
        ]
        return ["ProtectHome=tmpfs", *(f"BindReadOnlyPaths={_path(path)}" for path in seen)]


_SANDBOX = (
    "CapabilityBoundingSet=",
    "LockPersonality=yes",
    "NoNewPrivileges=yes",
    "PrivateTmp=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectProc=invisible",
    "ProtectSystem=strict",
    "RemoveIPC=yes",
    "RestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK AF_UNIX",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "SystemCallArchitectures=native",
    "SystemCallErrorNumber=EPERM",
    "SystemCallFilter=@system-service",
    "UMask=0022",  # its status has no secrets and may be read by all users
)


def memory_limit_mib(host: Host, given: int | None) -> int:
    """Memory limit of the service: the given one, or a share of the board's memory."""
    if given is not None:
        return given
    total = host.memory_total_mib or 1024.0
    return max(_MIN_MIB, int(_SHARE_OF_MEMORY * total))


def owner_of(data: str) -> str | None:
    """User to run the service as: the owner of the data; None if that is root or unknown."""
    path = Path(data)
    try:
        uid = path.stat().st_uid if path.exists() else int(os.environ.get("SUDO_UID", "0"))
        return None if uid == 0 else pwd.getpwuid(uid).pw_name
    except (KeyError, ValueError):
        return None


def systemd_version() -> int:
    """Version of the installed systemd; 0 if there is none."""
    if shutil.which("systemctl") is None:
        return 0
    done = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, check=False)
    found = re.match(r"systemd (\d+)", done.stdout)
    return int(found.group(1)) if found else 0


def install(service: Service, bundle: Bundle, root: Path = Path("/")) -> Path:
    """Write bundle, proxy and unit below ``root``; if that is ``/``, also start the service.

    Returns:
        The unit file.

    Raises:
        UsageError: the command is not run as root, or the service's user does not exist.
        StorageError: a file cannot be written.
        FleetError: systemd refuses the unit.
    """
    live = root == Path("/")
    if live and os.geteuid() != 0:
        raise UsageError(
            f"only root can install a service: sudo {sys.argv[0]} client install ... "
            "(or use 'fieldtune client run' without a service)"
        )
    if live and service.user is not None:
        _check_user(service.user)
    settings, unit = root / _SETTINGS, root / _UNITS / service.unit
    try:
        settings.mkdir(parents=True, exist_ok=True)
        unit.parent.mkdir(parents=True, exist_ok=True)
        kept = settings / f"{service.name}{SUFFIX}"
        kept.unlink(missing_ok=True)
        bundle.write(kept)
        environment = settings / service.environment_file
        environment.unlink(missing_ok=True)
        if service.proxy:
            write_atomically(environment, f"HTTPS_PROXY='{service.proxy}'\n", mode=0o600)
        unit.write_text(service.text(), encoding="utf-8")
    except OSError as failed:
        raise StorageError(f"{failed.filename}: cannot be written: {failed.strerror}") from None
    if live:
        if not _BOOTED.is_dir():
            options = ["--data", service.data, "--profile", service.profile]
            command = shlex.join(["fieldtune", "client", "run", str(kept), *options])
            raise FleetError(
                f"{unit} is written, but systemd does not run this machine: start the client with: "
                f"{command}"
            )
        for arguments in (["daemon-reload"], ["enable", service.unit], ["restart", service.unit]):
            _systemctl(arguments)
    return unit


def _check_user(name: str) -> None:
    try:
        pwd.getpwnam(name)
    except KeyError:
        raise UsageError(
            f"no user is called {name!r} on this machine: give another --user"
        ) from None


def _systemctl(arguments: Sequence[str]) -> None:
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise FleetError(f"systemctl {' '.join(arguments)}: {done.stderr.strip()}")


def _quoted(word: str) -> str:
    """A word of a command line, quoted if needed (systemd.service(5), "Command lines")."""
    if re.fullmatch(r"[\w%@:,./+=-]+", word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{escaped}"'


def _path(path: Path) -> str:
    """A path in a setting: spaces are quoted, percent signs doubled."""
    return _quoted(str(path).replace("%", "%%"))
