"""Conversion to TFLite in a second process, while this one traces the reference model.

The converter holds the GIL, so a thread would not run in parallel. The process is forked after
TensorFlow is imported and before it has run anything: so it shares the memory of the import, and
TensorFlow has no threads yet, which a fork would lose. If it was not started (a model is compiled
by a direct call) or has died, this process converts.
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

from fieldtune.profiles.costmodel.tflite_reader import read_work
from fieldtune.profiles.costmodel.tflite_work import Work
from fieldtune.server.compiler.bounds import bound_process
from fieldtune.server.compiler.convert import ConverterError, Signature, convert, saved_model
from fieldtune.server.processes.child import end_with_parent, pack_frame, unpack_frame

_MODEL, _WORK, _ERROR = "model.tflite", "work.json", "error.txt"

_converter: list[Connection] = []
"""The connection to the conversion process, if there is one."""


def start() -> None:
    """Fork the conversion process; it ends with this one."""
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        try:
            # Close inherited connections: their other ends must notice when the parent ends.
            os.closerange(3, theirs.fileno())
            os.closerange(theirs.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
            connection = Connection(theirs.detach())
            end_with_parent(connection)
            _serve(connection)
        finally:
            os._exit(0)
    theirs.close()
    _converter.append(Connection(ours.detach()))


@contextmanager
def converting(
    signatures: Mapping[str, Signature], variables: Sequence[Any] = ()
) -> Iterator[Conversion]:
    """Start the conversion of these signatures to a ``.tflite``.

    Args:
        signatures: name -> traced function; what a function captures must be in ``variables``.
        variables: ``tf.Variable`` that the functions read and assign.
    """
    with saved_model(signatures, variables) as folder:
        yield Conversion(folder, list(signatures))


class Conversion:
    """A running conversion of the SavedModel in a folder.

    Large data is exchanged in files, so that neither process blocks until the other reads.
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
        """Wait for a file of the conversion process; False if it has failed or died."""
        done = {"folder": self._folder, "file": file}
        failed = {"folder": self._folder, "file": _ERROR}
        while _converter:
            try:
                # Answers about earlier conversions that were abandoned may come first.
                said, _ = unpack_frame(_converter[0].recv_bytes())
            except (EOFError, OSError):
                _converter.clear()
            else:
                if said in (done, failed):
                    return said == done
        return False


def _tell(header: dict[str, Any]) -> None:
    try:
        for connection in _converter:
            connection.send_bytes(pack_frame(header))
    except OSError:
        _converter.clear()


def _serve(connection: Connection) -> None:
    """Serve conversions until the parent ends."""
    while True:
        try:
            header, _ = unpack_frame(connection.recv_bytes())
            bound_process()
            for file in _files(Path(header["folder"]), header["names"]):
                connection.send_bytes(pack_frame({"folder": header["folder"], "file": file}))
        except (EOFError, OSError):
            return
        hand_back()


def _files(folder: Path, names: Sequence[str]) -> Iterator[str]:
    """Write the files of one conversion; yields the name of each once it is written."""
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
        # The parent has removed the folder, or the disk is full, which it notices by itself.
        yield _ERROR


def hand_back() -> None:
    """Return free memory to the system, if the C library is glibc."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return
