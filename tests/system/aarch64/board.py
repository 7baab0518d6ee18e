"""A whole arm64 system with 512 MB, emulated: Debian's kernel and systemd, booted by QEMU.

Building it needs root on a Debian system. Packages are extracted and not configured, so nothing of
it is emulated before it boots: what configuring would have made and this system needs is in
``_SETTINGS``. Its disk is built once and never written to again; what a run brings along is on a
second disk, whose ``setup.sh`` the system carries out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from system.aarch64.guest import run

HOST = "10.0.2.2"
"""What the system reaches this machine by (QEMU's user network)."""
MEMORY_MB = 512
_INCLUDED = (
    # NVMe and ext4 are built into this kernel: it boots without an initial file system.
    "linux-image-cloud-arm64,kmod,systemd,systemd-sysv,udev,dbus,libnss-systemd,python3,"
    "libstdc++6,base-files,base-passwd,bash,coreutils,dash,grep,libc-bin,login,mawk,mount,sed,"
    "util-linux"
)
_DISK_MB, _PAYLOAD_MB = 1000, 1000
_HOST_PACKAGES = {
    "qemu-system-aarch64": "qemu-system-arm",
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "nginx": "nginx-light",
}
# What the network's driver is made of, in the order that the kernel takes them in. Inserting them
# one by one spares an index of all modules, which takes longer than the rest of the boot.
_MODULES = (
    "virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci",
    "failover", "net_failover", "virtio_net",
)  # fmt: skip
_SEARCHED = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_UNITS = "/lib/systemd/system"
_SETTINGS = {
    "etc/hostname": "pi\n",
    "etc/hosts": "127.0.0.1 localhost pi\n",
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",  # else it would be a first boot
    "etc/nsswitch.conf": "passwd: files systemd\ngroup: files systemd\nhosts: files dns\n",
    "etc/systemd/network/wired.network": (
        "[Match]\nType=ether\n[Network]\nAddress=10.0.2.15/24\nLinkLocalAddressing=no\n"
    ),
    "etc/systemd/system/setup.service": (
        "[Service]\nType=exec\nExecStartPre=/bin/mount /dev/nvme1n1 /srv\n"
        "ExecStartPre=/bin/sh /etc/insert-modules\n"
        f"ExecStartPre={_UNITS.removesuffix('/system')}/systemd-networkd-wait-online --timeout=60\n"
        "ExecStart=/bin/sh /srv/setup.sh\n"
        "StandardOutput=tty\nStandardError=tty\nTTYPath=/dev/ttyAMA0\n"
    ),
}
_LINKS = {
    "etc/systemd/system/multi-user.target.wants/setup.service": (
        "/etc/systemd/system/setup.service"
    ),
    "etc/systemd/system/multi-user.target.wants/systemd-networkd.service": (
        f"{_UNITS}/systemd-networkd.service"
    ),
    "etc/systemd/system/network-online.target.wants/systemd-networkd-wait-online.service": (
        f"{_UNITS}/systemd-networkd-wait-online.service"
    ),
    "usr/bin/awk": "mawk",
}
# Nobody logs in, nothing is kept, and the disks are there without being looked for.
_LEFT_OUT = (
    "serial-getty@ttyAMA0", "systemd-logind", "systemd-udev-trigger", "systemd-random-seed",
    "systemd-update-utmp", "systemd-journal-flush", "systemd-sysctl",
)  # fmt: skip


def get_means() -> str:
    """Install what this machine lacks; what is still missing, empty where nothing is."""
    if os.geteuid() != 0 or not Path("/etc/debian_version").exists():
        return "root on a Debian system, whose packages the emulated one is made of"

    def lacking() -> list[str]:
        return [
            package
            for tool, package in _HOST_PACKAGES.items()
            if shutil.which(tool, path=_SEARCHED) is None
        ]

    if packages := lacking():
        quiet = ["-qq", "--no-install-recommends"]
        subprocess.run(["apt-get", "update", "-qq"], check=False)
        subprocess.run(["apt-get", "install", "-y", *quiet, *packages], check=False)
    return f"apt-get install {' '.join(lacking())}" if lacking() else ""


@dataclass(frozen=True)
class Board:
    """An emulated board.

    Args:
        folder: holds the system's disk and its kernel.
    """

    folder: Path

    @classmethod
    def build(cls, folder: Path) -> Board:
        """Make what is not in the folder yet."""
        board = cls(folder)
        if board._disk.exists():
            return board
        root = folder / "system"
        shutil.rmtree(root, ignore_errors=True)
        run(
            "mmdebstrap", "--quiet", "--architectures=arm64", "--variant=extract",
            f"--include={_INCLUDED}", "bookworm", root,
        )  # fmt: skip
        for name, text in _SETTINGS.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        modules = {file.stem: file.relative_to(root) for file in root.glob("lib/modules/**/*.ko")}
        (root / "etc/insert-modules").write_text(
            "".join(f"insmod /{modules[name]}\n" for name in _MODULES)
        )
        left_out = {f"etc/systemd/system/{name}.service": "/dev/null" for name in _LEFT_OUT}
        for name, target in (_LINKS | left_out).items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).symlink_to(target)
        for name in ("passwd", "group"):
            shutil.copyfile(root / f"usr/share/base-passwd/{name}.master", root / "etc" / name)
        (kernel,) = (root / "boot").glob("vmlinuz-*")
        shutil.copyfile(kernel, board._kernel)
        part = board._disk.with_suffix(".part")
        _disk(part, root, _DISK_MB)
        part.rename(board._disk)
        shutil.rmtree(root)
        return board

    @contextmanager
    def booted(self, payload: Path, console: Path) -> Iterator[subprocess.Popen[bytes]]:
        """Boot it with a folder as ``/srv``; it says what it does on its console.

        Args:
            payload: holds ``setup.sh``, and what that needs.
            console: the file that takes its console.
        """
        disk = console.with_name("payload.img")
        _disk(disk, payload, _PAYLOAD_MB)
        process = subprocess.Popen(
            [
                "qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a53", "-smp", "2",
                "-m", str(MEMORY_MB), "-display", "none", "-monitor", "none", "-no-reboot",
                "-serial", f"file:{console}",
                "-kernel", str(self._kernel),
                "-append", "root=/dev/nvme0n1 rw console=ttyAMA0 loglevel=3 "
                "systemd.show_status=0 systemd.default_timeout_start_sec=600",
                *_nvme("system", self._disk), *_nvme("payload", disk),
                "-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile=",
            ],
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()
            process.wait()
            disk.unlink()

    @property
    def _disk(self) -> Path:
        return self.folder / "system.img"

    @property
    def _kernel(self) -> Path:
        return self.folder / "vmlinuz"


def _nvme(name: str, file: Path) -> list[str]:
    """A disk that forgets what is written to it."""
    return [
        "-drive", f"file={file},if=none,id={name},format=raw,snapshot=on",
        "-device", f"nvme,drive={name},serial={name}",
    ]  # fmt: skip


def _disk(file: Path, content: Path, size_mb: int) -> None:
    file.unlink(missing_ok=True)
    run("mke2fs", "-q", "-t", "ext4", "-d", content, file, f"{size_mb}M")
