"""Checkpoints: the state of each trial in training, in the run folder.

A trial that is interrupted continues after its last round. A file is a SHA-256 of what follows it,
the length of a JSON tree, that tree, and the values of its arrays; one that a kill, a power cut or
a failing disk has damaged is not read.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import descr_to_dtype, dtype_to_descr

from fieldtune.profiles.common.files import readable, write_atomically, writing

_DIGEST_BYTES, _LENGTH = hashlib.sha256().digest_size, struct.Struct("<I")
_SYNC_SHARE = 20
"""At most one part in so many of the time is spent waiting for the disk."""


def pack(state: Mapping[str, Any]) -> bytes:
    """Nested mappings and lists of JSON values and arrays as bytes that say if they are damaged."""
    values: list[memoryview] = []

    def array(value: object) -> dict[str, Any]:
        each = np.asarray(value)
        if each.dtype.hasobject:
            raise ValueError(f"not a JSON value, nor an array of numbers: {value!r}")
        values.append(np.ascontiguousarray(each).reshape(-1).view("u1").data)
        return {"__array__": dtype_to_descr(each.dtype), "shape": each.shape}

    tree = json.dumps(state, default=array).encode()
    content = b"".join((_LENGTH.pack(len(tree)), tree, *values))
    return hashlib.sha256(content).digest() + content


def unpack(packed: bytes) -> dict[str, Any]:
    """What :func:`pack` was given.

    Raises:
        ValueError: the bytes are damaged.
    """
    digest, content = packed[:_DIGEST_BYTES], packed[_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError("damaged: its hash differs")
    try:
        return _unpacked(content)
    except Exception as other:  # of another version; NumPy raises almost anything
        raise ValueError(f"not a checkpoint of this version: {other}") from None


def _unpacked(content: bytes) -> dict[str, Any]:
    start = _LENGTH.size
    at = end = start + _LENGTH.unpack_from(content)[0]

    def value(of: Any) -> Any:
        nonlocal at
        match of:
            case {"__array__": described, "shape": shape}:
                dtype = descr_to_dtype(described)
                found = np.frombuffer(content, dtype, math.prod(shape), at).reshape(shape)
                at += found.nbytes  # in the order in which they were stored
                return found.copy()
            case {"__array__": _}:
                raise ValueError("its arrays are as NumPy saves them")
            case dict():
                return {key: value(each) for key, each in of.items()}
            case list():
                return [value(each) for each in of]
        return of

    loaded: dict[str, Any] = value(json.loads(content[start:end]))
    return loaded


class DiskTime:
    """Limits the time that all checkpoints of a run wait for the disk.

    Args:
        clock: seconds; only differences count.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._next = clock, -math.inf

    def is_due(self) -> bool:
        """Whether the disk may be waited for now."""
        return self._clock() >= self._next

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Wait for the disk in this block."""
        began = self._clock()
        yield
        now = self._clock()
        self._next = now + _SYNC_SHARE * (now - began)


class Checkpoint:
    """The checkpoint of one trial.

    Every state is written so that it survives the end of the process. Waiting for the disk takes
    milliseconds, and a simulated round often takes no longer. So if a state comes too soon after
    the last one of any trial that is on the disk, it goes to another file, without waiting; after
    a power cut the trial then continues from the first file, or from its start where there is none.
    Of such other files there are two, which are written over in turn: a kill may damage the one
    that is being written, and the state before is in the other or in the first.

    Args:
        file: where; the other files have the suffixes ``.unsynced`` and ``.unsynced2``.
        disk_time: of all checkpoints of the run.
    """

    def __init__(self, file: Path, disk_time: DiskTime) -> None:
        unsynced = file.name + ".unsynced"
        self._files = file, file.with_name(unsynced), file.with_name(unsynced + "2")
        self._latest = file
        """That which has the latest state."""
        self._own = set[Path]()
        """Those that this session has made: what else is there may be a link to elsewhere."""
        self._disk_time = disk_time
        self._saved = 0
        """Number of states that were stored so far, in all sessions."""

    def load(self) -> dict[str, Any] | None:
        """The latest state; None where there is no readable one."""
        found = []
        for file in self._files:
            with suppress(OSError, ValueError, LookupError, TypeError):
                loaded = unpack(readable(file).read_bytes())
                found.append((int(loaded["saved"]), file, dict(loaded["state"])))
        if not found:
            return None
        self._saved, self._latest, state = max(found, key=lambda each: each[0])
        return state

    def save(self, state: Mapping[str, Any]) -> None:
        """Store the state; call :meth:`load` before the first call of a session.

        Raises:
            StorageError: it cannot be written.
        """
        self._saved += 1
        packed = pack({"saved": self._saved, "state": state})
        synced, *unsynced = self._files
        if self._disk_time.is_due():
            file = synced
            with writing(file), self._disk_time.waiting():
                write_atomically(file, packed, parents=True)
        else:
            file = next(each for each in unsynced if each is not self._latest)
            with writing(file):
                if file in self._own:
                    _write_over(file, packed)
                else:
                    write_atomically(file, packed, parents=True, durable=False)
                    self._own.add(file)
        self._latest = file

    def remove(self) -> None:
        """Remove it, once the trial's outcome is stored."""
        for file in self._files:
            with suppress(OSError):
                file.unlink(missing_ok=True)
        with suppress(OSError):
            self._files[0].parent.rmdir()  # if it was the last


def _write_over(file: Path, content: bytes) -> None:
    """Write a file where it is, which is damaged if the process is killed meanwhile."""
    opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    with os.fdopen(opened, "wb") as out:
        out.write(content)
        out.truncate()
