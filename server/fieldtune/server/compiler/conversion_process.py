"""Conversion in a process beside, while this one traces what the artefact is compared with.

The converter holds the interpreter's lock, so a thread would not do. The process is forked when
TensorFlow is imported and has run nothing yet: it shares the import's memory and has none of the
threads that a fork would lose. Where none was started (a model that is compiled by a direct call)
or it has died, this process converts.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fieldtune.profiles.costmodel.tflite_work import Work, read_work
from fieldtune.server.compiler.convert import (
    ConverterError,
    Signature,
    convert,
    saved_model,
)
from fieldtune.server.processes.child import pack_frame, unpack_frame

_MODEL, _WORK, _ERROR = "model.tflite", "work.json", "error.txt"

_beside: list[Connection] = []
"""The connection to the process beside, where there is one."""


def start() -> None:
    """Fork the process that converts; it ends with this one."""
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        try:
            # Whoever is at the other end of what this process inherits must see its parent end.
            os.closerange(3, theirs.fileno())
            os.closerange(theirs.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
            _serve(Connection(theirs.detach()))
        finally:
            os._exit(0)
    theirs.close()
    _beside.append(Connection(ours.detach()))


@contextmanager
def converting(
    signatures: Mapping[str, Signature], variables: Sequence[Any] = ()
) -> Iterator[Conversion]:
    """Start to make a ``.tflite`` of these signatures.

    Args:
        signatures: name -> traced function; what a function captures must be in ``variables``.
        variables: ``tf.Variable`` that the functions read and assign.
    """
    with saved_model(signatures, variables) as folder:
        yield Conversion(folder, list(signatures))


class Conversion:
    """A ``.tflite`` that is being made of the SavedModel in a folder.

    Files carry what is large, so that neither process ever waits for the other to read.
    """

    def __init__(self, folder: str, names: Sequence[str]) -> None:
        self._folder, self._names = folder, names
        _tell({"folder": folder, "names": names})

    def model(self) -> bytes:
        """Wait for the file.

        Raises:
            ConverterError: an op has no built-in equivalent.
        """
        if self._made(_MODEL):
            return Path(self._folder, _MODEL).read_bytes()
        if Path(self._folder, _ERROR).exists():
            raise ConverterError(Path(self._folder, _ERROR).read_text())
        model = convert(self._folder, self._names)
        Path(self._folder, _MODEL).write_bytes(model)
        return model

    def work(self) -> dict[str, Work]:
        """The work of each of its signatures; :meth:`model` comes first."""
        if self._made(_WORK):
            found = json.loads(Path(self._folder, _WORK).read_text())
            return {name: Work.from_json(work) for name, work in found.items()}
        return read_work(Path(self._folder, _MODEL).read_bytes())

    def _made(self, file: str) -> bool:
        """Wait until the process beside has written a file, or has failed or died."""
        done = {"folder": self._folder, "file": file}
        failed = {"folder": self._folder, "file": _ERROR}
        while _beside:
            try:
                # Whoever gave up waiting for an answer left it unread.
                said, _ = unpack_frame(_beside[0].recv_bytes())
            except (EOFError, OSError):
                _beside.clear()
            else:
                if said in (done, failed):
                    return said == done
        return False


def _tell(header: dict[str, Any]) -> None:
    try:
        for connection in _beside:
            connection.send_bytes(pack_frame(header))
    except OSError:
        _beside.clear()


def _serve(connection: Connection) -> None:
    """Convert what the parent names, then read its work, until the parent ends."""
    while True:
        try:
            header, _ = unpack_frame(connection.recv_bytes())
            for file in _files(Path(header["folder"]), header["names"]):
                connection.send_bytes(pack_frame({"folder": header["folder"], "file": file}))
        except (EOFError, OSError):
            return
        hand_back()


def _files(folder: Path, names: Sequence[str]) -> Iterator[str]:
    """Write the files of one conversion; the name of each once it is there."""
    try:
        try:
            model = convert(str(folder), names)
        except ConverterError as refused:
            (folder / _ERROR).write_text(str(refused))
            yield _ERROR
            return
        (folder / _MODEL).write_bytes(model)
        yield _MODEL
        work = {name: work.to_json() for name, work in read_work(model).items()}
        (folder / _WORK).write_text(json.dumps(work))
        yield _WORK
    except OSError:
        # The parent has given up and removed the folder; a full disk it finds by itself.
        yield _ERROR


def hand_back() -> None:
    """Give the memory that is free to the system, where the C library is glibc."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return
