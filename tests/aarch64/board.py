"""A whole arm64 system with 512 MB, emulated: Debian with its kernel and systemd, booted by QEMU.

Building it needs root on a Debian system. The system's disk is built once and never written to
again; what a run brings along is on a second disk, whose ``setup.sh`` the system carries out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from aarch64.guest import run

HOST = "10.0.2.2"
"""What the system reaches this machine by (QEMU's user network)."""
MEMORY_MB = 512
_INCLUDED = "systemd,systemd-sysv,udev,dbus,python3,python3-venv,linux-image-arm64,ca-certificates"
_DISK_MB, _PAYLOAD_MB = 3000, 700
_HOST_PACKAGES = {
    "qemu-system-aarch64": "qemu-system-arm",
    "qemu-aarch64-static": "qemu-user-static",
    "mmdebstrap": "mmdebstrap",
    "arch-test": "arch-test",
    "mke2fs": "e2fsprogs",
    "nginx": "nginx-light",
}
_SEARCHED = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_BINFMT = Path("/proc/sys/fs/binfmt_misc")
_FOREIGN = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")
# The disk's driver and file system, and no other module: the initial file system stays small.
_MODULES = "virtio_pci\nvirtio_mmio\nvirtio_blk\next4\n"
_SETTINGS = {
    "etc/hostname": "pi\n",
    "etc/fstab": "LABEL=payload /srv ext4 ro 0 0\n",
    "etc/systemd/network/wired.network": "[Match]\nType=ether\n[Network]\nDHCP=yes\n",
    "etc/systemd/system/setup.service": (
        "[Unit]\nWants=network-online.target\nAfter=network-online.target srv.mount\n"
        "[Service]\nType=exec\nExecStart=/bin/sh /srv/setup.sh\n"
        "StandardOutput=tty\nStandardError=tty\nTTYPath=/dev/ttyAMA0\n"
    ),
}
_UNITS = "/lib/systemd/system"
_WANTED = {
    "multi-user.target.wants/setup.service": "/etc/systemd/system/setup.service",
    "multi-user.target.wants/systemd-networkd.service": f"{_UNITS}/systemd-networkd.service",
    "network-online.target.wants/systemd-networkd-wait-online.service": (
        f"{_UNITS}/systemd-networkd-wait-online.service"
    ),
    "serial-getty@ttyAMA0.service": "/dev/null",  # the console is the setup's
}


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
        folder: holds the system's disk, its kernel and its initial file system.
    """

    folder: Path

    @classmethod
    def build(cls, folder: Path) -> Board:
        """Make what is not in the folder yet: a few minutes, most of it emulated."""
        board = cls(folder)
        if board._disk.exists():
            return board
        root = folder / "system"
        shutil.rmtree(root, ignore_errors=True)
        modules = '"$1/usr/share/initramfs-tools/modules.d"'
        settings = '"$1/etc/initramfs-tools/conf.d"'
        with _foreign_programs():
            run(
                "mmdebstrap", "--quiet", "--architectures=arm64", "--variant=minbase",
                f"--include={_INCLUDED}",
                f"--essential-hook=mkdir -p {modules} {settings}",
                f"--essential-hook=printf '{_MODULES}' > {modules}/board",
                f"--essential-hook=echo MODULES=list > {settings}/board",
                "bookworm", root,
            )  # fmt: skip
        for name, text in _SETTINGS.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        for name, target in _WANTED.items():
            link = root / "etc/systemd/system" / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)
        for name in ("vmlinuz", "initrd.img"):
            (found,) = (root / "boot").glob(f"{name}-*")
            shutil.copyfile(found, folder / name)
        part = board._disk.with_suffix(".part")
        _disk(part, root, "system", _DISK_MB)
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
        _disk(disk, payload, "payload", _PAYLOAD_MB)
        process = subprocess.Popen(
            [
                "qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a53", "-smp", "2",
                "-m", str(MEMORY_MB), "-display", "none", "-monitor", "none", "-no-reboot",
                "-serial", f"file:{console}",
                "-kernel", str(self.folder / "vmlinuz"),
                "-initrd", str(self.folder / "initrd.img"),
                "-append", "root=/dev/vda rw console=ttyAMA0 loglevel=3 systemd.show_status=0",
                "-drive", f"file={self._disk},if=virtio,format=raw,snapshot=on",
                "-drive", f"file={disk},if=virtio,format=raw,readonly=on",
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


def _disk(file: Path, content: Path, label: str, size_mb: int) -> None:
    file.unlink(missing_ok=True)
    run("mke2fs", "-q", "-t", "ext4", "-L", label, "-d", content, file, f"{size_mb}M")


@contextmanager
def _foreign_programs() -> Iterator[None]:
    """Have the kernel run arm64 programs meanwhile (binfmt_misc), so that packages are set up."""
    if not (_BINFMT / "register").exists():
        run("mount", "-t", "binfmt_misc", "binfmt_misc", _BINFMT)
    ours = _BINFMT / _FOREIGN.stem
    if ours.exists():
        yield
        return
    (_BINFMT / "register").write_bytes(_FOREIGN.read_bytes().strip())
    try:
        yield
    finally:
        with suppress(OSError):
            ours.write_text("-1")
