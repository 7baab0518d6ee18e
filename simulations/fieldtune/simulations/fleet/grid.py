"""A Flower Grid without a SuperLink: messages go to worker processes on this machine.

Each worker holds the whole simulated fleet and runs the real ClientApp on the messages it is
handed, as bytes, just as they would travel. A worker does a few messages at a time; whichever is
free takes the next ones, and nothing that a client computes depends on which.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fieldtune.client.node.fleet_api import (
    Run,
    empty_run,
    identify_process,
    message_from_bytes,
    message_to_bytes,
    number_message,
)
from fieldtune.profiles.common.errors import DataError, FleetError
from fieldtune.profiles.common.files import writing
from fieldtune.server.processes.child import Child, pack_frame, tail, unpack_frame
from fieldtune.simulations.fleet.plan import RUN_ID, FleetPlan, node_ids

_AT_A_TIME = 4
_COORDINATOR = 1


class SimulationGrid(Grid):
    """Flower's Grid over worker processes.

    Args:
        plan: the fleet.
        workers: processes to run clients in.
        import_path: folders for a user's own modules.
        log: where the workers' own output goes.

    Raises:
        DataError: the fleet's data cannot be loaded.
        FleetError: a worker does not start.
    """

    def __init__(
        self, plan: FleetPlan, *, workers: int, import_path: Sequence[str], log: Path
    ) -> None:
        identify_process(RUN_ID, _COORDINATOR)
        self._plan, self._log, self._run = plan, log, empty_run(RUN_ID)
        self._numbers = itertools.count(1)
        self._todo: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._replies: dict[str, Message] = {}
        self._arrived = threading.Condition()
        self._broken: Exception | None = None
        self._dealt = ""
        with writing(log), log.open("ab") as output:
            self._children = [
                Child("fieldtune.simulations.fleet.worker", log=output, env={})
                for _ in range(workers)
            ]
        hello = pack_frame({"plan": plan.to_json(), "import_path": list(import_path)})
        for child in self._children:
            child.connection.send_bytes(hello)
        self._threads = [
            threading.Thread(target=self._serve, args=(child,), daemon=True)
            for child in self._children
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the workers; messages that were not answered are dropped."""
        for child in self._children:
            child.process.kill()
        for _ in self._threads:
            self._todo.put(None)
        for thread in self._threads:
            thread.join()
        for child in self._children:
            child.close()

    def set_run(self, run: Run) -> None:
        """Take Flower's description of the run."""
        self._run = run

    @property
    def dealt(self) -> str:
        """How the samples were dealt out, in a few words; known once a node has replied."""
        return self._dealt

    @property
    def run(self) -> Run:
        """Flower's description of the run."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Make a message (Flower deprecates this in favour of ``Message(...)``)."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """All nodes; a simulated one is always there."""
        return list(node_ids(self._plan.clients))

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Queue messages for the workers; their ids."""
        ids = []
        for message in messages:
            ids.append(f"m{next(self._numbers)}")
            number_message(message, ids[-1])
            self._todo.put(message_to_bytes(message))
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Replies to these messages that have arrived; waits a moment for the first."""
        wanted = list(message_ids)
        with self._arrived:
            if not self._ready(wanted):
                self._arrived.wait(0.05)
            return [self._replies.pop(number) for number in self._ready(wanted)]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Push, then pull until all replies are in or the time is up."""
        missing = set(self.push_messages(messages))
        give_up = time.monotonic() + (timeout if timeout is not None else float("inf"))
        replies: list[Message] = []
        while missing and time.monotonic() < give_up:
            pulled = self.pull_messages(missing)
            missing -= {reply.metadata.reply_to_message_id for reply in pulled}
            replies += pulled
        return replies

    def _ready(self, wanted: Sequence[str]) -> list[str]:
        if self._broken is not None:
            raise self._broken
        return [number for number in wanted if number in self._replies]

    def _serve(self, child: Child) -> None:
        """Feed one worker: hand it messages, take its replies."""
        try:
            hello, _ = unpack_frame(child.connection.recv_bytes())
            if "data_error" in hello:
                raise DataError(hello["data_error"])
            self._dealt = str(hello["dealt"])
            while (frames := self._take()) is not None:
                child.connection.send_bytes(pack_frame({}, frames))
                _, answers = unpack_frame(child.connection.recv_bytes())
                replies = [message_from_bytes(answer) for answer in answers]
                with self._arrived:
                    for reply in replies:
                        self._replies[reply.metadata.reply_to_message_id] = reply
                    self._arrived.notify_all()
        except DataError as refused:
            self._fail(refused)
        except (EOFError, OSError):
            self._fail(FleetError(f"A simulation worker ended unexpectedly: {tail(self._log)}"))

    def _take(self) -> list[bytes] | None:
        """The next few messages, or None when there will be no more."""
        first = self._todo.get()
        if first is None:
            return None
        frames = [first]
        # No more than a fair share, so that the other workers are not left idle.
        share = min(_AT_A_TIME, 1 + self._todo.qsize() // len(self._threads))
        while len(frames) < share:
            try:
                more = self._todo.get_nowait()
            except queue.Empty:
                break
            if more is None:
                self._todo.put(None)
                break
            frames.append(more)
        return frames

    def _fail(self, error: Exception) -> None:
        with self._arrived:
            self._broken = self._broken or error
            self._arrived.notify_all()
