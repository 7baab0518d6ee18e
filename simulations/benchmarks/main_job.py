"""The demo study from a cold cache: wall time, memory of all processes, accuracy, and a NumPy peer.

Usage: ``python simulations/benchmarks/main_job.py``

The peer is federated averaging of the same model on the same clients, written out in NumPy with the
study's default configuration (:mod:`numpy_fedavg`). It shares the data split with the study and
nothing else, so the two accuracies should differ by chance alone.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from numpy_fedavg import federated_averaging
from rich.console import Console
from rich.table import Table

from fieldtune.server.study.load import load_study
from fieldtune.simulations.datasets import load_dataset
from fieldtune.simulations.fleet.plan import FleetPlan
from fieldtune.simulations.partition.partition import partition

STUDY = Path(__file__).resolve().parents[1] / "studies" / "digits.toml"


def tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [below for child in task.read_text().split() for below in tree(int(child))]
        except OSError:
            continue
    return found


def memory_mib(pid: int) -> float:
    """Memory of a process, each shared page divided among those that share it (PSS)."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)


def run_study(folder: Path) -> tuple[float, float, str]:
    """Wall seconds, peak MiB of all processes together, and what was said on stderr."""
    began = time.monotonic()
    with (folder / "said").open("w+") as said:
        study = subprocess.Popen(
            [sys.executable, "-m", "fieldtune.simulations", "tune", STUDY, "--out", folder / "run"],
            stdout=subprocess.DEVNULL,
            stderr=said,
            env=os.environ | {"FIELDTUNE_CACHE": str(folder / "cache"), "COLUMNS": "200"},
        )
        peak = 0.0
        while study.poll() is None:
            peak = max(peak, sum(map(memory_mib, tree(study.pid))))
            time.sleep(0.25)
        wall_s = time.monotonic() - began
        said.seek(0)
        return wall_s, peak, said.read()


def main() -> None:
    """Run both and print a table."""
    study = load_study(STUDY)
    with tempfile.TemporaryDirectory() as scratch:
        wall_s, peak_mib, said = run_study(Path(scratch))
        pareto = json.loads((Path(scratch) / "run/pareto.json").read_text())
    plan = FleetPlan.of(study)
    clients = partition(load_dataset(plan.data), plan)
    defaults = study.full_space.defaults().flat()
    peer = federated_averaging(
        clients,
        hidden=[int(defaults["width"])] * int(defaults["depth"]),
        rounds=study.study.rounds,
        clients_per_round=int(defaults["clients_per_round"]),
        epochs=int(defaults["local_epochs"]),
        batch_size=int(defaults["batch_size"]),
        learning_rate=float(defaults["learning_rate"]),
        seeds=range(5),
    )
    table = Table("what", "figure", "aim")
    table.add_row("trials x rounds", f"{study.study.trials} x {study.study.rounds}", "50 x 20")
    table.add_row("wall time, cold cache", f"{wall_s:.1f} s", "60 s")
    table.add_row("peak memory, all processes", f"{peak_mib:.0f} MiB", "1430 MiB (1.5 GB)")
    best = max(point["measures"]["accuracy"] for point in pareto["front"])
    table.add_row("best accuracy of the front", f"{best:.4f}", "0.92")
    ours = pareto["defaults"]["measures"]["accuracy"]
    table.add_row("accuracy of the defaults", f"{ours:.4f}", "")
    spread = ", ".join(f"{accuracy:.4f}" for accuracy in sorted(peer))
    table.add_row("the same in plain NumPy, 5 seeds", spread, "")
    console = Console()
    console.print(table)
    found = re.search(r"Took.*", said)
    console.print(found.group() if found else said, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
