"""One compile process for all services of a test process: starting TensorFlow takes seconds."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path
from typing import IO

from fieldtune.server.processes.child import Child, unpack_frame

RECIPES = Path(__file__).parents[1] / "server/compiler/recipes.py"
_TURN = threading.Lock()
_shared: Child | None = None


class SharedChild:
    """Stands in for a service's child: built-in models go to the process that all services share.

    A user's model is compiled by a process of the service's own, whose import path it needs; those
    of the compiler's tests are on the import path of the shared process.
    """

    def __init__(self, module: str, *, log: IO[bytes] | int, env: dict[str, str]) -> None:
        self._arguments = module, log, env
        self._own: Child | None = None
        self._asked: Child | None = None
        self._waiting = False
        self.process = self.connection = self

    def send_bytes(self, frame: bytes) -> None:
        """Hand a request to one of the two processes; others wait until it is answered."""
        header, _ = unpack_frame(frame)
        module, log, env = self._arguments
        _TURN.acquire()
        self._waiting = True
        try:
            place, colon, _ = header["spec"]["model"].partition(":")
            if colon and place != RECIPES.stem:
                self._asked = self._own = self._own or Child(module, log=log, env=env)
            else:
                self._asked = _running(module, env)
            self._asked.connection.send_bytes(frame)
        except BaseException:
            self._answered()
            raise

    def recv_bytes(self) -> bytes:
        """The answer."""
        assert self._asked is not None
        try:
            return self._asked.connection.recv_bytes()
        finally:
            self._answered()

    def _answered(self) -> None:
        self._waiting = False
        _TURN.release()

    def poll(self) -> int | None:
        """The exit status of the process that was asked last."""
        return None if self._asked is None else self._asked.process.poll()

    @property
    def returncode(self) -> int | None:
        """The same."""
        return self.poll()

    def kill(self) -> None:
        """End what is being compiled, as nobody waits for it any more."""
        if self._waiting and self._asked is not None:
            self._asked.process.kill()

    def close(self) -> None:
        """End the service's own process; the shared one stays for the next service."""
        if self._own is not None:
            self._own.close()


def _running(module: str, env: dict[str, str]) -> Child:
    global _shared
    if _shared is None or _shared.process.poll() is not None:
        env = {name: value for name, value in env.items() if name != "TMPDIR"}
        env["FIELDTUNE_IMPORT_PATH"] = str(RECIPES.parent)
        _shared = Child(module, log=subprocess.DEVNULL, env=env)
    return _shared


def end_shared_process() -> None:
    """Hand back what TensorFlow holds."""
    if _shared is not None:
        _shared.close()


class NoChild:
    """Stands in for the child in a unit test."""

    def __init__(self, module: str, **_: object) -> None:
        raise AssertionError(
            "a unit test may not compile: use an artefact of support.artefacts, or mark the test "
            "as integration"
        )
