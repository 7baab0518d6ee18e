"""Two hundred light clients on one coordinator for ten minutes: what it carries, what gives way.

usage: python tests/network/load.py [--clients 200] [--minutes 10] [--work-s 0] [--weights 10000]
to try it: --clients 10 --minutes 0.5

Not part of the tests. A real coordinator (SuperLink behind its proxy) and light nodes on loopback:
each has its own key and certificate, connects, waits for messages and sends heartbeats as a device
does, and replies with weights of the same size, but trains nothing; with ``--work-s`` it sleeps as
long as a training would take. The run asks a client again as soon as it has answered. All of it
shares this machine's cores, so the figures are of what the coordinator carries at least; the CPU
time of a request is its own. Memory is VmRSS, CPU time utime + stime of proc(5).
"""

from __future__ import annotations

import argparse
import os
import resource
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

from echo_devices import Complaints, EchoDevice, asking, cpu_s

from fieldtune.server.devices.superlink_run import SuperLinkRun
from support.deployment import Deployment, run_script

EVERY_S = 5.0
"""Between two looks at the processes."""
CONNECTED_WITHIN_S, SETTLES_S = 900.0, 30.0


@dataclass
class Watched:
    """A process over time."""

    name: str
    pid: int
    mib: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    def look(self) -> None:
        """Note its memory and CPU time."""
        status = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        self.mib.append(
            next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024
        )
        self.cpu_s.append(cpu_s(self.pid))


def tree(pid: int) -> list[int]:
    """A process and what it started."""
    found = [pid]
    for each in found:
        found += map(int, Path(f"/proc/{each}/task/{each}/children").read_text().split())
    return found


def watched_of(deployment: Deployment) -> list[Watched]:
    """The processes of the coordinator that hold more than 20 MiB, and this one."""
    found = [Watched("clients and run", os.getpid())]
    for top in deployment.coordinator.children():
        for pid in tree(top):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            name = "proxy" if "nginx" in command else "SuperLink"
            found.append(Watched(name, pid))
    return found


def database_mib(deployment: Deployment) -> float:
    """What SuperLink keeps on the disk."""
    return sum(file.stat().st_size for file in deployment.path.glob("**/superlink.db*")) / 2**20


def load(
    deployment: Deployment,
    clients: list[EchoDevice],
    complaints: Complaints,
    given: argparse.Namespace,
) -> Table:
    """Ask the clients again and again; the figures."""
    place, notes = deployment.opened(), list[str]()
    weights = np.random.default_rng(0).normal(size=given.weights).astype(np.float32)
    answered = asked = 0
    took, sizes = list[float](), list[float]()
    with place.in_use():
        run = SuperLinkRun(place, notes.append)
        until = time.monotonic() + CONNECTED_WITHIN_S
        while len(nodes := run.nodes()) < len(clients):
            assert time.monotonic() < until, f"{len(nodes)} of {len(clients)} are connected"
            time.sleep(1)
        watched, open_ = watched_of(deployment), dict[str, tuple[int, float]]()
        turns = dict.fromkeys(range(len(nodes)), 0)  # client -> how often it was asked
        idle = list(turns)
        began, look_at = time.monotonic(), 0.0
        end = began + 60 * given.minutes
        while time.monotonic() < end:
            if idle:
                batch = [
                    asking(nodes[number].node_id, number, turns[number], weights) for number in idle
                ]
                sent_at, refused = time.monotonic(), []
                for number, message_id in zip(idle, run.push(batch), strict=True):
                    if message_id is None:
                        refused.append(number)
                        continue
                    open_[message_id] = number, sent_at
                    asked, turns[number] = asked + 1, turns[number] + 1
                idle = refused
            for reply in run.pull(list(open_)):
                number, sent_at = open_.pop(reply.metadata.reply_to_message_id)
                took.append(time.monotonic() - sent_at)
                answered += not reply.has_error()
                idle.append(number)
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + EVERY_S
                sizes.append(database_mib(deployment))
                for each in watched:
                    each.look()
            time.sleep(0.1)
        seconds = time.monotonic() - began
        sizes.append(database_mib(deployment))
        for each in watched:
            each.look()
        run.close()
    for each in clients:
        each.end()
    time.sleep(SETTLES_S)
    for each in watched:
        each.look()
    failed = complaints.count
    calls = sum((each.calls for each in clients), Counter[str]())
    calls_s = sum(w.cpu_s[-2] - w.cpu_s[0] for w in watched if w.name == "SuperLink")
    table = Table("what", "figure")
    rows = [
        ("clients, minutes, weights", f"{len(clients)}, {given.minutes:g}, {given.weights}"),
        ("load of this machine, 1 and 15 minutes", "{0:.1f}, {2:.1f}".format(*os.getloadavg())),
        ("requests answered", f"{answered} of {asked}, {answered / seconds:.1f} a second"),
        ("calls of clients, from their start", f"{calls.total()}: {dict(calls.most_common(5))}"),
        ("clients that lost their connection, or had to repeat a call", f"{failed.total()}"),
        *((f"  {what}", str(count)) for what, count in failed.most_common(5)),
        ("said meanwhile", "; ".join(notes) or "nothing"),
        ("SuperLink's CPU time", f"{calls_s:.0f} s, {calls_s / max(answered, 1):.3f} s a request"),
        ("database", _over_time([*sizes, database_mib(deployment)])),
    ]
    if took:
        median, most, longest = np.quantile(took, [0.5, 0.95, 1.0])
        said = f"median {median:.1f} s, 95 % within {most:.1f} s, longest {longest:.1f} s"
        rows.insert(3, ("from request to reply", said))
    for each in watched:
        busy = 100 * (each.cpu_s[-2] - each.cpu_s[0]) / seconds
        if max(each.mib) > 20 or busy > 1:
            rows.append((f"{each.name}: memory", _over_time(each.mib)))
            rows.append((f"{each.name}: CPU", f"{busy:.0f} % of a core"))
    for row in rows:
        table.add_row(*row)
    return table


def _over_time(mib: list[float]) -> str:
    """The last value is from some time after the end."""
    return (
        f"{mib[0]:.1f} MiB at the start, at most {max(mib):.1f}, {mib[-2]:.1f} at the end, "
        f"{mib[-1]:.1f} afterwards"
    )


def main() -> None:
    """Start everything, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--work-s", type=float, default=0.0, help="of a training")
    parser.add_argument("--weights", type=int, default=10_000)
    given = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory(prefix="fieldtune-load-") as scratch:
        deployment = Deployment(Path(scratch))
        deployment.init()
        bundles = [deployment.opened().enroll(f"pi-{n}")[1] for n in range(given.clients)]
        complaints = Complaints()
        clients = [
            EchoDevice(bundle, deployment.folder / bundle.name, given.work_s) for bundle in bundles
        ]
        try:
            deployment.start()
            for each in clients:
                each.start()
            Console(width=150).print(load(deployment, clients, complaints, given))
        finally:
            deployment.end()


if __name__ == "__main__":
    run_script(main)
