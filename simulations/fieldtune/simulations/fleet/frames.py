"""What coordinator and workers of the simulator exchange: requests and reports in frames.

A frame is the length of its header, the header as JSON, and blobs (bytes and arrays), each aligned
so that an array is read where it lies. Unlike a pickle it cannot execute code.

Both ends are processes of our own: the one that makes a message validates it, and the other does
not do so again.

The messages of a round differ in few fields. So of each message a frame has what differs from the
message before it (:class:`Before`). A message's large values (every field that is bytes or an
array, whatever its name) are blobs. Those of a request have a number, and a worker keeps them until
it is told to drop them, so a round's weights travel to a worker once, not once a client. What a
client must keep from one request to the next can therefore be a field of bytes in request and
report: it comes back to the coordinator, which sends it with the client's next request to whichever
worker is free.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json, to_json

from fieldtune.client.contract.messages import EvaluateRequest, TrainRequest, VariantRequest
from fieldtune.client.contract.wire import WireMessage

Message = TypeVar("Message", bound=WireMessage)
Blob = bytes | NDArray[Any]
KINDS: Mapping[str, type[TrainRequest | EvaluateRequest | VariantRequest]] = {
    each.__name__: each for each in (TrainRequest, EvaluateRequest, VariantRequest)
}
"""Name of a kind of request in a frame -> its class."""
_LENGTH = struct.Struct("<Q")
_ALIGNED = 64
_LARGE = (bytes, np.ndarray)


def pack(header: Mapping[str, Any], blobs: Sequence[Blob] = ()) -> bytes:
    """One frame."""
    kinds: list[Any] = []
    like: NDArray[Any] | None = None
    for blob in blobs:
        if isinstance(blob, bytes):
            kinds.append(len(blob))
            like = None
        elif like is not None and (blob.dtype, blob.shape) == (like.dtype, like.shape):
            kinds[-1][0] += 1
        else:
            kinds.append([1, blob.dtype.str, *blob.shape])
            like = blob
    text = to_json({**header, "blobs": kinds}, inf_nan_mode="constants")
    parts: list[bytes | memoryview] = [_LENGTH.pack(len(text)), text]
    at = _LENGTH.size + len(text)
    for blob in blobs:
        data = blob if isinstance(blob, bytes) else blob.reshape(-1).view("u1").data
        parts += (bytes(-at % _ALIGNED), data)
        at += -at % _ALIGNED + len(data)
    return b"".join(parts)


def unpack(frame: bytes) -> tuple[dict[str, Any], list[Blob]]:
    """Header and blobs of a frame; its arrays are views of it and cannot be written to."""
    (length,) = _LENGTH.unpack_from(frame)
    at = _LENGTH.size + length
    header = from_json(frame[_LENGTH.size : at])
    blobs: list[Blob] = []
    for kind in header.pop("blobs"):
        at += -at % _ALIGNED
        if isinstance(kind, int):
            blobs.append(frame[at : at + kind])
            at += kind
        else:
            count, name, *shape = kind
            dtype, size = np.dtype(name), math.prod(shape)
            apart = -(-size * dtype.itemsize // _ALIGNED) * _ALIGNED
            rows = np.ndarray((count, size), dtype, frame, at, (apart, dtype.itemsize))
            blobs.extend(rows if len(shape) == 1 else (row.reshape(shape) for row in rows))
            at += (count - 1) * apart + size * dtype.itemsize
    return header, blobs


class Before:
    """The message before one in a frame, of which only the difference is sent."""

    def __init__(self) -> None:
        self._kind: type | None = None
        self._fields: Mapping[str, Any] = {}

    def apart(self, message: Any) -> tuple[bool, dict[str, Any], dict[str, Blob]]:
        """A message's difference from the one before.

        Returns:
            Whether none of its kind was just before it; the small and the large values, by field,
            of those that are another object than before, or not None where none was before.
        """
        fields, before = message.__dict__, self._fields
        first = type(message) is not self._kind
        if first:
            small = {name: value for name, value in fields.items() if value is not None}
        elif fields is before:
            small = {}
        else:
            small = {name: value for name, value in fields.items() if value is not before[name]}
        self._kind, self._fields = type(message), fields
        large = {name: small.pop(name) for name in [*small] if isinstance(small[name], _LARGE)}
        return first, small, large

    def whole(self, kind: type[Message], first: bool, changed: Mapping[str, Any]) -> Message:
        """A message, given what :meth:`apart` says of it."""
        before = kind.defaults() if first else self._fields
        told = {name: tuple(v) if isinstance(v, list) else v for name, v in changed.items()}
        self._fields = fields = {**before, **told}
        return kind.trusted(fields)


class Numbered:
    """Large values that workers hold for their frames, each under a number; an object has one."""

    def __init__(self) -> None:
        self._next = 0
        self._numbers: dict[int, int] = {}
        """Identity of a value -> its number."""
        self._values: dict[int, Blob] = {}
        self._users: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, number: int) -> Blob:
        return self._values[number]

    def of(self, value: Blob) -> int:
        """The value's number, which is to be used by a frame."""
        number = self._numbers.get(id(value))
        if number is None:
            number = self._numbers[id(value)] = self._next
            self._next += 1
            self._values[number], self._users[number] = value, 0
        return number

    def use(self, numbers: Iterable[int]) -> None:
        """Count one frame more that uses these values."""
        for number in numbers:
            self._users[number] += 1

    def release(self, numbers: Iterable[int]) -> list[int]:
        """Count one frame less that uses these values; those that none uses any more."""
        unused = []
        for number in numbers:
            self._users[number] -= 1
            if not self._users[number]:
                del self._numbers[id(self._values[number])]
                del self._values[number], self._users[number]
                unused.append(number)
        return unused
