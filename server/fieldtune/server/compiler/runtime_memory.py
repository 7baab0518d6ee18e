"""Measures the memory that the runtime allocates for a model, including a delegate's workspaces.

The bytes that ``malloc`` counts depend a little on the history of the heap. So they are measured in
a process of its own, which imports only numpy and the runtime, and forks for each model: every
measurement starts from the same heap, and the same file gives the same number. The process restarts
once its modules are byte-compiled, and each measurement runs in a new thread with a heap of its
own.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from fieldtune.profiles.costmodel.arena import arena_bytes
from fieldtune.server.processes.child import Child, pack_frame, parent_connection, unpack_frame

_ROUND = 16384
# The heap depends a little on installation paths, so results are rounded up to _ROUND bytes.
_ENVIRONMENT = {
    "PYTHONHASHSEED": "0",  # equal hashes make equal dictionaries, down to the byte
    # Write byte-compiled modules, in their default places.
    "PYTHONDONTWRITEBYTECODE": "",
    "PYTHONPYCACHEPREFIX": "",
}
_RESTARTED = "again"
_CLOSED = 3
_MODULE = "fieldtune.server.compiler.runtime_memory"
_MALLINFO_FIELDS = (
    "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"  # of malloc.h
)


class MemoryMeter:
    """Measures the memory of models in a process of its own, which ends with this one."""

    def __init__(self) -> None:
        self._child = Child(_MODULE, log=subprocess.DEVNULL, env=_ENVIRONMENT)

    def measure(self, model: bytes, signatures: tuple[str, ...]) -> int | None:
        """Bytes that an interpreter of this model holds after calls of these signatures.

        Returns:
            Bytes, rounded up to 16 KiB; ``None`` where the C library cannot count them or the
            runtime refuses the model.
        """
        self._child.connection.send_bytes(pack_frame({"signatures": signatures}, [model]))
        header, _ = unpack_frame(self._child.connection.recv_bytes())
        allocated = header["bytes"]
        return None if allocated is None else -(-int(allocated) // _ROUND) * _ROUND

    def close(self) -> None:
        """End the process."""
        self._child.close()


@cache
def _meter() -> MemoryMeter:
    return MemoryMeter()


def start() -> None:
    """Start the process early, so that it is ready for the first model."""
    _meter()


def memory_bytes(model: bytes, signatures: tuple[str, ...]) -> int:
    """Bytes that the runtime holds for a model after calls of these signatures.

    Where the C library cannot count them: the planned arena of the last signature's tensors.
    """
    measured = _meter().measure(model, signatures)
    return arena_bytes(model, signatures[-1]) if measured is None else measured


def main(argv: list[str]) -> int:
    """Restart once, then fork for each model of the parent, until it closes the connection."""
    if argv[-1] != _RESTARTED:
        os.execv(sys.executable, [sys.executable, "-m", _MODULE, *argv[1:], _RESTARTED])  # noqa: S606 - itself
    connection = parent_connection(argv)
    while True:
        connection.poll(None)
        # The fork reads the model, so that the heap of this process never changes.
        fork = os.fork()
        if fork == 0:
            os._exit(_serve(connection))
        status = os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1])
        if status == _CLOSED:
            return 0
        if status != 0:
            connection.send_bytes(pack_frame({"bytes": None}))


def _serve(connection: Connection) -> int:
    try:
        header, blobs = unpack_frame(connection.recv_bytes())
    except (EOFError, OSError):
        return _CLOSED
    # A new thread has a heap of its own, without freed blocks.
    with ThreadPoolExecutor(1) as fresh:
        try:
            held = fresh.submit(_held, blobs[0], tuple(header["signatures"])).result()
        except (RuntimeError, ValueError):
            return 1
    connection.send_bytes(pack_frame({"bytes": held}))
    return 0


def _held(model: bytes, signatures: tuple[str, ...]) -> int | None:
    before = _allocated()
    if before is None:
        return None
    interpreter = Interpreter(model_content=model, num_threads=1)
    given = 0
    for name in signatures:
        runner = interpreter.get_signature_runner(name)
        arguments = {
            key: np.zeros(details["shape"], details["dtype"])
            for key, details in runner.get_input_details().items()
        }
        runner(**arguments)
        given = sum(array.nbytes for array in arguments.values())
    after = _allocated()
    return None if after is None else after - before - given


def _allocated() -> int | None:
    """Bytes in use by ``malloc``, small and large; needs glibc 2.33 or later."""
    try:
        mallinfo = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError):
        return None
    mallinfo.restype = _Mallinfo
    info: Any = mallinfo()
    return int(info.uordblks) + int(info.hblkhd)


class _Mallinfo(ctypes.Structure):
    """``struct mallinfo2`` of malloc.h."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in _MALLINFO_FIELDS.split())


if __name__ == "__main__":
    sys.exit(main(sys.argv))
