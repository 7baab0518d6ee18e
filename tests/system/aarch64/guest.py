"""An arm64 root file system and the client installed in it, run by user-mode emulation.

It needs Debian's packages ``mmdebstrap`` and ``qemu-user-static``, and no root rights, chroot or
binfmt. What is built stays in its folder. Emulation proves function, never speed or memory.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from support.commandline import ROOT

_PACKAGES = "python3,libstdc++6,libgcc-s1,ca-certificates,bash,dash,coreutils,base-files,libc-bin"
PINNED = dict(
    line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
)
BASE = [
    f"{name}=={PINNED[name]}"
    for name in ("ai-edge-litert", "numpy", "flwr", "pydantic", "typer", "rich", "tomli_w")
]
"""All that a device installs beside fieldtune, as pinned."""
_TOOLS = {"qemu-aarch64-static": "qemu-user-static", "mmdebstrap": "mmdebstrap"}
_GLIBC = 36  # bookworm's; wheels for it and older ones fit
_BOARD = {
    "proc/device-tree/model": "Raspberry Pi Zero 2 W Rev 1.0\0",
    "proc/meminfo": "MemTotal:         436224 kB\nMemAvailable:     300000 kB\n",
    # ai-edge-litert reads the features of the processor here, and the host's would mislead it.
    "proc/cpuinfo": "".join(
        f"processor\t: {core}\nBogoMIPS\t: 38.40\n"
        "Features\t: fp asimd evtstrm crc32 cpuid\nCPU implementer\t: 0x41\n"
        "CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd03\nCPU revision\t: 4\n\n"
        for core in range(4)
    ),
}


def missing_means() -> str:
    """What this machine lacks to emulate a device; empty where it lacks nothing."""
    lacking = [package for tool, package in _TOOLS.items() if shutil.which(tool) is None]
    if lacking:
        return f"apt-get install {' '.join(lacking)}"
    if not Path("/etc/debian_version").exists():
        return "a Debian system, whose package sources the root file system comes from"
    return ""


@dataclass(frozen=True)
class Guest:
    """An emulated Raspberry Pi Zero 2 W.

    Args:
        root: its root file system.
        site: the packages in it.
    """

    root: Path
    site: Path

    @classmethod
    def build(cls, folder: Path, wheel: Path, name: str, requirements: Sequence[str]) -> Guest:
        """Make what is not in the folder yet.

        Args:
            folder: where; guests of several names share the root file system.
            wheel: of fieldtune.
            name: of the set of packages.
            requirements: what is in it.
        """
        root, site = folder / "root", folder / name
        if not (root / "usr/bin/python3.11").exists():
            shutil.rmtree(root, ignore_errors=True)
            run(
                "mmdebstrap", "--quiet", "--architectures=arm64", "--variant=extract",
                f"--include={_PACKAGES}", "bookworm", root,
            )  # fmt: skip
        for file, text in _BOARD.items():
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_text(text)
        if not site.exists():
            _install(site, *requirements)
        fieldtune = folder / "fieldtune"
        shutil.rmtree(fieldtune, ignore_errors=True)
        run(sys.executable, "-m", "zipfile", "-e", wheel, fieldtune)
        return cls(root, site)

    def command(self, *arguments: str | Path) -> list[str]:
        """What runs Python in the guest with these arguments."""
        return [
            "qemu-aarch64-static", "-L", str(self.root), str(self.root / "usr/bin/python3.11"),
            *map(str, arguments),
        ]  # fmt: skip

    @property
    def environment(self) -> dict[str, str]:
        """For :meth:`command`."""
        path = f"{self.site.parent / 'fieldtune'}:{self.site}"
        return os.environ | {
            "PYTHONPATH": path, "PYTHONHOME": str(self.root / "usr"), "QEMU_CPU": "cortex-a53",
            "PYTHONDONTWRITEBYTECODE": "",
        }  # fmt: skip


def _install(site: Path, *requirements: str) -> None:
    part = site.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    pip("install", "--target", part, *requirements)
    part.rename(site)


def pip(command: str, *arguments: str | Path) -> None:
    """Have pip take wheels for an aarch64 machine with Python 3.11, and no others."""
    platforms = [f"manylinux_2_{minor}_aarch64" for minor in range(_GLIBC, 16, -1)]
    run(
        sys.executable, "-m", "pip", command, "--quiet", "--disable-pip-version-check",
        "--only-binary=:all:", "--python-version=3.11", "--implementation=cp",
        *(f"--platform={name}" for name in [*platforms, "manylinux2014_aarch64"]), *arguments,
    )  # fmt: skip


def build_wheel(folder: Path) -> Path:
    """A wheel of this source tree."""
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT)
    (file,) = folder.glob("fieldtune-*.whl")
    return file


def run(*command: str | Path) -> None:
    """Run a command; RuntimeError with its last words where it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stdout[-1000:]}{done.stderr[-2000:]}")
