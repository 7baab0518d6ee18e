"""Requests that take no time travel in few frames, and long ones one by one."""

from __future__ import annotations

from multiprocessing import Pipe
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from fieldtune.server.federation.fleet import Addressed
from fieldtune.simulations.fleet.frames import pack, unpack
from fieldtune.simulations.fleet.pool import WorkerPool
from support.timeline_contract import request


class Answering:
    """A worker that answers at once, and says that each request took it so long."""

    def __init__(self, each_s: float) -> None:
        self.connection, self._theirs = Pipe()
        self.frames: list[list[int]] = []
        """The clients of each frame."""
        self.process, self._each_s = self, each_s
        self._thread = Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        self._theirs.recv_bytes()
        self._theirs.send_bytes(pack({"facts": {}}))
        while True:
            try:
                asked = unpack(self._theirs.recv_bytes())[0]["requests"]
            except EOFError:
                return
            self.frames.append([client for _, _, client, *_ in asked])
            report = {"trial": 0, "round": 0, "failure": "error"}
            cpu_s = self._each_s * len(asked)
            reports = [(True, report, [])] * len(asked)
            self._theirs.send_bytes(pack({"reports": reports, "cpu_s": cpu_s}))

    def kill(self) -> None:
        pass

    def close(self) -> None:
        self.connection.close()
        self._thread.join()
        self._theirs.close()


@pytest.mark.parametrize(("each_s", "most"), [(1e-5, 9), (2.8e-4, 9), (1.0, 4)])
def test_requests_in_a_frame(each_s: float, most: int, tmp_path: Path) -> None:
    workers: list[Answering] = []

    def spawn(module: str, **_: Any) -> Answering:
        workers.append(Answering(each_s))
        return workers[-1]

    pool = WorkerPool({}, workers=2, log=tmp_path / "log", notes=print, spawn=spawn, replaced=0)
    pool.introduction()
    rounds = 0
    while rounds < 20 or not all(worker.frames for worker in workers):
        rounds += 1
        for worker in workers:
            worker.frames.clear()
        pool.put([Addressed(client, request(), b"model") for client in range(18)])
        answered = []
        while len(answered) < 18:
            answered += [reply.client for reply in pool.replies(20.0)]
        assert sorted(answered) == list(range(18))
    pool.close()
    sizes = [len(frame) for worker in workers for frame in worker.frames]
    assert max(sizes) == most
    assert (len(sizes) == 2) == (most == 9), "a fair share each, in one frame"
