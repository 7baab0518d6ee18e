"""A Flower Grid without a SuperLink, which sends messages to worker processes on this machine.

Each worker can simulate any client of the fleet and runs the real ClientApp on serialised messages.
A free worker takes a small batch of messages from the queue; results do not depend on which worker
processes a message.
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
    set_message_id,
)
from fieldtune.profiles.common.errors import DataError, FleetError
from fieldtune.profiles.common.files import writing
from fieldtune.server.processes.child import Child, pack_frame, tail, unpack_frame
from fieldtune.server.study.data_facts import DataFacts
from fieldtune.simulations.fleet.plan import RUN_ID, FleetPlan, node_ids

_BATCH_MESSAGES = 4
_COORDINATOR = 1


class SimulationGrid(Grid):
    """Flower's Grid over worker processes.

    Args:
        plan: the fleet.
        workers: number of worker processes.
        import_path: folders in which to look for the user's modules.
        log: file for the output of the workers.

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
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._replies: dict[str, Message] = {}
        self._arrived = threading.Condition()
        self._broken: Exception | None = None
        self._facts: DataFacts | None = None
        with writing(log), log.open("ab") as output:
            self._children = [
                Child("fieldtune.simulations.fleet.worker", log=output, env={})
                for _ in range(workers)
            ]
        setup = {"plan": plan.to_json(), "import_path": list(import_path)}
        for child in self._children:
            first = child is self._children[0]
            child.connection.send_bytes(pack_frame({**setup, "asks_for_facts": first}))
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
        """Stop the workers; unanswered messages are dropped."""
        for child in self._children:
            child.process.kill()
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
        for child in self._children:
            child.close()

    def set_run(self, run: Run) -> None:
        """Set Flower's description of the run."""
        self._run = run

    @property
    def facts(self) -> DataFacts:
        """What the data set and its partition are; waits until a worker has loaded them.

        Raises:
            DataError: the data cannot be loaded.
            FleetError: the worker has ended.
        """
        with self._arrived:
            self._arrived.wait_for(lambda: self._facts is not None or self._broken is not None)
            if self._facts is None:
                assert self._broken is not None
                raise self._broken
            return self._facts

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
        """Create a message (deprecated by Flower in favour of ``Message(...)``)."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """All node ids; simulated nodes are always online."""
        return list(node_ids(self._plan.clients))

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Queue messages for the workers; returns their ids."""
        ids = []
        for message in messages:
            ids.append(f"m{next(self._numbers)}")
            set_message_id(message, ids[-1])
            self._queue.put(message_to_bytes(message))
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Replies to these messages that have arrived; waits briefly if there are none."""
        wanted = list(message_ids)
        with self._arrived:
            if not self._ready(wanted):
                self._arrived.wait(0.05)
            return [self._replies.pop(number) for number in self._ready(wanted)]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Push messages, then pull until all replies have arrived or the timeout expires."""
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
        """Thread of one worker: sends it messages and receives its replies."""
        try:
            setup, _ = unpack_frame(child.connection.recv_bytes())
            if "data_error" in setup:
                raise DataError(setup["data_error"])
            if setup["facts"] is not None:
                with self._arrived:
                    self._facts = DataFacts.of(setup["facts"])
                    self._arrived.notify_all()
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
        """The next batch of messages; None after :meth:`close`."""
        first = self._queue.get()
        if first is None:
            return None
        frames = [first]
        # At most a fair share, so that no other worker idles.
        share = min(_BATCH_MESSAGES, 1 + self._queue.qsize() // len(self._threads))
        while len(frames) < share:
            try:
                more = self._queue.get_nowait()
            except queue.Empty:
                break
            if more is None:
                self._queue.put(None)
                break
            frames.append(more)
        return frames

    def _fail(self, error: Exception) -> None:
        with self._arrived:
            self._broken = self._broken or error
            self._arrived.notify_all()
