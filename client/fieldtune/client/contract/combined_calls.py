"""Calls of fieldtune's coordinator that each do the work of many calls of Flower's protocol.

In Flower's protocol a message is a tree of objects (records, arrays, chunks of arrays), and each
object is a call of its own: a request to a device and its reply are about 30. A coordinator of
fieldtune answers these as well; a body consists of :class:`Parts`.

======= =========== ============================================== ===============================
call    by          parts of the request                           parts of the answer
======= =========== ============================================== ===============================
WAIT    device      heartbeat; seconds to wait, as text            heartbeat's answer; ``news``, or
                                                                   empty where nothing came in
TAKE    device      PullMessages; a number                         PullMessages' answer, objects
REPLY   device      PushMessages, objects                          PushMessages' answer
SEND    coordinator PushMessages; a number; objects                PushMessages' answer
COLLECT coordinator PullMessages; ``all``, or empty for replies    PullMessages' answer, objects
                    that have come in since the last call;
                    a number
======= =========== ============================================== ===============================

WAIT is answered when the device has a message to take, or after those seconds: an idle device makes
90 calls an hour, and learns of a message at once. TAKE is a heartbeat too. A call with the number
of the one before gets the same answer again, since that may have been lost. An object is a
``PushObjectRequest``.
Objects that do not fit into :data:`MOST_BYTES` travel in Flower's calls; a message of which all
objects were in an answer is confirmed to have been received.

An older coordinator answers 404, and Flower's own SuperNode does not know these calls: then those
of Flower's protocol are used.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import TypeVar

WAIT, TAKE, REPLY = "/v1/fieldtune/wait", "/v1/fieldtune/take", "/v1/fieldtune/reply"
SEND, COLLECT = "/v1/fieldtune/send", "/v1/fieldtune/collect"
NEWS = b"news"
MOST_BYTES = 256 * 1024
"""Objects of one message that travel in a combined call with a device. An answer that is lost on
the way is sent again whole, so it should not take long."""
LONGEST_WAIT_S = 40.0
"""A device is taken for offline 60 s after its last heartbeat, and proxies and routers may forget a
connection on which nothing is sent for as long."""

_LENGTH = struct.Struct(">I")
_Key = TypeVar("_Key")


class Parts:
    """Byte strings in one body, each after its length (4 bytes, big-endian).

    It has the methods of a protobuf message that Flower's HTTP clients call.

    Args:
        parts: of a request.
    """

    def __init__(self, *parts: bytes) -> None:
        self.parts = list(parts)

    def SerializeToString(self, **_: object) -> bytes:
        """The body."""
        return b"".join(_LENGTH.pack(len(part)) + part for part in self.parts)

    def ParseFromString(self, body: bytes) -> None:
        """Read a body.

        Raises:
            ValueError: it is cut off.
        """
        self.parts, at = [], 0
        while at < len(body):
            begins = at + _LENGTH.size
            if begins > len(body):
                raise ValueError("a length is cut off")
            (size,) = _LENGTH.unpack_from(body, at)
            at = begins + size
            if at > len(body):
                raise ValueError("a part is cut off")
            self.parts.append(body[begins:at])


def that_fit(
    objects: Iterable[tuple[_Key, bytes]], most_bytes: int = MOST_BYTES
) -> Iterator[tuple[_Key, bytes]]:
    """Those of these objects that travel in a combined call: as many as fit, in their order."""
    for key, content in objects:
        if len(content) <= most_bytes:
            most_bytes -= len(content)
            yield key, content
