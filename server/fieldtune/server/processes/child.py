"""A child process that exchanges frames of bytes with its parent.

The compiler and the simulator's workers are processes of their own: ending the compiler frees
TensorFlow's 600 MB, and LiteRT's Python binding holds the GIL, so threads would not run in
parallel. A frame is a JSON header and raw blobs: unlike a pickle, it cannot execute code.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any, Protocol

_LENGTHS = struct.Struct("<I")


def pack_frame(header: dict[str, Any], blobs: Sequence[bytes | memoryview] = ()) -> bytes:
    """One frame: a length-prefixed JSON header, then each blob with its length before it."""
    text = json.dumps(header).encode()
    parts: list[bytes | memoryview] = [_LENGTHS.pack(len(text)), text]
    for blob in blobs:
        parts += (_LENGTHS.pack(len(blob)), blob)
    return b"".join(parts)


def unpack_frame(frame: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """The header and the blobs of a frame made by :func:`pack_frame`.

    Raises:
        ValueError: the frame is damaged.
    """
    parts, at = [], 0
    try:
        while at < len(frame):
            (length,) = _LENGTHS.unpack_from(frame, at)
            at += _LENGTHS.size
            parts.append(frame[at : at + length])
            at += length
        return json.loads(parts[0]), parts[1:]
    except (struct.error, IndexError, RecursionError) as damaged:
        raise ValueError(f"not a frame: {damaged}") from None


class Spawn(Protocol):
    """Starts a child process: :class:`Child`, or the like on another machine."""

    def __call__(self, module: str, *, log: IO[bytes] | int, env: dict[str, str]) -> Any:
        """A running ``python -m module``."""


class Child:
    """A running ``python -m module`` and the connection to it.

    The child exits when the connection closes, so a killed parent leaves no orphan process.
    The child's stdout and stderr go to ``log``.
    """

    def __init__(self, module: str, *, log: IO[bytes] | int, env: dict[str, str]) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | env,
                # Only the parent handles signals; it closes the connection when it is done.
                start_new_session=True,
            )
        self.connection = Connection(ours.detach())

    def close(self, timeout_s: float = 5.0) -> None:
        """Close the connection and wait for the child to exit; kill it after ``timeout_s``."""
        self.connection.close()
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def parent_connection(argv: Sequence[str]) -> Connection:
    """In the child: the connection to the parent, from the child's command line.

    SIGTERM, which a service manager sends to all processes of a service, is left to the parent.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return Connection(int(argv[1]))


def end_with_parent(connection: Connection) -> None:
    """In the child: end as soon as the parent closes the connection, also during work.

    The work must let other threads run: while it holds the GIL, nothing is noticed. For work of
    minutes and much memory: whoever only reads the connection notices afterwards.
    """
    parent = select.poll()
    parent.register(connection.fileno(), 0)  # a connection that is closed is reported in any case

    def wait() -> None:
        parent.poll()
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


def tail(path: Path, lines: int = 5) -> str:
    """The last lines of a log file; empty where it cannot be read."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
