"""A device may reply in its own name only, at a time that is a number, and with its own objects.

SuperLink checks that a request is signed by the node that it names, and that a reply comes from the
node that was asked, but not that these two are the same. So a device that knows another's node and
message number could answer in its place. Nor does it check that a reply's time and lifetime are
numbers: its database keeps "not a number" as nothing, and then fails on every look for replies, of
all devices, until the request of that one has expired. It registers the objects that come with a
reply, also with one that is sent again, without a look at whether the reply consists of them, and
keeps them until the run ends; so a device could fill its disk.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fieldtune.server.deployment.flower_private import PushMessagesRequest, iterate_object_tree

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Scope]]
Send = Callable[[Scope], Awaitable[None]]

_PATH = "/v1/fleet/push-messages"
_MOST_BYTES = 2**20
"""The proxy lets through less (``client_max_body_size``)."""
_MOST_OBJECTS = 1024
"""Of a reply. Weights of 2 GiB, more than a model can have, are 410."""
REFUSAL = b'{"code": 403, "message": "a reply of another node, of no time, or of other objects"}'
"""In the form of Flower's errors: a device that was enrolled anew then drops its old reply."""


class OwnReplies:
    """An ASGI application that answers 403 to a reply that is not sound.

    Args:
        app: SuperLink's.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http" or scope["path"] != _PATH:
            await self._app(scope, receive, send)
            return
        body, more = bytearray(), True
        while more:
            part = await receive()
            if part["type"] != "http.request":  # the device has disconnected
                return
            body += part.get("body", b"")
            if len(body) > _MOST_BYTES:
                await refuse(send, 413)
                return
            more = part.get("more_body", False)
        if not _is_sound(bytes(body)):
            await refuse(send, 403, REFUSAL)
            return
        parts = iter([{"type": "http.request", "body": bytes(body), "more_body": False}])

        async def again() -> Scope:
            return next(parts, None) or await receive()

        await self._app(scope, again, send)


async def refuse(send: Send, status: int, body: bytes = b"not allowed") -> None:
    """Answer with a status, whatever was asked."""
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": body})


def _is_sound(body: bytes) -> bool:
    try:
        request = PushMessagesRequest.FromString(body)
    except Exception:  # protobuf's DecodeError: SuperLink will say so
        return True
    return is_sound(request)


def is_sound(request: PushMessagesRequest) -> bool:
    """Whether all replies are from the node that signs the request, with their own objects.

    Their times must be finite.
    """
    own, trees = request.node.node_id, request.message_object_trees
    ids = [each.metadata.message_id for each in request.messages_list]
    return (
        all(
            each.metadata.src_node_id == own
            and math.isfinite(each.metadata.created_at)
            and math.isfinite(each.metadata.ttl)
            for each in request.messages_list
        )
        and ids == [tree.object_id for tree in trees]
        and all(sum(1 for _ in iterate_object_tree(tree)) <= _MOST_OBJECTS for tree in trees)
    )
