"""Calls of SuperLink's Control API: register devices, list them, start a run.

The API is protobuf over HTTP, on the loopback interface.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import logging
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from fieldtune.profiles.common.errors import FleetError
from fieldtune.server.deployment.flower_private import (
    ControlHttpClient,
    Fab,
    ListNodesRequest,
    ListRunsRequest,
    NodeInfo,
    RegisterNodeRequest,
    RuntimeVersionHttpInterceptor,
    StartRunRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from fieldtune.server.deployment.folder import CoordinatorFolder
from fieldtune.server.deployment.run import ConnectedDevice

ENVIRONMENT = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}
"""Disables Flower's telemetry, update check and installation of packages, for closed networks."""

CLIENT_APP = "fieldtune.client.supernode:app"
"""What an ordinary SuperNode runs; the light node runs the client anyway."""

# SuperLink requires the name of a ServerApp, which is never loaded.
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
serverapp = "fieldtune.server.federation.flower_messages:app"
clientapp = "{CLIENT_APP}"
[tool.flwr.app.config]
"""

_FINISHED = "finished"
CONTROL_HEADER = "x-fieldtune-control-key"
"""Header of every call, in lower case."""
_CONFLICT = 412
"""HTTP status for a key that was registered and removed before."""

logging.getLogger("flwr").setLevel(logging.ERROR)  # errors are reported in messages of our own


def control_key(executor_key: bytes) -> str:
    """The value of :data:`CONTROL_HEADER`, for who can read the folder's ``executor.key``."""
    return hmac.new(executor_key, b"control", hashlib.sha256).hexdigest()


def superlink_answers(folder: CoordinatorFolder) -> bool:
    """Whether the folder's SuperLink answers."""
    with _Control(folder) as control:
        try:
            control.client.ListNodes(ListNodesRequest())
        except httpx.TransportError:
            return False
    return True


def register_devices(folder: CoordinatorFolder) -> list[str]:
    """Make SuperLink accept exactly the folder's devices: add new ones, remove the others.

    Returns:
        A sentence for each device that SuperLink does not accept, with the remedy.

    Raises:
        FleetError: SuperLink does not answer.
    """
    with _Control(folder) as control, superlink_errors(folder):
        wanted = {device.public_key_pem: device for device in folder.devices()}
        registered_nodes = control.client.ListNodes(ListNodesRequest()).nodes_info
        for node in registered_nodes:
            if node.status != "unregistered" and node.public_key not in wanted:
                control.client.UnregisterNode(UnregisterNodeRequest(node_id=node.node_id))
        registered = {node.public_key for node in registered_nodes if node.status != "unregistered"}
        refused = []
        for key, device in wanted.items():
            if key in registered:
                continue
            try:
                control.client.RegisterNode(RegisterNodeRequest(public_key=key, name=device.name))
            except httpx.HTTPStatusError as failed:
                if failed.response.status_code != _CONFLICT:
                    raise
                refused.append(
                    f"{device.name} cannot connect: its key was removed from this coordinator "
                    f"before, and SuperLink takes no key twice. 'fieldtune coordinator enroll "
                    f"{folder.path} {device.name} --renew' makes a new bundle for it"
                )
    return refused


def connected_devices(folder: CoordinatorFolder) -> list[ConnectedDevice]:
    """The connected devices.

    Raises:
        FleetError: SuperLink does not answer.
    """
    with _Control(folder) as control, superlink_errors(folder):
        nodes = control.client.ListNodes(ListNodesRequest()).nodes_info
    return [node_of(node) for node in nodes if node.status == "online"]


def start_run(folder: CoordinatorFolder) -> int:
    """Stop runs that earlier studies have left, and start a run; its id.

    Raises:
        FleetError: SuperLink does not answer.
    """
    with _Control(folder) as control, superlink_errors(folder):
        for run_id, run in control.client.ListRuns(ListRunsRequest()).run_dict.items():
            if run.status.status != _FINISHED:
                control.client.StopRun(StopRunRequest(run_id=run_id))
        request = StartRunRequest(fab=Fab(content=_bundle()))
        return int(control.client.StartRun(request).run_id)


def start_hint(folder: CoordinatorFolder) -> str:
    """A hint for when SuperLink does not answer."""
    return f"is 'fieldtune coordinator start {folder.path}' running?"


def node_of(node: NodeInfo) -> ConnectedDevice:
    """A node from SuperLink's description of it."""
    return ConnectedDevice(node.node_id, node.name, node.last_activated_at)


@contextmanager
def superlink_errors(folder: CoordinatorFolder) -> Iterator[None]:
    """Turn a failed connection to SuperLink into a FleetError of one sentence."""
    try:
        yield
    except httpx.TransportError:
        raise FleetError(
            f"SuperLink does not answer on {folder.settings.superlink_address}: "
            f"{start_hint(folder)}"
        ) from None


class _Control:
    """A client of SuperLink's Control API."""

    def __init__(self, folder: CoordinatorFolder) -> None:
        _not_through_a_proxy()
        self.client = ControlHttpClient.from_server_address(
            server_address=folder.settings.superlink_address,
            insecure=False,
            root_certificates=folder.ca_certificate.encode(),
            interceptors=[RuntimeVersionHttpInterceptor(component_name="fieldtune")],
        )
        self.client._client.headers[CONTROL_HEADER] = control_key(folder.executor_key)

    def __enter__(self) -> _Control:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()


def _not_through_a_proxy() -> None:
    """Have this process connect to SuperLink directly, even if HTTPS_PROXY is set."""
    hosts = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if "127.0.0.1" not in hosts.split(","):
        for name in ("no_proxy", "NO_PROXY"):
            os.environ[name] = ",".join(filter(None, (hosts, "127.0.0.1")))


def _bundle() -> bytes:
    """A Flower app bundle (FAB): a zip of a project file and a list of its contents."""
    list_of_contents = f"pyproject.toml,{hashlib.sha256(_APP.encode()).hexdigest()},{8 * len(_APP)}"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, text in (("pyproject.toml", _APP), (".info/CONTENT", list_of_contents)):
            bundle.writestr(zipfile.ZipInfo(name), text)  # a fixed date: always the same bytes
    return packed.getvalue()
