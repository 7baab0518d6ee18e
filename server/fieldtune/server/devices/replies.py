"""Replies of devices on their way: objects that arrive one by one, and the message they make."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from flwr.app import Error, Message, Metadata

from fieldtune.server.deployment.flower_private import (
    SYSTEM_MESSAGE_TYPE,
    inflate_object_from_contents,
    make_message,
)
from fieldtune.server.federation.flower_messages import REPLY_REFUSED

_REPLY_LOST = 4  # Flower's ErrorCode.REPLY_MESSAGE_UNAVAILABLE
_CONTENT_S = 60.0


@dataclass
class PartialReply:
    """A reply whose head has arrived, and whose content the device may still be sending."""

    head: Message
    object_ids: list[str]
    contents: dict[str, bytes] = field(default_factory=dict)
    since: float = field(default_factory=time.monotonic)
    done: bool = False
    confirmed: bool = False
    """Whether SuperLink knows that it has arrived completely."""

    @classmethod
    def of(
        cls, head: Message, object_ids: list[str], contents: Mapping[str, bytes]
    ) -> PartialReply:
        """A reply of which some or all objects came with its head, among those of others."""
        own = {each: contents[each] for each in object_ids if each in contents}
        return cls(head, object_ids, own, confirmed=own.keys() == set(object_ids))

    @property
    def request(self) -> str:
        """The id of the message that it replies to."""
        return self.head.metadata.reply_to_message_id

    def missing(self) -> list[str]:
        """The objects that have not been fetched."""
        return [object_id for object_id in self.object_ids if object_id not in self.contents]

    def overdue(self) -> bool:
        """Whether it has taken so long that the rest is not waited for."""
        return time.monotonic() - self.since > _CONTENT_S


def inflated(head: Message, contents: dict[str, bytes]) -> Message:
    """The reply made of these objects, or Flower's error for one that cannot be read.

    The objects come from the device and are not trusted: sender and request are taken from the
    head, which SuperLink has checked.
    """
    try:
        reply = inflate_object_from_contents(head.metadata.message_id, contents)
        if not isinstance(reply, Message):
            return error_reply(head, REPLY_REFUSED, "the reply is not a message")
        if reply.has_error():
            return make_message(head.metadata, error=reply.error)
        return make_message(head.metadata, content=reply.content)
    except Exception as malformed:  # a device's bytes may make Flower or protobuf raise anything
        why = f"the reply cannot be read: {type(malformed).__name__}"
        return error_reply(head, REPLY_REFUSED, why)


def lost_reply(head: Message) -> Message:
    """The error in place of a reply whose content is missing, as in Flower's own grid."""
    return error_reply(head, _REPLY_LOST, "the reply's content never arrived")


def error_reply(head: Message, code: int, why: str) -> Message:
    """An error in place of a reply."""
    metadata = Metadata(
        run_id=head.metadata.run_id,
        message_id="",
        src_node_id=head.metadata.src_node_id,
        dst_node_id=head.metadata.dst_node_id,
        reply_to_message_id=head.metadata.reply_to_message_id,
        group_id="",
        created_at=head.metadata.created_at,
        ttl=0,
        message_type=SYSTEM_MESSAGE_TYPE,
    )
    return make_message(metadata, error=Error(code, why))
