"""How much memory the runtime takes for a model, measured: no plan knows a delegate's workspaces.

Bytes that ``malloc`` has handed out differ a little with what the heap went through before. So the
count is taken in a process of its own, which imports numpy and the runtime, nothing else, and forks
for each model: every count starts from the same heap, and the same file gives the same number. The
process begins anew once its modules are compiled, and each count is made by a new thread, which has
a heap of its own.
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

from fieldtune.server.compiler.arena import arena_bytes
from fieldtune.server.processes.child import Child, pack_frame, parent_connection, unpack_frame

_ROUND = 16384
# The heap depends on where things are installed a little: the last digits mean nothing.
_ENVIRONMENT = {
    "PYTHONHASHSEED": "0",  # equal hashes make equal dictionaries, down to the byte
    # Compiled modules are kept, and where they are found again.
    "PYTHONDONTWRITEBYTECODE": "",
    "PYTHONPYCACHEPREFIX": "",
}
_AGAIN = "again"
_CLOSED = 3
_MODULE = "fieldtune.server.compiler.runtime_memory"
_MALLINFO_FIELDS = (
    "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"  # of malloc.h
)


class Footprint:
    """Measures models in a process of its own, which ends with this one."""

    def __init__(self) -> None:
        self._child = Child(_MODULE, log=subprocess.DEVNULL, env=_ENVIRONMENT)

    def measure(self, model: bytes, signatures: tuple[str, ...]) -> int | None:
        """Bytes that an interpreter of this model holds after calls of these signatures.

        Returns:
            Bytes, rounded up to 16 KiB; ``None`` where the C library does not tell or the runtime
            refuses the model.
        """
        self._child.connection.send_bytes(pack_frame({"signatures": signatures}, [model]))
        header, _ = unpack_frame(self._child.connection.recv_bytes())
        allocated = header["bytes"]
        return None if allocated is None else -(-int(allocated) // _ROUND) * _ROUND

    def close(self) -> None:
        """End the process."""
        self._child.close()


@cache
def _footprint() -> Footprint:
    return Footprint()


def start() -> None:
    """Start the measuring process early, so that it is ready when the first model is."""
    _footprint()


def memory_bytes(model: bytes, signatures: tuple[str, ...]) -> int:
    """Bytes that the runtime holds for a model after calls of these signatures.

    Where the C library cannot tell, what the tensors of the last signature need by plan.
    """
    measured = _footprint().measure(model, signatures)
    return arena_bytes(model, signatures[-1]) if measured is None else measured


def main(argv: list[str]) -> int:
    """Begin anew, then fork for each model that the parent sends, until it closes."""
    if argv[-1] != _AGAIN:
        os.execv(sys.executable, [sys.executable, "-m", _MODULE, *argv[1:], _AGAIN])
    connection = parent_connection(argv)
    while True:
        connection.poll(None)
        # The model is read by the fork: the heap that the next one starts from never changes.
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
    # A new thread gets a heap of its own, in which nothing was freed yet.
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
