"""Ten devices at work for half an hour: no message is lost, and memory stays flat.

usage: python tests/system/soak.py [--devices 10] [--minutes 30] [--pause-s 5]

Not part of the tests. A coordinator behind its proxy, light nodes over TLS, and one run in which
every device trains and evaluates again and again, with a pause in between. Memory is each process's
resident set (VmRSS, proc(5)); a tenth of the time is left for it to settle.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from fieldtune.client.contract.messages import EvaluateRequest, TrainRequest
from fieldtune.client.data.client_data import ClientData
from fieldtune.client.node.signatures import Signer
from fieldtune.server.compiler.cache import ArtefactCache
from fieldtune.server.compiler.manifest import Artefact, ModelSpec
from fieldtune.server.compiler.service import CompileService
from fieldtune.server.devices.device_fleet import DeviceFleet
from fieldtune.server.devices.superlink_run import SuperLinkRun
from fieldtune.server.federation.fleet import Addressed
from support.deployment import Deployment, run_script

TYPE = "x86-mini-pc"
SAMPLE_EVERY_S = 10.0


def resident_mib(pid: int) -> float:
    """Memory of a process now."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


@dataclass
class Watched:
    """A process's memory over time."""

    pid: int
    mib: list[float] = field(default_factory=list)

    def look(self) -> None:
        self.mib.append(resident_mib(self.pid))

    def ends(self) -> tuple[float, float, float]:
        """Medians of the first and last tenth after the settling, and the most at any time."""
        settled = self.mib[len(self.mib) // 10 :]
        tenth = max(len(settled) // 10, 1)
        first, last = np.median(settled[:tenth]), np.median(settled[-tenth:])
        return float(first), float(last), max(self.mib)


def data(seed: int) -> ClientData:
    """Forty random samples in ten classes."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(40, 8, 8, 1)).astype(np.float32)
    y = (np.arange(40) % 10).astype(np.int32)
    return ClientData(x[:30], y[:30], x[30:], y[30:], classes=10)


def requests(artefact: Artefact, trial: int, devices: int) -> list[Addressed]:
    """Train and evaluate, on every device."""
    sha, weights = artefact.manifest.artefact_sha256, artefact.initial_weights
    train = TrainRequest(
        trial=trial, round=0, artefact=sha, weights=weights, seed=trial, batch_size=8,
        local_epochs=1, hyperparameter_names=("learning_rate", "momentum"),
        hyperparameter_values=(0.1, 0.9),
    )  # fmt: skip
    evaluate = EvaluateRequest(
        trial=trial, round=1, artefact=sha, weights=weights, metric="accuracy"
    )
    return [
        Addressed(client, request, artefact.model)
        for request in (train, evaluate)
        for client in range(devices)
    ]


def main() -> int:
    """Print the figures; 1 where a message was lost, answered twice, or failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--devices", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--pause-s", type=float, default=5.0, help="between two requests")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fieldtune-soak-") as scratch:
        folder = Path(scratch)
        with CompileService(ArtefactCache(folder / "artefacts")) as service:
            spec = ModelSpec("mlp", {"width": 16, "depth": 1}, (8, 8, 1), 10)
            artefact = service.submit(spec).result()
        deployment = Deployment(folder)
        deployment.init()
        for number in range(given.devices):
            deployment.device(f"pi-{number}", data(number), TYPE)
        try:
            deployment.start()
            for device in deployment.devices.values():
                device.start()
            return soak(deployment, artefact, given.minutes, given.pause_s)
        finally:
            deployment.end()


def soak(deployment: Deployment, artefact: Artefact, minutes: float, pause_s: float) -> int:
    """Ask again and again, and count."""
    place, notes = deployment.opened(), []  # type: ignore[var-annotated]
    devices = len(deployment.devices)
    fleet = DeviceFleet(
        lambda: SuperLinkRun(place, notes.append),
        {device.name: device.number for device in place.devices()},
        profiles=[TYPE], wanted=devices, notes=notes.append, sign=Signer(place.authority_key),
    )  # fmt: skip
    answered, failed = Counter[tuple[int, int, int]](), Counter[str]()
    asked = trial = 0
    try:
        fleet.members()
        known = len(notes)
        pids = [device.process.pid for device in deployment.devices.values() if device.process]
        watched = [Watched(pid) for pid in (*pids, deployment.coordinator.children()[0])]
        end, look = time.monotonic() + 60 * minutes, 0.0
        while time.monotonic() < end:
            batch = requests(artefact, trial, devices)
            fleet.send(batch)
            asked, trial, open_ = asked + len(batch), trial + 1, len(batch)
            while open_:
                replies = fleet.receive(5.0)
                open_ -= len(replies)
                for reply in replies:
                    report = reply.report
                    answered[reply.client, report.trial, report.round] += 1
                    if report.failure:
                        failed[report.failure] += 1
            if time.monotonic() >= look:
                look = time.monotonic() + SAMPLE_EVERY_S
                for each in watched:
                    each.look()
            time.sleep(pause_s)
    finally:
        fleet.close()
    lost, twice = asked - len(answered), sum(count > 1 for count in answered.values())
    *nodes, superlink = (each.ends() for each in watched)
    growth = [last - first for first, last, _ in nodes]
    table = Table("what", "figure")
    for row in (
        ("devices, minutes", f"{devices}, {minutes:g}"),
        ("messages asked", f"{asked}"),
        ("lost, answered twice, failed", f"{lost}, {twice}, {sum(failed.values())}"),
        ("said meanwhile", "; ".join(notes[known:]) or "nothing"),
        ("a device's memory at the start, median", f"{np.median([n[0] for n in nodes]):.1f} MiB"),
        ("growth to the end: median, most", f"{np.median(growth):+.1f}, {max(growth):+.1f} MiB"),
        ("SuperLink's memory: start, end", f"{superlink[0]:.0f}, {superlink[1]:.0f} MiB"),
        ("its database at the end", f"{database_mib(deployment.path):.1f} MiB"),
    ):
        table.add_row(*row)
    Console().print(table)
    return int(bool(lost or twice or failed))


def database_mib(path: Path) -> float:
    """What SuperLink keeps on disk."""
    return sum(file.stat().st_size for file in path.glob("superlink.db*")) / 2**20


if __name__ == "__main__":
    run_script(main)
