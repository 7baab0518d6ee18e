"""Flower's SuperLink, in a process that adds five things to it.

A message is one call and not many (:mod:`fieldtune.server.deployment.combined_calls`).

Its threads wait for each other's transactions (:mod:`fieldtune.server.deployment.one_transaction`).

Its Control API has no accounts: any user of the machine could register devices over loopback. So
every call but those of devices (signed by their keys) and of the process that executes a run (with
its token) needs a header that follows from the folder's secret key (:class:`ControlKey`).

A device could answer for another, and fill the disk
(:mod:`fieldtune.server.deployment.own_replies`).

SuperLink keeps a request's body in a reference cycle, and Python collects those only after many
allocations: 600 MiB that a device sent took 450 MiB. So garbage is collected after some MiB of
requests (:class:`CollectBodies`); doing so each second took a quarter of a busy SuperLink's time.
"""

from __future__ import annotations

import gc
import hmac
import resource
import sys
import threading
import time
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import uvicorn

from fieldtune.server.deployment.own_replies import OwnReplies, Receive, Scope, Send, refuse
from fieldtune.server.deployment.superlink_control import CONTROL_HEADER, control_key

_ELSEWHERE_AUTHENTICATED = ("/v1/fleet/", "/v1/runtime/", "/v1/fieldtune/")
_MANY_BYTES, _PAUSE_S = 16 * 2**20, 1.0
_KEEP_ALIVE_S = 75
"""Unused connections are closed after this time; the proxy closes its own after 60 s."""


def main() -> None:
    """Run ``flower-superlink`` with the arguments of this process."""
    # These import SuperLink.
    from fieldtune.server.deployment.combined_calls import CombinedCalls
    from fieldtune.server.deployment.one_transaction import one_transaction_at_a_time

    one_transaction_at_a_time()
    (found,) = entry_points(group="console_scripts", name="flower-superlink")
    superlink = found.load()
    secret = sys.argv[sys.argv.index("--superexec-auth-secret-file") + 1]
    key, run = control_key(Path(secret).read_bytes()), uvicorn.run

    def with_additions(app: Any, **options: Any) -> None:
        _allow_open_files()
        run(
            CollectBodies(ControlKey(OwnReplies(CombinedCalls(app)), key)),
            **options | {"access_log": False, "timeout_keep_alive": _KEEP_ALIVE_S},
        )

    uvicorn.run = with_additions
    gc.collect()
    gc.freeze()  # what was imported is not looked at again
    superlink()


class ControlKey:
    """An ASGI application that answers 403 to calls of the Control API without the key.

    Args:
        app: SuperLink's.
        key: value of the header ``CONTROL_HEADER``.
    """

    def __init__(self, app: Any, key: str) -> None:
        self._app, self._key = app, key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        allowed = scope["type"] == "lifespan" or (
            scope["type"] == "http"
            and (
                scope["path"].startswith(_ELSEWHERE_AUTHENTICATED)
                or hmac.compare_digest(
                    dict(scope["headers"]).get(CONTROL_HEADER.encode(), b""), self._key
                )
            )
        )
        if allowed:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await refuse(send, 403)


class CollectBodies:
    """An ASGI application that has Python collect garbage after so many bytes of requests.

    Args:
        app: answers the requests.
    """

    def __init__(self, app: Any) -> None:
        self._app, self._received, self._many = app, 0, threading.Event()
        threading.Thread(target=self._collect, daemon=True).start()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""

        async def counted() -> Scope:
            message = await receive()
            self._received += len(message.get("body", b""))
            if self._received > _MANY_BYTES:
                self._many.set()
            return message

        await self._app(scope, counted, send)

    def _collect(self) -> None:
        while self._many.wait():
            self._received = 0
            self._many.clear()
            time.sleep(_PAUSE_S)  # until these have been answered
            gc.collect()


def _allow_open_files() -> None:
    """Each device that waits for a message takes a connection; the default is 1,024 files."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    main()
