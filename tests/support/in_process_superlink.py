"""SuperLink's application in this process, with the combined calls, and a transport to it."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.superlink.main import create_app

from fieldtune.client.node.fleet_api import Link
from fieldtune.server.deployment import superlink_control
from fieldtune.server.deployment.combined_calls import CombinedCalls
from fieldtune.server.deployment.flower_private import (
    RuntimeHttpClient,
    RuntimeVersionHttpInterceptor,
)
from fieldtune.server.devices import superlink_run
from fieldtune.server.devices.superlink_run import SuperLinkRun
from support.identities import key_pair, server

_NOBODY = "<id:none>"


class InProcessSuperLink(httpx.BaseTransport):
    """A SuperLink on a database of its own, which clients reach without a network.

    Args:
        folder: for its database.
    """

    def __init__(self, folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patched, warnings.catch_warnings():
            # Flower's migrations use an option of Alembic that is on its way out.
            warnings.simplefilter("ignore", DeprecationWarning)
            patched.setenv("FLWR_DATABASE", str(folder / "superlink.db"))
            app = create_app()
        app.state.enable_supernode_auth = True
        self.state: Any = app.state.linkstate_factory.state()
        self.calls = CombinedCalls(app)
        self._transport = httpx.ASGITransport(self.calls)  # type: ignore[arg-type]
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Have the application answer."""
        return asyncio.run_coroutine_threadsafe(self._answer(request), self._loop).result(60)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        response = await self._transport.handle_async_request(request)
        content = b"".join([part async for part in response.stream])  # type: ignore[union-attr]
        return httpx.Response(response.status_code, headers=response.headers, content=content)

    def link(self, name: str, *, enrolled: bool = True) -> Link:
        """A device's connection."""
        private, public = key_pair()
        if enrolled:
            key = public_key_to_bytes(load_ssh_public_key(public.encode()))  # type: ignore[arg-type]
            self.state.create_node(_NOBODY, "<name:none>", key, 0, name=name)
        link = Link("localhost:1", server().ca_certificate, private)
        link._client._client = httpx.Client(transport=self)
        return link

    def run(self, monkeypatch: pytest.MonkeyPatch) -> SuperLinkRun:
        """A run as a study executes it."""
        content = superlink_control._bundle()
        fab = self.state.store_fab(Fab(hashlib.sha256(content).hexdigest(), content, {}))
        run_id = self.state.create_run(
            None, None, fab, {}, NOOP_FEDERATION_ID, None, _NOBODY, TaskType.SERVER_APP
        )
        (task,) = self.state.get_tasks(run_ids=[run_id])
        token = self.state.claim_task(task.task_id)

        def client(folder: object, interceptor: Any, invoker: object = None) -> RuntimeHttpClient:
            version = RuntimeVersionHttpInterceptor(component_name="SuperExec")
            made = RuntimeHttpClient("https://localhost", interceptors=[version, interceptor])
            made._client = httpx.Client(transport=self)
            return made

        monkeypatch.setattr(superlink_run, "claimed_run", lambda folder: token)
        monkeypatch.setattr(superlink_run, "runtime_client", client)
        return SuperLinkRun(SimpleNamespace(path="fleet"), print)  # type: ignore[arg-type]
