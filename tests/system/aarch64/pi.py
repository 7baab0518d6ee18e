"""Boot a whole 512 MB arm64 system, install the client in it, and run a study on it: ``make pi``.

fieldtune's wheel and its base dependencies for arm64 are unpacked on this machine. The system asks
``fieldtune client doctor``, installs the service with ``fieldtune client install`` and takes part
in a study of DS-CNN (49x10x1 samples, 12 classes, 200 of them) that a coordinator on this machine
runs, over TLS. Then the recommended model is deployed on it, and another conversion, and rolled
back; ``fieldtune client predict`` runs each in the system. Prints what the system says and the
client's peak memory: what the kernel counts of its process (VmHWM) and of the service
(memory.peak), and what it reported of its training.

Emulation proves function and memory but never speed. It needs root on Debian and installs the
packages it lacks. The system's disk is built once where ``FIELDTUNE_AARCH64_FOLDER`` names a folder
to keep it in.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import typer

sys.path.insert(0, str(Path(__file__).parents[2]))

from support.deployment import Deployment, Program, run_script
from system.aarch64.board import HOST, MEMORY_MB, Board, get_means
from system.aarch64.guest import BASE, build_wheel, pip

SHAPE, CLASSES, SAMPLES = (49, 10, 1), 12, 200
LIMIT_S = 3600.0
STUDY = """\
[study]
name = "pi"
trials = 2
rounds = 2
objectives = ["error", "memory_mib"]

[task]
model = "ds_cnn"
variants = ["fp32", "dynamic"]

[fleet]
clients = 1
devices = { "raspberry-pi-zero-2w" = 1.0 }

[space.client]
learning_rate = { low = 0.01, high = 0.1, log = true }

[space.server]
clients_per_round = { choices = [1] }
"""
SETUP = """\
say() { echo "pi: $*"; }
say "$(uname -srm), $(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo) MiB of memory"
PATH=/srv/venv/bin:$PATH
chmod 600 /srv/pi.bundle.toml
device="/srv/pi.bundle.toml --data /srv/data --profile raspberry-pi-zero-2w"
fieldtune client doctor $device
fieldtune client install $device
unit=fieldtune-client-pi
systemctl show -p ActiveState,SubState,NRestarts,MemoryMax $unit
group=/sys/fs/cgroup$(systemctl show -p ControlGroup --value $unit)
while sleep 1; do
  pid=$(systemctl show -p MainPID --value $unit)
  process=$(awk '/VmHWM/ {print int($2 / 1024)}' /proc/$pid/status 2>/dev/null)
  service=$(($(cat $group/memory.peak 2>/dev/null || echo 0) >> 20))
  restarts=$(systemctl show -p NRestarts --value $unit)
  now="process $process MiB, service $service MiB, restarts $restarts"
  if [ "$now" != "$before" ]; then say "$now"; before=$now; fi
  model=$(stat -c %i /var/lib/fieldtune/pi/current.tflite 2>/dev/null)
  if [ "$model" != "$used" ]; then
    used=$model
    say "predicts $(fieldtune client predict /srv/data/samples.npz 2>&1 | grep -c %) samples"
  fi
done
"""
_SITE = Path("venv/lib/python3.11/site-packages")


def payload(folder: Path, bundle: Path) -> Path:
    """What the system is given: its packages, its bundle, its data and what to do with them."""
    folder.mkdir()
    wheel = build_wheel(folder.parent / "wheel")
    pip("install", "--target", folder / _SITE, *BASE, wheel)
    # As on the board; in what pip wrote there is the path of this machine's Python.
    shutil.rmtree(folder / _SITE / "bin")
    programs = folder / "venv/bin"
    programs.mkdir()
    (folder / "venv/pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11\n")
    (programs / "python3").symlink_to("/usr/bin/python3")
    (programs / "fieldtune").write_text(
        "#!/srv/venv/bin/python3\nimport sys\nfrom fieldtune.simulations.cli import main\n"
        "sys.exit(main())\n"
    )
    (programs / "fieldtune").chmod(0o755)
    (folder / "data").mkdir()
    x = np.random.default_rng(0).normal(size=(SAMPLES, *SHAPE)).astype(np.float32)
    np.savez(folder / "data/samples.npz", x=x, y=np.arange(SAMPLES) % CLASSES)
    shutil.copyfile(bundle, folder / "pi.bundle.toml")
    (folder / "setup.sh").write_text(SETUP)
    return folder


def said(console: Path, seen: int) -> list[str]:
    """The lines of a console after so many."""
    if not console.exists():
        return []
    text = console.read_bytes().decode(errors="replace").replace("\r", "")
    return [line for line in text.splitlines() if line.strip()][seen:]


def watched(study: Program, system: object, console: Path) -> Iterator[str]:
    """The console's lines as they come, until the study has ended."""
    give_up, seen = time.monotonic() + LIMIT_S, 0
    while not study.ended():
        if system.poll() is not None or time.monotonic() > give_up:  # type: ignore[attr-defined]
            raise RuntimeError(
                f"the system ended, or took too long; the study said:\n{study.said()}"
            )
        for line in said(console, seen):
            seen += 1
            yield line
        time.sleep(1.0)
    yield from said(console, seen)


def operate(deployment: Deployment, run: Path, console: Path) -> Iterator[str]:
    """Deploy the recommended model, then another conversion, and roll back; what is said.

    Raises:
        RuntimeError: the device does not follow, or does not run the models.
    """
    deploy = ("deploy", run, "--superlink", deployment.path, "--force")
    for number, command in enumerate(
        (deploy, (*deploy, "--variant", "dynamic"), ("rollback", "--superlink", deployment.path)), 1
    ):
        done = deployment.attempt(*command)
        yield f"fieldtune {command[0]}: {done.stdout.strip()}"
        if done.returncode:
            raise RuntimeError(done.stderr)
        give_up = time.monotonic() + LIMIT_S
        while " ".join(said(console, 0)).count(f"predicts {SAMPLES} samples") < number:
            if time.monotonic() > give_up:
                raise RuntimeError("the deployed model was not run in the system")
            time.sleep(1.0)


def main() -> int:
    """Print what is said, then the figures; 0 where the study came to its end."""
    if lacking := get_means():
        typer.echo(f"this needs {lacking}", err=True)
        return 2
    with tempfile.TemporaryDirectory(prefix="fieldtune-pi-") as scratch:
        folder = Path(scratch)
        kept = os.environ.get("FIELDTUNE_AARCH64_FOLDER")
        place = Path(kept) if kept else folder / "board"
        place.mkdir(parents=True, exist_ok=True)
        typer.echo("building the system's disk (once where it is kept)")
        board = Board.build(place)
        deployment = Deployment(folder, host=HOST)
        deployment.init()
        typer.echo("installing the client, for an arm64 system")
        given = payload(folder / "payload", deployment.enroll("pi"))
        (folder / "pi.toml").write_text(STUDY)
        run = folder / "run"
        study = Program(
            ("tune", folder / "pi.toml", "--superlink", deployment.path, "--out", run),
            folder / "study.log",
        )
        try:
            deployment.start()
            study.start()
            typer.echo("booting")
            with board.booted(given, folder / "console") as system:
                lines = []
                for line in watched(study, system, folder / "console"):
                    lines.append(line)
                    typer.echo(f"  {line}")
                if study.process is not None and study.process.returncode == 0:
                    for line in operate(deployment, run, folder / "console"):
                        typer.echo(line)
                    lines = said(folder / "console", 0)
        finally:
            if study.process is not None and not study.ended():
                study.end()
            deployment.end()
        assert study.process is not None
        typer.echo(study.said())
        if study.process.returncode:
            return 1
        report(json.loads((run / "pareto.json").read_text()), "\n".join(lines))
    return 0


def report(outcome: dict[str, object], console: str) -> None:
    """The figures of a study that came to its end."""
    said = re.findall(r"pi: process (\d+) MiB, service (\d+) MiB", console)
    process, service = (max(map(int, peaks)) for peaks in zip(*said, strict=True))
    reported = {
        each["quantity"]: each["reported"]
        for each in outcome["reported"]["raspberry-pi-zero-2w"]  # type: ignore[index]
    }
    typer.echo(f"trials completed: {outcome['trials']}, failed: {outcome['failed']}")
    typer.echo(f"peak memory of the client in a {MEMORY_MB} MB system: {process} MiB (VmHWM)")
    typer.echo(f"peak of its service, with cached files: {service} MiB (memory.peak)")
    typer.echo(f"peak while it trains DS-CNN, as it reported: {reported['memory']:.0f} MiB")


if __name__ == "__main__":
    run_script(main)
