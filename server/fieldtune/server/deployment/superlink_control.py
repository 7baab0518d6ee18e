"""What the coordinator's owner tells SuperLink: which devices there are, and to start a run.

SuperLink's Control API is protobuf over HTTP, on loopback.
"""

from __future__ import annotations

import hashlib
import io
import logging
import zipfile

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
from fieldtune.server.deployment.run import Node

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
serverapp = "fieldtune.server.federation.grid_fleet:app"
clientapp = "{CLIENT_APP}"
[tool.flwr.app.config]
"""

_FINISHED = "finished"

logging.getLogger("flwr").setLevel(logging.ERROR)  # what matters is said in our own words


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
    with _Control(folder) as control, told(folder):
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
    with _Control(folder) as control, told(folder):
        nodes = control.client.ListNodes(ListNodesRequest()).nodes_info
    return [node_of(node) for node in nodes if node.status == "online"]


def start_run(folder: CoordinatorFolder) -> int:
    """Start a run, and stop what an earlier study left behind; its number.

    Raises:
        FleetError: SuperLink does not answer.
    """
    with _Control(folder) as control, told(folder):
        for run_id, run in control.client.ListRuns(ListRunsRequest()).run_dict.items():
            if run.status.status != _FINISHED:
                control.client.StopRun(StopRunRequest(run_id=run_id))
        request = StartRunRequest(fab=Fab(content=_bundle()))
        return int(control.client.StartRun(request).run_id)


def start_hint(folder: CoordinatorFolder) -> str:
    """What to look at where SuperLink does not answer."""
    return f"is 'fieldtune coordinator start {folder.path}' running?"


def node_of(node: NodeInfo) -> Node:
    """A node as SuperLink describes it."""
    return Node(node.node_id, node.name, node.last_activated_at)


class told:
    """A SuperLink that does not answer is one sentence."""

    def __init__(self, folder: CoordinatorFolder) -> None:
        self._folder = folder

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if isinstance(error, httpx.TransportError):
            raise FleetError(
                f"SuperLink does not answer on {self._folder.settings.superlink_address}: "
                f"{start_hint(self._folder)}"
            ) from None


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


def _bundle() -> bytes:
    """Flower's app bundle: a zip with a project file and a list of what is in it."""
    list_of_contents = f"pyproject.toml,{hashlib.sha256(_APP.encode()).hexdigest()},{8 * len(_APP)}"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, text in (("pyproject.toml", _APP), (".info/CONTENT", list_of_contents)):
            bundle.writestr(zipfile.ZipInfo(name), text)  # a fixed date: always the same bytes
    return packed.getvalue()
