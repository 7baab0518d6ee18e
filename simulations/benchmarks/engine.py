"""The simulation engine: CPU of a client update beside peers, and fleets of up to 100,000 clients.

usage: python simulations/benchmarks/engine.py [--models mlp cnn] [--peers NAME ...]
           [--clients 1000 10000 100000] [--seconds S]

18 clients train ten batches of 8 a round and are averaged. All peers get the same samples in the
same order; ``differs`` is the largest difference of a weight from ours after three rounds. CPU is
user and system time of all processes; each figure is the best of five measurements, which take
turns, because whatever else the machine does only adds to it. Peers that are not installed are
named. How much two workers can add to one is measured beside them: the updates of two processes
that each run the NumPy loop for themselves, against those of one.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import numpy as np
from engine_peers import PEERS, NumpyLoop, difference
from engine_tasks import BATCH, CLIENTS, HERE, LEARNING_RATE, MODELS, MOMENTUM, Layers, Peer, Task
from rich.console import Console
from rich.table import Table

from fieldtune.client.contract.messages import EvaluateRequest, TrainReport, TrainRequest, Weights
from fieldtune.server.compiler.manifest import Artefact, unflatten
from fieldtune.server.federation.exchange import Request
from fieldtune.server.federation.fleet import Addressed, Reply
from fieldtune.server.federation.server_optimizer import Update, weighted_mean
from fieldtune.server.session.setup import compile_service
from fieldtune.simulations.fleet.fleet import SimulatedFleet
from fieldtune.simulations.fleet.plan import FleetPlan

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_REPEATS = 5
_PER_ROUND, _ROUNDS = 50, 20
"""Clients of a round in a large fleet."""


def cpu_s(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def memory_mib(pids: Sequence[int]) -> float:
    """Memory of processes, each shared page divided among those that share it (PSS)."""
    lines = [
        line
        for pid in pids
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        if line.startswith("Pss:")
    ]
    return sum(int(line.split()[1]) for line in lines) / 1024


@contextmanager
def opened(plan: FleetPlan, workers: int) -> Iterator[tuple[SimulatedFleet, list[int]]]:
    """A simulated fleet, and the process ids of its workers."""
    before = children()
    with (
        tempfile.TemporaryDirectory() as scratch,
        SimulatedFleet(
            plan, workers=workers, import_path=[HERE], log=Path(scratch) / "log"
        ) as fleet,
    ):
        yield fleet, sorted(children() - before)


def children(of: int | str = "self") -> set[int]:
    """Process ids of a process's children, and of theirs."""
    found: set[int] = set()
    for each in Path(f"/proc/{of}/task").glob("*/children"):
        for pid in map(int, each.read_text().split()):
            found |= {pid, *children(pid)}
    return found


def answered(
    fleet: SimulatedFleet, requests: Sequence[tuple[int, Request]], model: bytes
) -> list[Reply]:
    """Ask, and wait for all replies."""
    fleet.send([Addressed(client, request, model) for client, request in requests])
    replies: list[Reply] = []
    while len(replies) < len(requests):
        replies += fleet.receive(60.0)
    return replies


def training(
    artefact: Artefact, weights: object, clients: Iterable[int], number: int
) -> list[tuple[int, TrainRequest]]:
    """Requests to train for an epoch, by client."""
    common = TrainRequest.model_validate(
        {
            "trial": 0, "round": number, "artefact": artefact.manifest.artefact_sha256,
            "weights": weights, "seed": 0, "batch_size": BATCH,
            "local_epochs": 1, "hyperparameter_names": ("learning_rate", "momentum"),
            "hyperparameter_values": (LEARNING_RATE, MOMENTUM),
        }
    )  # fmt: skip
    return [
        (client, common.model_copy(update={"seed": Task.seed(client, number)}))
        for client in clients
    ]


class Ours:
    """The simulator with so many workers."""

    def __init__(self, task: Task, fleet: SimulatedFleet, workers: int) -> None:
        self.name = f"fieldtune, {workers} worker{'s' * (workers > 1)}"
        self._task, self._fleet = task, fleet
        fleet.members()

    def round(self, weights: Weights, number: int) -> Weights:
        """One round."""
        artefact = self._task.artefact
        asked = training(artefact, weights, range(CLIENTS), number)
        replies = answered(self._fleet, asked, artefact.model)
        updates = [
            Update(reply.report.weights, reply.report.samples)
            for reply in sorted(replies, key=lambda reply: reply.client)
            if isinstance(reply.report, TrainReport) and reply.report.weights is not None
        ]
        assert len(updates) == CLIENTS, replies[0].report.detail
        return weighted_mean(updates).astype(np.float32)


def initial(peer: Peer, task: Task) -> Any:
    """The initial weights as a peer takes them."""
    return task.artefact.initial_weights if isinstance(peer, Ours) else task.layers


def measured(peer: Peer, pids: Sequence[int], task: Task, seconds: float) -> tuple[float, float]:
    """CPU ms of a client update, and updates a second, in rounds that take about so long."""
    weights, number, clock = initial(peer, task), 0, _Clock(pids)
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        peer.round(weights, number)
        number += 1
    passed_s, spent_s = clock.passed()
    updates = number * CLIENTS
    return 1e3 * spent_s / updates, updates / passed_s


def compare(
    name: str, artefact: Artefact, digits: Task, chosen: Sequence[str], seconds: float
) -> Table:
    """The table of a model; ``digits`` is what the independent processes train."""
    task = Task.of(name, artefact)
    peers: list[tuple[Peer, list[int]]] = []
    missing = []
    with (
        opened(task.plan, 1) as (alone, first),
        opened(task.plan, 2) as (pair, both),
        get_context("spawn").Pool(2) as independent,
        ExitStack() as closed,
    ):
        peers += [(Ours(task, alone, 1), first), (Ours(task, pair, 2), both)]
        for each in chosen:
            make, models = PEERS[each]
            if name in models:
                before = children()
                try:
                    peer = make(task)
                except ImportError as absent:
                    missing.append(f"{each} ({absent.name})")
                    continue
                closed.callback(getattr(peer, "close", lambda: None))
                peers.append((peer, sorted(children() - before)))
        ends = [_after_three_rounds(peer, task) for peer, _ in peers]
        found: list[list[tuple[float, float]]] = [[] for _ in peers]
        machine: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(_REPEATS):
            for row, (peer, pids) in zip(found, peers, strict=True):
                row.append(measured(peer, pids, task, seconds))
            for processes, rates in machine.items():
                turns = [(digits, seconds)] * processes
                rates.append(sum(independent.starmap(by_itself, turns, chunksize=1)))
    table = Table(name, "CPU ms an update", "updates/s", "differs", title=_load())
    best = [max(rate for _, rate in row) for row in found]
    for (peer, _), row, rate, end in zip(peers, found, best, ends, strict=True):
        cpu = min(each for each, _ in row)
        table.add_row(peer.name, f"{cpu:.2f}", f"{rate:.0f}", f"{difference(ends[0], end):.0e}")
    table.caption = (
        f"Two workers do {best[1] / best[0]:.2f} times the updates of one; two independent NumPy "
        f"processes {max(machine[2]) / max(machine[1]):.2f} times those of one"
    )
    if missing:
        table.caption += f"; not installed: {', '.join(missing)}"
    return table


def by_itself(digits: Task, seconds: float) -> float:
    """Updates a second of the NumPy loop in this process."""
    return measured(NumpyLoop(digits), (), digits, seconds)[1]


def _after_three_rounds(peer: Peer, task: Task) -> Layers:
    weights = initial(peer, task)
    for number in range(3):
        weights = peer.round(weights, number)
    if isinstance(peer, Ours):
        return list(unflatten(task.artefact.manifest.weights, weights))
    layers: Layers = weights
    return layers


def scale(clients: int, artefact: Artefact) -> tuple[str, ...]:
    """A row: start, a round of 50, an evaluation by all, and memory, of so many clients."""
    plan = FleetPlan(
        f"engine_tasks:many_{clients}", "iid", 0.5, 0.25, clients, {"raspberry-pi-5": 1.0}, 0
    )
    rng = np.random.default_rng(0)
    weights, sha256 = artefact.initial_weights, artefact.manifest.artefact_sha256
    clock = _Clock()
    with opened(plan, 2) as (fleet, pids):
        clock.pids = pids
        members = len(fleet.members())
        start_s, start_cpu_s = clock.passed()

        def a_round(number: int) -> None:
            chosen = rng.choice(members, _PER_ROUND, replace=False).tolist()
            answered(fleet, training(artefact, weights, chosen, number), artefact.model)

        a_round(0)  # the artefact is loaded
        clock = _Clock(pids)
        for number in range(1, 1 + _ROUNDS):
            a_round(number)
        rounds_s, rounds_cpu_s = clock.passed()
        evaluation = EvaluateRequest(
            trial=0, round=0, artefact=sha256, weights=weights, metric="accuracy"
        )
        asked = [(client, evaluation) for client in range(members)]
        clock = _Clock(pids)
        answered(fleet, asked, artefact.model)
        evaluation_s, evaluation_cpu_s = clock.passed()
        mib = memory_mib([os.getpid(), *pids])
    return (
        f"{clients:,}",
        f"{start_s:.1f} s ({start_cpu_s:.1f})",
        f"{1e3 * rounds_s / _ROUNDS:.0f} ms ({1e3 * rounds_cpu_s / _ROUNDS:.0f})",
        f"{evaluation_s:.1f} s ({evaluation_cpu_s:.1f})",
        f"{mib:.0f} MiB",
    )


class _Clock:
    """Time since it was made: of a clock, and CPU of this process and others."""

    def __init__(self, pids: Sequence[int] = ()) -> None:
        self.pids = pids
        self._began, self._cpu = time.perf_counter(), self._cpu_s()

    def _cpu_s(self) -> float:
        return time.process_time() + sum(map(cpu_s, self.pids))

    def passed(self) -> tuple[float, float]:
        """Seconds, and CPU seconds; processes that were named later count from their start."""
        return time.perf_counter() - self._began, self._cpu_s() - self._cpu


def _load() -> str:
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=MODELS)
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=PEERS)
    parser.add_argument("--clients", nargs="*", type=int, default=[1000, 10_000, 100_000])
    parser.add_argument("--seconds", type=float, default=1.0, help="of one of five measurements")
    given = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as scratch:
        with compile_service(Path(scratch), ()) as service:
            specs = {name: MODELS[name][1] for name in {*given.models, "mlp"}}
            artefacts = {name: service.submit(spec).result() for name, spec in specs.items()}
        if given.clients:
            table = Table(
                "clients", "start", f"round of {_PER_ROUND}", "evaluation by all", "memory",
                title=f"{_load()}; in brackets CPU of all processes",
            )  # fmt: skip
            for clients in given.clients:
                table.add_row(*scale(clients, artefacts["mlp"]))
            console.print(table)
        for name in given.models:
            digits = Task.of("mlp", artefacts["mlp"])
            console.print(compare(name, artefacts[name], digits, given.peers, given.seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
