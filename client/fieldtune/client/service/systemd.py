"""The client as a systemd service: its unit, written so that it can do its work and no more.

systemd.exec(5) and systemd.resource-control(5) describe the settings. The bundle stays root's: the
service gets it as a credential. The home folders it sees hold nothing but its program and data.
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
from fieldtune.profiles.host.probe import Host

_SETTINGS = Path("etc/fieldtune")
_UNITS = Path("etc/systemd/system")
_HOMES = (Path("/home"), Path("/root"))
_BOOTED = Path("/run/systemd/system")
_SHARE_OF_MEMORY = 0.6
_LEAST_MIB = 192
_STEPS_SINCE = 254
"""systemd's version that knows a restart's back-off."""


@dataclass(frozen=True)
class Service:
    """What the unit of one client depends on.

    Args:
        name: of the device.
        python: the interpreter that has fieldtune installed.
        data: an absolute folder, or ``package.module:function``.
        profile: of the catalogue.
        user: whom it runs as; None for a user that systemd makes up.
        memory_mib: what it may take at most.
        directory: where a function that gives the data is found.
        tells_power: the board tells its power, through a device file of its own.
        systemd: its version.
    """

    name: str
    python: Path
    data: str
    profile: str
    user: str | None
    memory_mib: int
    directory: Path | None = None
    tells_power: bool = False
    systemd: int = 252

    @property
    def unit(self) -> str:
        """Name of the unit."""
        return f"fieldtune-client-{self.name}.service"

    def text(self) -> str:
        """The unit file."""
        command = [
            str(self.python), "-m", "fieldtune.client", "run", "%d/bundle",
            "--data", self.data.replace("%", "%%"), "--profile", self.profile,
        ]  # fmt: skip
        who = ["DynamicUser=yes"] if self.user is None else [f"User={self.user}"]
        devices = (
            ["DevicePolicy=closed", "DeviceAllow=/dev/vcio rw", "SupplementaryGroups=video"]
            if self.tells_power
            else ["PrivateDevices=yes"]
        )
        steps = ["RestartSteps=6", "RestartMaxDelaySec=300"] if self.systemd >= _STEPS_SINCE else []
        lines = [
            "# Written by 'fieldtune client install'; it is written anew when that runs again.",
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
            # One thread is what an artefact trains with; the rest would only cost memory.
            "Environment=OPENBLAS_NUM_THREADS=1 MALLOC_ARENA_MAX=2 PYTHONUNBUFFERED=1",
            "Restart=always",
            "RestartSec=5",
            *steps,
            "TimeoutStartSec=300",  # a small board reads its packages from a slow card first
            "TimeoutStopSec=45",
            "",
            "# Memory: the board stays usable, and what does not fit ends this service alone.",
            f"MemoryMax={self.memory_mib}M",
            "MemorySwapMax=0",
            "OOMScoreAdjust=500",
            "",
            "# Privileges: none that it does not need.",
            *who,
            f"RuntimeDirectory=fieldtune/{self.name}",
            "RuntimeDirectoryPreserve=restart",
            f"CacheDirectory=fieldtune/{self.name}",
            *self._homes(),
            *devices,
            *_LOCKED_DOWN,
            "",
            "[Install]",
            "WantedBy=multi-user.target",
        ]
        return "\n".join(lines) + "\n"

    def _homes(self) -> list[str]:
        """Home folders are hidden but for what it reads."""
        needed = {self.python.parent.parent, Path(sys.base_prefix), *map(Path, sys.path)}
        if self.directory is not None:
            needed.add(self.directory)
        else:
            needed.add(Path(self.data))
        seen = [
            path
            for path in sorted(needed)
            if path.is_absolute() and path.is_dir() and any(path.is_relative_to(h) for h in _HOMES)
        ]
        return ["ProtectHome=tmpfs", *(f"BindReadOnlyPaths={_path(path)}" for path in seen)]


_LOCKED_DOWN = (
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
    "UMask=0022",  # its status, which holds nothing secret, is for everybody
)


def memory_limit_mib(host: Host, given: int | None) -> int:
    """What the service may take: what was given, or a share of what the board has."""
    if given is not None:
        return given
    total = host.memory_total_mib or 1024.0
    return max(_LEAST_MIB, int(_SHARE_OF_MEMORY * total))


def owner_of(data: str) -> str | None:
    """Whom the service should run as: the owner of the data; None where that is root or nobody."""
    path = Path(data)
    try:
        uid = path.stat().st_uid if path.exists() else int(os.environ.get("SUDO_UID", "0"))
        return None if uid == 0 else pwd.getpwuid(uid).pw_name
    except (KeyError, ValueError):
        return None


def systemd_version() -> int:
    """The version of the systemd that is installed; 0 where there is none."""
    if shutil.which("systemctl") is None:
        return 0
    told = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, check=False)
    found = re.match(r"systemd (\d+)", told.stdout)
    return int(found.group(1)) if found else 0


def install(service: Service, bundle: Bundle, root: Path = Path("/")) -> Path:
    """Write bundle and unit below ``root``; where that is ``/``, start the service too.

    Returns:
        The unit file.

    Raises:
        UsageError: the user is not root, or whom it should run as is unknown.
        StorageError: a file cannot be written.
        FleetError: systemd refuses the unit.
    """
    live = root == Path("/")
    if live and os.geteuid() != 0:
        raise UsageError(
            f"only root can install a service: sudo {sys.argv[0]} client install ... "
            "(or 'fieldtune client run' without one)"
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
    """A word of a command line (systemd.service(5), "Command lines")."""
    if re.fullmatch(r"[\w%@:,./+=-]+", word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{escaped}"'


def _path(path: Path) -> str:
    """A path in a setting: a space is quoted, a percent sign doubled."""
    return _quoted(str(path).replace("%", "%%"))
