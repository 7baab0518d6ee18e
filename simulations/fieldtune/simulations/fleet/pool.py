"""The simulator's worker processes: requests go to whichever is free, and replies come back.

Each worker can answer for any client, so reports do not depend on which worker answers, nor on the
order. No thread is needed: a worker is sent more when its reports are read.
"""

from __future__ import annotations

import json
import selectors
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fieldtune.profiles.common.errors import DataError, FleetError
from fieldtune.profiles.common.files import writing
from fieldtune.server.federation.fleet import Addressed, Reply, report_kind
from fieldtune.server.processes.child import Child, Spawn, tail
from fieldtune.simulations.fleet.frames import Before, Blob, Numbered, pack, unpack

_MOST_AT_ONCE = 16
"""Requests in a frame."""
_WORTHWHILE_S = 0.002
"""Work in a frame, beside which sending it takes no time."""


@dataclass(eq=False, slots=True)
class _Open:
    """A request without a report so far."""

    addressed: Addressed
    with_model: bool = False
    """Whether the artefact went with it."""
    lost: int = 0
    """How many processes have ended while they worked on it."""


@dataclass(eq=False)
class _Worker:
    """A worker process, and what it has been sent."""

    child: Any
    """As :class:`~fieldtune.server.processes.child.Child`."""
    lost: int = 0
    """How many of its processes have ended since one answered."""
    loaded: bool = False
    """Whether it has loaded the clients' data."""
    asked: Sequence[_Open] = ()
    """The requests that it works on."""
    used: Collection[int] = ()
    """Numbers of their large values."""
    artefacts: set[str] = field(default_factory=set)
    """SHA-256 of those that it has; it says so if it has dropped one."""
    held: set[int] = field(default_factory=set)
    """Numbers of the large values that it has."""
    drop: list[int] = field(default_factory=list)
    """Those of them that it is to drop with the next frame."""


class WorkerPool:
    """Worker processes for the clients of one plan.

    Args:
        setup: what each worker is told first (:mod:`~fieldtune.simulations.fleet.worker`).
        workers: number of processes.
        log: file for their output.
        notes: prints a sentence about each one that is replaced.
        spawn: starts a process; None: on this machine.
        replaced: how many times in a row a worker that ends is replaced; what it was asked is asked
            again, of any worker, but no more often: it may be what ends them.
    """

    def __init__(
        self,
        setup: Mapping[str, Any],
        *,
        workers: int,
        log: Path,
        notes: Callable[[str], None],
        spawn: Spawn | None,
        replaced: int,
    ) -> None:
        self._setup, self._log, self._notes = setup, log, notes
        self._spawn, self._replaced = spawn or Child, replaced
        self._introduction: tuple[dict[str, Any], list[Blob]] | None = None
        """What the first worker says of the data."""
        self._data_sha256 = ""
        self._queue: deque[_Open] = deque()
        self._numbered = Numbered()
        self._request_s = _WORTHWHILE_S
        """CPU time that a request has taken of late."""
        self._workers = [_Worker(self._started()) for _ in range(workers)]
        self._selector = selectors.DefaultSelector()
        for each in self._workers:
            self._set_up(each)

    def close(self) -> None:
        """Stop the workers; open requests are dropped."""
        self._selector.close()
        for each in self._workers:
            each.child.process.kill()
        for each in self._workers:
            each.child.close()

    def introduction(self) -> tuple[dict[str, Any], list[Blob]]:
        """What a worker says of the data; waits until it has loaded them.

        Raises:
            DataError: the data cannot be loaded.
            FleetError: a worker has ended.
        """
        while self._introduction is None:
            for key, _ in self._selector.select():
                self._hear(key.data)
        return self._introduction

    def put(self, requests: Iterable[Addressed]) -> None:
        """Queue requests, and send workers that are free the first of them."""
        self._queue.extend(map(_Open, requests))
        for worker in [*self._workers]:
            self._ask(worker)

    def replies(self, timeout_s: float) -> list[Reply]:
        """Replies that have come in, after waiting up to ``timeout_s`` for the first.

        Raises:
            DataError: the data cannot be loaded.
            FleetError: a worker has ended.
        """
        replies: list[Reply] = []
        until = time.monotonic() + timeout_s
        while not replies and (self._queue or any(each.asked for each in self._workers)):
            if not (ready := self._selector.select(max(until - time.monotonic(), 0.0))):
                break
            for key, _ in ready:
                replies += self._hear(key.data)
        return replies

    def _hear(self, worker: _Worker) -> list[Reply]:
        """Read what a worker sends, and send it the next requests; the replies in it."""
        try:
            frame = worker.child.connection.recv_bytes()
        except (EOFError, OSError) as ended:
            self._end(worker, ended)
            return []
        worker.lost = 0
        if worker.loaded:
            (asked, used), worker.asked, worker.used = (worker.asked, worker.used), (), ()
            self._ask(worker)  # before values are released that the next requests use too
            replies = self._replies(asked, frame)
            self._release(used)
            return replies
        header, sizes = unpack(frame)
        if "data_error" in header:
            raise DataError(header["data_error"])
        if "facts" in header:
            self._introduction = header, sizes
        self._check_same_data(header.get("facts", header).get("data_sha256", ""))
        worker.loaded = True
        self._ask(worker)
        return []

    def _check_same_data(self, sha256: str) -> None:
        """Refuse data that are not the same in each worker."""
        self._data_sha256 = self._data_sha256 or sha256
        if sha256 and sha256 != self._data_sha256:
            raise DataError(
                "task.data loads other samples each time that it is called, and each process calls "
                "it: give its random numbers a seed, as numpy.random.default_rng(0)"
            )

    def _ask(self, worker: _Worker) -> None:
        """Send a worker the next requests if it is free."""
        if worker.asked or not self._queue or not worker.loaded:
            return
        rows, models, before, used = [], list[Blob](), Before(), set[int]()
        asked = [self._queue.popleft() for _ in range(self._share())]
        for each in asked:
            request, model = each.addressed.request, None
            first, small, large = before.apart(request)
            numbers = {}
            for name, value in large.items():
                numbers[name] = number = self._numbered.of(value)
                used.add(number)
            if request.artefact not in worker.artefacts:
                worker.artefacts.add(request.artefact)
                each.with_model, model = True, len(models)
                models.append(each.addressed.model)
            kind, client = type(request).__name__, each.addressed.client
            rows.append((first, kind, client, small, numbers, model))
        self._numbered.use(used)
        new = [number for number in used if number not in worker.held]
        worker.held.update(new)
        header = {"requests": rows, "new": new, "drop": worker.drop}
        worker.asked, worker.used, worker.drop = asked, used, []
        values = [self._numbered[number] for number in new]
        try:
            worker.child.connection.send_bytes(pack(header, [*values, *models]))
        except OSError as ended:
            self._end(worker, ended)

    def _share(self) -> int:
        """How many requests a free worker gets: half a fair share, so that none idles at the end.

        Of requests that take no time it gets more, up to a fair share of all open ones: then
        sending another frame would take longer than a worker may idle. A share that is worth no
        more than one frame goes in one, since a small rest would be one worker's alone.
        """
        waiting, workers = len(self._queue), len(self._workers)
        fair = -(-(waiting + sum(len(each.asked) for each in self._workers)) // workers)
        frames = max(fair // (int(_WORTHWHILE_S / self._request_s) + 1), 1)
        return min(max(waiting // (2 * workers), -(-fair // frames)), waiting, _MOST_AT_ONCE)

    def _replies(self, asked: Sequence[_Open], frame: bytes) -> list[Reply]:
        """The replies in a frame; a request whose artefact the worker had dropped is sent again."""
        header, blobs = unpack(frame)
        took_s = max(header["cpu_s"] / len(asked), 1e-6)
        self._request_s += 0.2 * (took_s - self._request_s)
        before, values = Before(), iter(blobs)
        replies, again = [], []
        for each, (first, changed, names) in zip(asked, header["reports"], strict=True):
            changed.update(zip(names, values, strict=False))
            report = before.whole(report_kind(each.addressed.request), first, changed)
            if report.failure == "artefact_missing" and not each.with_model:
                again.append(each.addressed)
            else:
                replies.append(Reply(each.addressed.client, report))
        if again:
            for worker in self._workers:
                worker.artefacts.difference_update(each.request.artefact for each in again)
            self.put(again)
        return replies

    def _release(self, used: Iterable[int]) -> None:
        """Have the workers drop large values that no frame uses any more."""
        if unused := self._numbered.release(used):
            for worker in self._workers:
                worker.drop += worker.held.intersection(unused)
                worker.held.difference_update(unused)

    def _started(self) -> Any:
        with writing(self._log), self._log.open("ab") as output:
            return self._spawn("fieldtune.simulations.fleet.worker", log=output, env={})

    def _set_up(self, worker: _Worker) -> None:
        """Tell a worker what to simulate; the first one says what the data are."""
        introduces = worker is self._workers[0] and self._introduction is None
        setup = {**self._setup, "introduces": introduces}
        worker.child.connection.send_bytes(json.dumps(setup).encode())
        self._selector.register(worker.child.connection, selectors.EVENT_READ, worker)

    def _end(self, worker: _Worker, why: Exception) -> None:
        """Replace a worker that has ended; what it was asked comes first."""
        self._selector.unregister(worker.child.connection)
        worker.child.close()
        worker.lost += 1
        for each in reversed(worker.asked):
            each.with_model, each.lost = False, each.lost + 1
            self._queue.appendleft(each)
        ends_workers = any(each.lost > self._replaced for each in worker.asked)
        for kept in (worker.artefacts, worker.held, worker.drop):
            kept.clear()
        self._release(worker.used)
        worker.loaded, worker.asked, worker.used = False, (), ()
        if worker.lost <= self._replaced and not ends_workers:
            self._notes("A simulation worker was lost: what it was asked is done again")
            worker.child = self._started()
            self._set_up(worker)
        else:
            self._workers.remove(worker)
            if ends_workers or not self._workers or self._introduction is None:
                raise FleetError(
                    f"A simulation worker ended unexpectedly: {tail(self._log) or why}"
                ) from None
        for other in [*self._workers]:
            self._ask(other)
