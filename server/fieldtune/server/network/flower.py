"""What the coordinator of a real fleet uses of Flower beyond its public API, in one place.

The device's part is :mod:`fieldtune.client.flower`; here is what no device should have to load.
Holds for flwr 1.41; ``tests/network/test_flower.py`` is the contract.

A run's ServerApp is usually started by a ``flower-superexec`` in a process of its own. A study is
its own executor instead: it starts a run, claims it and talks to SuperLink through Flower's
``HttpGrid``. So progress, Ctrl-C and the exit code are the user's, and nothing on the coordinator
runs code that a run brings along.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import httpx
from flwr.app import Message
from flwr.cli.build import build_fab_from_files
from flwr.common.constant import SubStatus
from flwr.common.serde import run_from_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.proto.fab_pb2 import Fab
from flwr.proto.node_pb2 import NodeInfo
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    PullTaskInputRequest,
    PushTaskOutputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.supercore.constant import TaskType
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.retry import RetryInvoker, exponential
from flwr.supercore.run import RunNotRunningException
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.superlink.grid import HttpGrid

from fieldtune.client.flower import identify_process
from fieldtune.profiles.errors import FleetError
from fieldtune.server.network.folder import CoordinatorFolder
from fieldtune.server.network.run import Node, RunLostError

ENVIRONMENT = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}
"""For closed networks: Flower would otherwise call home, look for updates and install packages."""

CLIENT_APP = "fieldtune.client.supernode:app"
"""What a stock SuperNode runs; the light node needs no telling."""

# SuperLink wants a ServerApp named, which nothing loads: see above.
_APP = f"""\
[project]
name = "fieldtune"
version = "1.0.0"
description = "Runs the client that is installed on the device"
license = "Apache-2.0"
dependencies = []
[tool.flwr.app]
publisher = "fieldtune"
[tool.flwr.app.components]
serverapp = "fieldtune.server.app:app"
clientapp = "{CLIENT_APP}"
[tool.flwr.app.config]
"""

_COORDINATOR = 1  # Flower's node id of whoever sends a run's messages
_HEARTBEAT_S = 20.0  # SuperLink gives a run up after 60 s without one
_GIVE_UP_S = 900.0
_BLINK_S = 2.0
"""A connection that was idle is often closed and opened anew; that is not worth a word."""
_FINISHED = "finished"
_PASSING = (502, 503, 504)
"""What a busy or restarting SuperLink answers."""

logging.getLogger("flwr").setLevel(logging.ERROR)  # what matters is said in our own words

T = TypeVar("T")


def superlink_answers(folder: CoordinatorFolder) -> bool:
    """Whether the folder's SuperLink is up."""
    with _Control(folder) as control:
        try:
            control.client.ListNodes(ListNodesRequest())
        except httpx.TransportError:
            return False
    return True


def register_devices(folder: CoordinatorFolder) -> None:
    """Have SuperLink know exactly the folder's devices: add the new ones, remove the others.

    Raises:
        FleetError: SuperLink does not answer.
    """
    with _Control(folder) as control, _told(folder):
        wanted = {device.public_key_pem: device for device in folder.devices()}
        known = control.client.ListNodes(ListNodesRequest()).nodes_info
        for node in known:
            if node.status != "unregistered" and node.public_key not in wanted:
                control.client.UnregisterNode(UnregisterNodeRequest(node_id=node.node_id))
        registered = {node.public_key for node in known if node.status != "unregistered"}
        for key, device in wanted.items():
            if key not in registered:
                control.client.RegisterNode(RegisterNodeRequest(public_key=key, name=device.name))


def connected_devices(folder: CoordinatorFolder) -> list[Node]:
    """Who is connected now.

    Raises:
        FleetError: SuperLink does not answer.
    """
    with _Control(folder) as control, _told(folder):
        nodes = control.client.ListNodes(ListNodesRequest()).nodes_info
    return [_node(node) for node in nodes if node.status == "online"]


class SuperLinkRun:
    """One run on SuperLink, carried out by this process: its nodes, and messages to and fro.

    Args:
        folder: the coordinator's.
        notes: is told, in a sentence, when SuperLink stops and starts to answer.

    Raises:
        FleetError: SuperLink does not answer.
    """

    def __init__(self, folder: CoordinatorFolder, notes: Callable[[str], None]) -> None:
        self._folder, self._notes = folder, notes
        self._lost, self._closing = threading.Event(), threading.Event()
        with _told(folder):
            token = _claimed_run(folder)
        self._grid = _PatientGrid(folder, token, notes)
        given = self._grid.runtime.PullTaskInput(PullTaskInputRequest())
        identify_process(given.run.run_id, _COORDINATOR)
        self._grid.set_run(run_from_proto(given.run))
        self._heart = threading.Thread(target=self._beat, args=(token,), daemon=True)
        self._heart.start()

    def nodes(self) -> list[Node]:
        """Devices that are connected now."""
        return [_node(node) for node in self._call(self._grid.get_nodes)]

    def push(self, messages: Sequence[Message]) -> list[str | None]:
        """Send; each message's id, or None where SuperLink would not take it."""
        ids = self._call(lambda: list(self._grid.push_messages(messages)))
        return [message_id or None for message_id in ids] or [None] * len(messages)

    def pull(self, message_ids: Iterable[str]) -> list[Message]:
        """Replies, and errors in place of replies, that have come in for these messages."""
        wanted = list(message_ids)
        return list(self._call(lambda: self._grid.pull_messages(wanted))) if wanted else []

    def close(self, failed: str | None = None) -> None:
        """Have SuperLink end the run; what its devices still do is dropped."""
        self._closing.set()
        self._grid.patience_s = 0.0
        try:
            self._grid.runtime.PushTaskOutput(
                PushTaskOutputRequest(
                    sub_status=SubStatus.FAILED if failed else SubStatus.COMPLETED,
                    details=failed or "",
                )
            )
        except (httpx.HTTPError, FleetError, RunLostError):
            pass  # the next study stops what is left running
        finally:
            self._grid.close()

    def _call(self, what: Callable[[], T]) -> T:
        if self._lost.is_set():
            raise RunLostError
        try:
            return what()
        except (RunNotRunningException, httpx.HTTPStatusError) as refused:
            raise RunLostError from refused

    def _beat(self, token: str) -> None:
        client = _runtime_client(self._folder, RuntimeTokenHttpInterceptor(token=token))
        while not self._closing.wait(_HEARTBEAT_S):
            try:
                if not client.SendTaskHeartbeat(SendTaskHeartbeatRequest()).success:
                    self._lost.set()
            except httpx.TransportError:
                continue  # not there just now
            except httpx.HTTPStatusError:
                self._lost.set()
        client.close()


class _PatientGrid(HttpGrid):
    """Flower's grid, that waits for a SuperLink that is away and says so once."""

    def __init__(self, folder: CoordinatorFolder, token: str, notes: Callable[[str], None]) -> None:
        super().__init__(
            folder.settings.superlink_address,
            False,
            folder.ca_certificate.encode(),
            token=token,
        )
        self.patience_s = _GIVE_UP_S
        self._folder, self._notes = folder, notes
        self._away_since: float | None = None
        self._said = False
        self._retry_invoker = RetryInvoker(
            wait_gen_factory=lambda: exponential(0.5, max_delay=5),
            recoverable_exceptions=(httpx.TransportError, httpx.HTTPStatusError),
            max_tries=None,
            max_time=None,
            should_giveup=_is_final,
            on_success=lambda _: self._is_back(),
            on_backoff=lambda _: self._is_away(),
        )

    @property
    def runtime(self) -> RuntimeHttpClient:
        """The connection itself."""
        return self._runtime_client

    def _is_away(self) -> None:
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
        away_s = now - self._away_since
        if away_s >= _BLINK_S and not self._said:
            self._said = True
            self._notes(f"SuperLink does not answer: waiting for it ({_start(self._folder)})")
        if away_s >= self.patience_s:
            raise FleetError(
                f"SuperLink has not answered for {away_s / 60:.0f} minutes: "
                f"{_start(self._folder)} Once it is, the same command goes on"
            )

    def _is_back(self) -> None:
        if self._said and self._away_since is not None:
            self._notes(f"SuperLink is back after {time.monotonic() - self._away_since:.0f} s")
        self._away_since, self._said = None, False


class _Control:
    """SuperLink's interface for its owner; on loopback only."""

    def __init__(self, folder: CoordinatorFolder) -> None:
        self.client = ControlHttpClient.from_server_address(
            server_address=folder.settings.superlink_address,
            insecure=False,
            root_certificates=folder.ca_certificate.encode(),
            interceptors=[RuntimeVersionHttpInterceptor(component_name="fieldtune")],
        )

    def __enter__(self) -> _Control:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()


class _told:
    """A SuperLink that does not answer is one sentence."""

    def __init__(self, folder: CoordinatorFolder) -> None:
        self._folder = folder

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if isinstance(error, httpx.TransportError):
            raise FleetError(
                f"SuperLink does not answer on {self._folder.settings.superlink_address}: "
                f"{_start(self._folder)}"
            ) from None


def _claimed_run(folder: CoordinatorFolder) -> str:
    """Start a run, stopping what an earlier study left behind, and claim it; its token."""
    with _Control(folder) as control:
        for run_id, run in control.client.ListRuns(ListRunsRequest()).run_dict.items():
            if run.status.status != _FINISHED:
                control.client.StopRun(StopRunRequest(run_id=run_id))
        bundle, _ = build_fab_from_files({"pyproject.toml": _APP.encode()})
        started = control.client.StartRun(StartRunRequest(fab=Fab(content=bundle)))
    client = _runtime_client(
        folder,
        SuperExecAuthHttpInterceptor(
            master_secret=folder.executor_key,
            protected_methods={"/flwr.proto.Runtime/AcquireTask"},
        ),
    )
    try:
        claimed = client.AcquireTask(AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP]))
    finally:
        client.close()
    if not claimed.token or claimed.task.run_id != started.run_id:
        raise FleetError(
            "SuperLink gave the run to somebody else: a 'flower-superexec' is at work on it; "
            "end that and try again"
        )
    return str(claimed.token)


def _runtime_client(
    folder: CoordinatorFolder,
    interceptor: SuperExecAuthHttpInterceptor | RuntimeTokenHttpInterceptor,
) -> RuntimeHttpClient:
    return RuntimeHttpClient.from_server_address(
        server_address=folder.settings.superlink_address,
        insecure=False,
        root_certificates=folder.ca_certificate.encode(),
        interceptors=[RuntimeVersionHttpInterceptor(component_name="SuperExec"), interceptor],
    )


def _is_final(error: Exception) -> bool:
    return isinstance(error, httpx.HTTPStatusError) and error.response.status_code not in _PASSING


def _node(node: NodeInfo) -> Node:
    return Node(node.node_id, node.name, node.last_activated_at)


def _start(folder: CoordinatorFolder) -> str:
    return f"is 'fieldtune coordinator start {folder.path}' running?"
