"""What the light node takes of a device: memory while it trains, CPU while idle, time of a message.

usage: python simulations/benchmarks/light_node.py [--idle-s 60]

A real SuperLink with TLS and node authentication on loopback, and the client's own program. The
device trains DS-CNN at micro-batch 8 (49x10x1 samples, 12 classes). Memory is the process's
high-water mark (VmHWM, proc(5)); CPU is its user and system time (proc(5), stat).
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from fieldtune.client.contract.messages import TrainRequest  # noqa: E402
from fieldtune.server.compiler.cache import ArtefactCache  # noqa: E402
from fieldtune.server.compiler.manifest import ModelSpec  # noqa: E402
from fieldtune.server.compiler.service import CompileService  # noqa: E402
from fieldtune.server.federation.fleet import Addressed  # noqa: E402
from support.devices import Device, wait_for  # noqa: E402  (found by the line above)
from support.grid_fleet import GridFleet  # noqa: E402
from support.superlink import DatabaseGrid, SuperLink  # noqa: E402

SHAPE, CLASSES, SAMPLES = (49, 10, 1), 12, 200
AIMS = {"memory": 110.0, "idle": 0.5, "trip": 1.0}


def mib(pid: int, key: str) -> float:
    """A figure of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def cpu_s(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def trips_s(fleet: GridFleet, times: int, before_s: float) -> list[float]:
    """Times of messages that do nothing: the device describes itself."""
    taken = []
    for _ in range(times):
        time.sleep(before_s)
        began = time.perf_counter()
        fleet.members()
        taken.append(time.perf_counter() - began)
    return taken


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--idle-s", type=float, default=60.0, help="how long to watch it idle")
    idle_s = parser.parse_args().idle_s
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        rows = measure(folder, idle_s)
    table = Table("what", "figure", "aim")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def measure(folder: Path, idle_s: float) -> list[tuple[str, str, str]]:
    """One device through its life."""
    rng = np.random.default_rng(0)
    (folder / "data").mkdir()
    x = rng.normal(size=(SAMPLES, *SHAPE)).astype(np.float32)
    np.savez(folder / "data/samples.npz", x=x, y=np.arange(SAMPLES) % CLASSES)
    with CompileService(ArtefactCache(folder / "artefacts")) as service:
        artefact = service.submit(ModelSpec("ds_cnn", {}, SHAPE, CLASSES)).result()
    superlink = SuperLink(folder)
    superlink.start()
    device = Device(folder / "device", superlink.enroll("bench"), str(folder / "data"))
    try:
        device.start()
        device.until("connected")
        pid, fleet = device.process.pid, GridFleet(DatabaseGrid(superlink))
        fleet.members()
        busy, rested = trips_s(fleet, 20, 0.0), trips_s(fleet, 10, 5.0)
        time.sleep(5)
        before = cpu_s(pid)
        time.sleep(idle_s)
        idle = (cpu_s(pid) - before) / idle_s * 100
        joined = mib(pid, "VmRSS:")
        request = TrainRequest(
            trial=0, round=0, artefact=artefact.manifest.artefact_sha256,
            weights=artefact.initial_weights, seed=0, batch_size=8, local_epochs=2,
            hyperparameter_names=("learning_rate", "momentum"), hyperparameter_values=(0.01, 0.9),
        )  # fmt: skip
        for _ in range(3):
            fleet.send([Addressed(0, request, artefact.model)])
            replies = wait_for(lambda: fleet.receive(1.0))
            if replies[0].report.failure is not None:
                raise RuntimeError(replies[0].report.detail)
        peak = mib(pid, "VmHWM:")
        peak = max(peak, *(r.report.peak_memory_mib or 0.0 for r in replies))
    finally:
        device.clean_up()
        superlink.kill()
    return [
        ("connected, resident", f"{joined:.1f} MiB", ""),
        ("training DS-CNN, peak", f"{peak:.1f} MiB", f"{AIMS['memory']:.0f} MB"),
        ("idle", f"{idle:.2f} % of a core", f"{AIMS['idle']} %"),
        ("message that does nothing, right after another", _spread(busy), f"{AIMS['trip']:.0f} s"),
        ("message that does nothing, after 5 s of rest", _spread(rested), f"{AIMS['trip']:.0f} s"),
    ]


def _spread(taken_s: list[float]) -> str:
    return f"{statistics.median(taken_s):.2f} s, at most {max(taken_s):.2f} s"


if __name__ == "__main__":
    main()
