"""A child process that exchanges frames of bytes with its parent.

The compiler and the simulator's workers run beside the coordinator, each in a process of its own:
TensorFlow's 600 MB can be handed back, and LiteRT's Python binding holds the GIL. A frame is a JSON
header and raw blobs, so nothing that arrives can run code (no pickle).
"""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

_LENGTHS = struct.Struct("<I")


def pack_frame(header: dict[str, Any], blobs: Sequence[bytes | memoryview] = ()) -> bytes:
    """One frame: a length-prefixed JSON header, then each blob with its length before it."""
    text = json.dumps(header).encode()
    parts: list[bytes | memoryview] = [_LENGTHS.pack(len(text)), text]
    for blob in blobs:
        parts += (_LENGTHS.pack(len(blob)), blob)
    return b"".join(parts)


def unpack_frame(frame: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """The header and the blobs of a frame made by :func:`pack_frame`."""
    parts, at = [], 0
    while at < len(frame):
        (length,) = _LENGTHS.unpack_from(frame, at)
        at += _LENGTHS.size
        parts.append(frame[at : at + length])
        at += length
    return json.loads(parts[0]), parts[1:]


class Child:
    """A running ``python -m module`` and the connection to it.

    The child ends by itself when the connection closes, so a parent that is killed leaves no
    orphan behind. What the child prints goes to ``log``.
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
                # Ctrl-C is for the parent to handle: it closes the connection when it is done.
                start_new_session=True,
            )
        self.connection = Connection(ours.detach())

    def close(self, timeout_s: float = 5.0) -> None:
        """Close the connection and wait for the child to leave; kill it if it does not."""
        self.connection.close()
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def parent_connection(argv: Sequence[str]) -> Connection:
    """In the child: the connection to the parent, from the command line that Child gave."""
    return Connection(int(argv[1]))


def tail(path: Path, lines: int = 5) -> str:
    """The last lines of a log, to say why a child died."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
