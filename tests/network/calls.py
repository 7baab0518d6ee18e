"""Calls and bytes of a training, and of an idle device: counted, not timed.

usage: python tests/network/calls.py [--devices 4] [--rounds 5] [--weights 10000] [--idle-s 300]

A real coordinator (SuperLink behind its proxy) and light nodes that train nothing, on loopback. The
devices connect through a relay that counts bytes, segments and connections; bytes on the wire are
those and 52 a segment (IPv4 and TCP headers). An idle device is counted from 130 s after its last
message, when it takes part in no study. SuperLink's CPU time is utime + stime of proc(5). At the
end the coordinator is restarted; the devices' log tells when each is connected again.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import socket
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from echo_devices import EchoDevice, asking, cpu_s

from fieldtune.server.devices.superlink_run import SuperLinkRun
from support.deployment import Deployment, run_script, wait_until

SETTLES_S, ALONE_S = 130.0, 60.0
HEADERS = 52
_TCP_INFO_BYTES, _SEGMENTS_AT = 192, 136


@dataclass
class Traffic:
    """What went through a relay."""

    connections: int = 0
    bytes: int = 0
    segments: int = 0

    def since(self, before: Traffic) -> Traffic:
        """The difference."""
        return Traffic(
            self.connections - before.connections,
            self.bytes - before.bytes,
            self.segments - before.segments,
        )

    @property
    def on_the_wire(self) -> int:
        """Bytes with headers of IP and TCP."""
        return self.bytes + HEADERS * self.segments


class Connected(logging.Handler):
    """Notes when devices log that they are connected, in Unix time."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.at: list[float] = []
        logger = logging.getLogger("fieldtune.client.node.node")
        logger.setLevel(logging.INFO)
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Note one."""
        if str(record.msg).startswith("connected to"):
            self.at.append(record.created)


class Relay:
    """Passes connections on to a port, and counts.

    Args:
        port: of the coordinator.
    """

    def __init__(self, port: int) -> None:
        self._to, self._passed, self._open = port, Traffic(), set[socket.socket]()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        starting = asyncio.start_server(self._connected, "127.0.0.1", 0)
        server = asyncio.run_coroutine_threadsafe(starting, self._loop).result()
        self.port = server.sockets[0].getsockname()[1]

    def passed(self) -> Traffic:
        """All so far."""
        segments = self._passed.segments + sum(map(_segments, tuple(self._open)))
        return Traffic(self._passed.connections, self._passed.bytes, segments)

    async def _connected(
        self, device: asyncio.StreamReader, to_device: asyncio.StreamWriter
    ) -> None:
        connection = to_device.get_extra_info("socket")
        try:
            proxy, to_proxy = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            to_device.close()
            return
        self._open.add(connection)
        self._passed.connections += 1
        await asyncio.gather(self._pass(device, to_proxy), self._pass(proxy, to_device))
        self._open.discard(connection)

    async def _pass(self, source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        try:
            while part := await source.read(65536):
                self._passed.bytes += len(part)
                to.write(part)
                await to.drain()
        except OSError:
            pass
        connection = to.get_extra_info("socket")
        if connection in self._open:
            self._passed.segments += _segments(connection)
            self._open.discard(connection)
        to.close()


def _segments(connection: socket.socket) -> int:
    """Segments sent and received, of struct tcp_info in linux/tcp.h."""
    try:
        known = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    except OSError:
        return 0
    return sum(struct.unpack_from("II", known, _SEGMENTS_AT))


class Counted:
    """All counters at one moment."""

    def __init__(
        self, devices: list[EchoDevice], run: Counter[str], relay: Relay, pid: int
    ) -> None:
        self.of_devices = sum((each.calls for each in devices), Counter[str]())
        self.of_run, self.traffic = Counter(run), relay.passed()
        self.cpu_s, self.at = cpu_s(pid), time.monotonic()


def rounds(run: SuperLinkRun, given: argparse.Namespace) -> None:
    """Ask all devices for so many rounds, as a study does."""
    weights = np.random.default_rng(0).normal(size=given.weights).astype(np.float32)
    wait_until(lambda: len(run.nodes()) == given.devices, "not all devices have connected")
    nodes = run.nodes()
    for turn in range(given.rounds):
        open_ = run.push([
            asking(node.node_id, number, turn, weights + turn)
            for number, node in enumerate(nodes)
        ])  # fmt: skip
        left, pause_s = {each for each in open_ if each}, 0.02
        while left:
            time.sleep(pause_s)
            replies = run.pull(left)
            assert not any(reply.has_error() for reply in replies)
            left -= {reply.metadata.reply_to_message_id for reply in replies}
            pause_s = 0.02 if replies else min(2 * pause_s, 0.5)


def count(deployment: Deployment, given: argparse.Namespace) -> Table:
    """The figures."""
    relay, run_calls = Relay(deployment.port), Counter[str]()
    bundles = [deployment.opened().enroll(f"pi-{n}")[1] for n in range(given.devices)]
    deployment.start()
    pid = deployment.coordinator.children()[0]
    time.sleep(ALONE_S / 2)  # until it has settled
    alone_s = cpu_s(pid)
    time.sleep(ALONE_S)
    alone = (cpu_s(pid) - alone_s) / ALONE_S
    devices = [
        EchoDevice(
            bundle.model_copy(update={"address": f"localhost:{relay.port}"}),
            deployment.folder / bundle.name,
        )
        for bundle in bundles
    ]
    for device in devices:
        device.start()
    place = deployment.opened()
    with place.in_use():
        run = SuperLinkRun(place, print)
        client = run._client._client
        client.event_hooks = {
            **client.event_hooks,
            "request": [lambda request: run_calls.update([request.url.path.rpartition("/")[2]])],
        }
        rounds(run, argparse.Namespace(**vars(given) | {"rounds": 1}))
        begun = Counted(devices, run_calls, relay, pid)
        rounds(run, given)
        done = Counted(devices, run_calls, relay, pid)
        run.close()
    time.sleep(SETTLES_S)
    rests = Counted(devices, run_calls, relay, pid)
    time.sleep(given.idle_s)
    rested = Counted(devices, run_calls, relay, pid)

    trainings = given.devices * given.rounds
    table = Table("what", "figure", "of which")
    for name, before, after in (
        ("a device", begun.of_devices, done.of_devices),
        ("the coordinator", begun.of_run, done.of_run),
    ):
        calls = after - before
        each = ", ".join(f"{what} {n / trainings:.1f}" for what, n in calls.most_common())
        table.add_row(f"calls of {name} a training", f"{calls.total() / trainings:.1f}", each)
    worked = done.traffic.since(begun.traffic)
    table.add_row("bytes on the wire a training", f"{worked.on_the_wire / trainings:,.0f}", "")
    table.add_row(
        "SuperLink's CPU time a training", f"{(done.cpu_s - begun.cpu_s) / trainings:.3f} s", ""
    )
    hours = given.devices * (rested.at - rests.at) / 3600
    calls = rested.of_devices - rests.of_devices
    each = ", ".join(f"{what} {n / hours:.0f}" for what, n in calls.most_common())
    table.add_row("calls of an idle device an hour", f"{calls.total() / hours:.0f}", each)
    idle = rested.traffic.since(rests.traffic)
    table.add_row("its connections an hour", f"{idle.connections / hours:.0f}", "")
    table.add_row("its MB on the wire a day", f"{24 * idle.on_the_wire / hours / 1e6:.2f}", "")
    table.add_row("its bytes on the wire a call", f"{idle.on_the_wire / calls.total():,.0f}", "")
    deployment.coordinator.end()
    back = Connected()
    deployment.start()
    ready = time.time()
    wait_until(lambda: len(back.at) == given.devices, "not all devices are back")
    table.add_row(
        "connected again, after the coordinator was ready", f"{max(back.at) - ready:.1f} s",
        f"the first after {min(back.at) - ready:.1f} s",
    )  # fmt: skip
    share = ((rested.cpu_s - rests.cpu_s) / (rested.at - rests.at) - alone) / given.devices
    without = f"{100 * alone:.2f} % without any device"
    table.add_row("SuperLink's CPU time for it", f"{100 * share:.3f} % of a core", without)
    table.add_row("load of this machine", f"{os.getloadavg()[0]:.1f}", "")
    for device in devices:
        device.end()
    return table


def main() -> None:
    """Start everything, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--devices", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--weights", type=int, default=10_000)
    parser.add_argument("--idle-s", type=float, default=300.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fieldtune-calls-") as scratch:
        deployment = Deployment(Path(scratch))
        deployment.init()
        try:
            Console(width=150).print(count(deployment, given))
        finally:
            deployment.end()


if __name__ == "__main__":
    run_script(main)
