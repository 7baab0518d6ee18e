"""Child processes on the machines of a Ray cluster.

An actor of Ray starts the same ``python -m module`` as :class:`Child` does, on a node that Ray
chooses, and passes frames on. So the processes and their results do not depend on the engine.

Ray moves the frames with its own protocol, which trusts every machine of the cluster.
"""

from __future__ import annotations

import logging
import os
import socket
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import Pipe
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import ray as _ray

from fieldtune.server.processes.child import Child, tail

_RAY: Any = _ray  # its functions have no types
_Reference = Any
"""Of Ray: an answer that is to come."""

_ANSWERS_S = 10.0
_PATIENCE_S = 20.0
"""After this long without a worker the user is told."""


class RayCluster:
    """A connection to a Ray cluster, or a cluster on this machine.

    Args:
        address: of the cluster's head, such as ``10.0.0.1:6379`` or ``auto``; None: start a
            cluster on this machine, which ends with the connection.
        notes: prints a sentence.

    Raises:
        ConnectionError: there is no cluster at this address.
    """

    def __init__(self, address: str | None, notes: Callable[[str], None]) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self._notes, self._said = notes, False
        if address is not None and ":" in address:
            host, _, port = address.rpartition(":")
            try:  # Ray itself tries for minutes
                socket.create_connection((host, int(port)), timeout=_ANSWERS_S).close()
            except (OSError, ValueError, OverflowError) as away:
                raise ConnectionError(str(away)) from None
        try:
            _RAY.init(
                address=address or "local",
                include_dashboard=None if address else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                namespace="fieldtune",
            )
        except (ValueError, RuntimeError) as away:
            raise ConnectionError(str(away)) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _RAY.shutdown()

    @property
    def cpus(self) -> int:
        """CPUs of all nodes."""
        return int(_RAY.cluster_resources().get("CPU", 0))

    @property
    def nodes(self) -> int:
        """Number of nodes that answer."""
        return sum(node["Alive"] for node in _RAY.nodes())

    def worker(self, module: str, *, log: IO[bytes] | int, env: dict[str, str]) -> RayChild:
        """A process that occupies a CPU of some node; ``log`` is unused, as it may be elsewhere."""
        options = {"num_cpus": 1, "scheduling_strategy": "SPREAD"}
        return RayChild(module, env, options, self._wait_for)

    def compiler(self, module: str, *, log: IO[bytes] | int, env: dict[str, str]) -> RayChild:
        """A process beside the workers, which it must not have to wait for."""
        return RayChild(module, env, {"num_cpus": 0}, self._wait_for)

    def _wait_for(self, started: _Reference) -> None:
        """Wait until a process has started, and say so once if that takes long."""
        if not _RAY.wait([started], timeout=_PATIENCE_S)[0] and not self._said:
            self._said = True
            self._notes(
                "The Ray cluster has not started a worker yet; if it has no free CPU, it waits "
                "for one"
            )
        _RAY.get(started)


class RayChild:
    """A process on a node of the cluster, with the interface of :class:`Child`.

    A thread passes on what is written to ``connection``, frame by frame: each has one answer. The
    connection ends when the process, its node or the cluster ends.
    """

    def __init__(
        self,
        module: str,
        env: dict[str, str],
        options: dict[str, Any],
        wait_for: Callable[[_Reference], None],
    ) -> None:
        self._relay: Any = _RAY.remote(_Relay).options(**options).remote(module, env)
        self._wait_for = wait_for
        self._ended: int | None = None
        self.process = self
        self.connection, self._theirs = Pipe()
        self._thread = threading.Thread(target=self._pass_on, daemon=True)
        self._thread.start()

    def _pass_on(self) -> None:
        with self._theirs, suppress(EOFError, OSError, _RAY.exceptions.RayError):
            self._wait_for(self._relay.started.remote())
            while True:
                frame = self._theirs.recv_bytes()
                self._theirs.send_bytes(_RAY.get(self._relay.exchange.remote(frame)))
        self._ended = 1

    def poll(self) -> int | None:
        """None while it runs."""
        return self._ended

    @property
    def returncode(self) -> int | None:
        """The same."""
        return self._ended

    def kill(self) -> None:
        """End it."""
        if _RAY.is_initialized():
            _RAY.kill(self._relay)

    def close(self) -> None:
        """End it, and wait for that."""
        self.connection.close()
        self.kill()
        self._thread.join()


class _Relay:
    """The actor: runs the process on its node."""

    def __init__(self, module: str, env: dict[str, str]) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="fieldtune-", ignore_cleanup_errors=True)
        self._log = Path(self._scratch.name) / "log"
        with self._log.open("ab") as output:
            self._child = Child(module, log=output, env=env | {"TMPDIR": self._scratch.name})

    def started(self) -> None:
        """Answers once the actor runs on its node."""

    def exchange(self, frame: bytes) -> bytes:
        try:
            self._child.connection.send_bytes(frame)
            return self._child.connection.recv_bytes()
        except (EOFError, OSError):
            raise RuntimeError(f"the process has ended: {tail(self._log)}") from None
