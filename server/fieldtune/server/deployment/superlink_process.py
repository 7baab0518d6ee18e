"""Flower's SuperLink, in a process that adds two things to it.

Its Control API has no accounts: any user of the machine could register devices over loopback. So
every call but those of devices (signed by their keys) and of the process that executes a run (with
its token) needs a header that follows from the folder's secret key (:class:`ControlKey`).

Where SuperLink refuses a request, the exception keeps the request's body in a reference cycle, and
Python looks for those only after many allocations: 600 MiB that were refused took 450 MiB.
"""

from __future__ import annotations

import gc
import hmac
import sys
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import uvicorn

from fieldtune.server.deployment.superlink_control import CONTROL_HEADER, control_key

_ELSEWHERE_AUTHENTICATED = ("/v1/fleet/", "/v1/runtime/")
_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Scope]]
_Send = Callable[[_Scope], Awaitable[None]]
_PAUSE_S = 1.0


def main() -> None:
    """Run ``flower-superlink`` with the arguments of this process."""
    (found,) = entry_points(group="console_scripts", name="flower-superlink")
    superlink = found.load()
    secret = sys.argv[sys.argv.index("--superexec-auth-secret-file") + 1]
    key, run = control_key(Path(secret).read_bytes()), uvicorn.run
    uvicorn.run = lambda app, **options: run(ControlKey(app, key), **options)
    gc.collect()
    gc.freeze()  # what was imported is not looked at again
    threading.Thread(target=_collect, daemon=True).start()
    superlink()


class ControlKey:
    """An ASGI application that answers 403 to calls of the Control API without the key.

    Args:
        app: SuperLink's.
        key: value of the header ``CONTROL_HEADER``.
    """

    def __init__(self, app: Any, key: str) -> None:
        self._app, self._key = app, key.encode()

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
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
            await send({"type": "http.response.start", "status": 403, "headers": []})
            await send({"type": "http.response.body", "body": b"not allowed"})


def _collect() -> None:
    while True:
        time.sleep(_PAUSE_S)
        gc.collect()


if __name__ == "__main__":
    main()
