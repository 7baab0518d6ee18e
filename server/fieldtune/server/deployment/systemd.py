"""The systemd unit and the README of a coordinator's folder."""

from __future__ import annotations

from pathlib import Path

from fieldtune.server.deployment.folder import CoordinatorFolder

UNIT = "fieldtune-coordinator.service"

_UNIT = """\
[Unit]
Description=fieldtune coordinator in {path}
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
User={user}
ExecStart="{command}" coordinator start "{path}"
Restart=always
RestartSec=5
TimeoutStartSec=360
# SuperLink has not answered for this long: restart.
WatchdogSec=300
KillMode=mixed
TimeoutStopSec=20
UMask=0077
NoNewPrivileges=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectSystem=strict
ProtectHome=read-only
ReadWritePaths="{path}"
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
LockPersonality=yes
RemoveIPC=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
{capabilities}
[Install]
WantedBy=multi-user.target
"""

_README = """\
A fieldtune coordinator
=======================

Devices connect to {address} (TCP, TLS). Open that port, and only that one, in the firewall;
nothing else here may be reached from outside. SuperLink listens on {superlink}, for this machine.

  fieldtune coordinator start {path}            runs it, in the foreground
  fieldtune coordinator enroll {path} NAME      makes a bundle to copy onto a device
  fieldtune coordinator devices {path}          lists enrolled and connected devices
  fieldtune coordinator remove {path} NAME      revokes a device's key
  fieldtune coordinator renew {path}            makes a new certificate; devices need no change
  fieldtune coordinator backup {path} FILE      writes keys and enrolled devices to a file
  fieldtune tune STUDY.toml --superlink {path}  runs a study on the devices
  fieldtune deploy RUN --superlink {path}       sends them the model that a run recommends

To have it started at boot:

  sudo cp {path}/{unit} /etc/systemd/system/
  sudo systemctl enable --now {unit}

Keep this folder private: it contains the keys of the fleet. A bundle in bundles/ contains a
device's private key; remove it here once it is on the device. Everyone who can read this folder can
run studies on the devices.

The certificate is valid until {expires:%Y-%m-%d}.
"""


def systemd_unit(path: Path, *, command: Path, user: str, port: int) -> str:
    """A unit that keeps the coordinator running, with no more rights than it needs.

    Args:
        path: the coordinator's folder.
        command: the ``fieldtune`` to run.
        user: the owner of the folder.
        port: where devices connect; one below 1024 needs a capability.
    """
    needed = "" if port >= 1024 else "CAP_NET_BIND_SERVICE"
    capabilities = f"CapabilityBoundingSet={needed}\nAmbientCapabilities={needed}\n"
    if user == "root":  # nginx then changes to another user itself
        capabilities = ""
    return _UNIT.format(path=path, command=command, user=user, capabilities=capabilities)


def readme(folder: CoordinatorFolder) -> str:
    """``README.txt`` of a coordinator's folder."""
    from fieldtune.server.deployment.certificates import expires

    return _README.format(
        path=folder.path,
        address=folder.settings.address,
        superlink=folder.settings.superlink_address,
        unit=UNIT,
        expires=expires(folder.server_certificate),
    )
