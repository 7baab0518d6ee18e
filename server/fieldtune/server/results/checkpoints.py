"""Checkpoints: the state of each trial in training, in the run folder.

A trial that is interrupted continues after its last round. A file is a SHA-256 of what follows it,
the length of a JSON tree, that tree, and the arrays of the tree as NumPy saves them; one that a
power cut or a failing disk has damaged is not read, and its trial starts again.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np

from fieldtune.profiles.common.files import readable, write_atomically, writing

_DIGEST_BYTES, _LENGTH = hashlib.sha256().digest_size, struct.Struct("<I")
_SYNC_SHARE = 20
"""At most one part in so many of the time is spent waiting for the disk."""


def pack(state: Mapping[str, Any]) -> bytes:
    """Nested mappings and lists of JSON values and arrays as bytes that say if they are damaged."""
    arrays = io.BytesIO()
    count = 0

    def array(value: object) -> dict[str, int]:
        nonlocal count
        np.save(arrays, np.asarray(value), allow_pickle=False)
        count += 1
        return {"__array__": count - 1}

    tree = json.dumps(state, default=array).encode()
    content = _LENGTH.pack(len(tree)) + tree + arrays.getvalue()
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
    end = start + _LENGTH.unpack_from(content)[0]
    arrays = io.BytesIO(content[end:])

    def value(of: Any) -> Any:
        match of:
            case {"__array__": _}:
                return np.load(arrays, allow_pickle=False)  # in the order in which they were saved
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
    the last one of any trial that is on the disk, it goes to a second file, without waiting; after
    a power cut the trial then continues from the first file, or from its start where there is none.

    Args:
        file: where; the second file has the suffix ``.unsynced``.
        disk_time: of all checkpoints of the run.
    """

    def __init__(self, file: Path, disk_time: DiskTime) -> None:
        self._files = file, file.with_name(file.name + ".unsynced")
        self._disk_time = disk_time
        self._saved = 0
        """Number of states that were stored so far, in all sessions."""

    def load(self) -> dict[str, Any] | None:
        """The latest state; None where there is no readable one."""
        found = []
        for file in self._files:
            with suppress(OSError, ValueError, LookupError, TypeError):
                loaded = unpack(readable(file).read_bytes())
                found.append((int(loaded["saved"]), dict(loaded["state"])))
        if not found:
            return None
        self._saved, state = max(found, key=lambda each: each[0])
        return state

    def save(self, state: Mapping[str, Any]) -> None:
        """Store the state; call :meth:`load` before the first call of a session.

        Raises:
            StorageError: it cannot be written.
        """
        durable = self._disk_time.is_due()
        file = self._files[0 if durable else 1]
        self._saved += 1
        packed = pack({"saved": self._saved, "state": state})
        with writing(file), self._disk_time.waiting() if durable else nullcontext():
            write_atomically(file, packed, parents=True, durable=durable)

    def remove(self) -> None:
        """Remove it, once the trial's outcome is stored."""
        for file in self._files:
            with suppress(OSError):
                file.unlink(missing_ok=True)
        with suppress(OSError):
            self._files[0].parent.rmdir()  # if it was the last
