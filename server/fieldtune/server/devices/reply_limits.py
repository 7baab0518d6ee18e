"""How large a device's reply may be: as large as the weights of the request, and a MiB more.

A larger reply is refused before it is fetched. Its number of objects is known before any of them
(Flower sends an array in chunks), and the size of each from the HTTP headers of the answer.
"""

from __future__ import annotations

import math

import httpx
from flwr.app import Message

_MARGIN_BYTES = 2**20
_CHUNK_BYTES = 5 * 2**20
"""Flower's size of a chunk of an array."""
_OTHER_OBJECTS = 8
"""Message, records and arrays of a reply, and one more chunk for NumPy's header."""
MOST_OBJECT_BYTES = _CHUNK_BYTES + _MARGIN_BYTES
"""No object of an honest reply is larger."""


class TooLargeError(Exception):
    """An answer of SuperLink is larger than any object of an honest reply."""


def most_bytes(request: Message) -> int:
    """The largest reply to this request, in bytes."""
    arrays = (
        array for record in request.content.array_records.values() for array in record.values()
    )
    return sum(len(array.data) for array in arrays) + _MARGIN_BYTES


def refused(most: int, objects: int, fetched_bytes: int) -> str:
    """Why a reply is refused, as a sentence; empty where it is not too large so far.

    Args:
        most: of :func:`most_bytes`.
        objects: that the reply consists of.
        fetched_bytes: of those that were fetched so far.
    """
    if objects > _OTHER_OBJECTS + math.ceil(most / _CHUNK_BYTES):
        return f"a reply of {objects} objects, at most {most / 2**20:.1f} MiB were asked for"
    if fetched_bytes > most:
        return f"a reply of more than {most / 2**20:.1f} MiB, which were asked for"
    return ""


def check_size(response: httpx.Response) -> None:
    """An httpx event hook, called before an answer's body is read.

    Raises:
        TooLargeError: it says that it is too large.
    """
    size = int(response.headers.get("content-length", 0))
    if size > MOST_OBJECT_BYTES and response.request.url.path.endswith("/pull-object"):
        response.close()
        raise TooLargeError(f"an object of {size / 2**20:.0f} MiB")
