"""What devices, and all who make messages, use of Flower beyond its public API, in one place.

Holds for the versions in :data:`HOLDS_FOR`; ``tests/client/node/test_flower.py`` is the contract.
Two things need it: a process that makes messages itself, without SuperLink, has to say whose they
are, number them and turn them into bytes; and :class:`Link` is a device's side of the Fleet API,
the protocol that Flower's own SuperNode speaks (protobuf over HTTP, each request signed by the
device).

::

    LinkError
    ├── UnreachableError     the network, the proxy or the SuperLink is down: try again
    │   └── ArrivingError    the coordinator is still sending what was asked for: wait a moment
    ├── UntrustedError       the coordinator's certificate is not valid for this device
    ├── KeyRefusedError      the device's key is unknown, or its clock is wrong
    ├── NotActivatedError    Flower's error 2004: the key is unknown, or counts as connected already
    └── RunEndedError        what was asked for belongs to a run that has ended, or is gone
"""

from __future__ import annotations

import json
import re
import ssl
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TypeVar

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.app import Message
from flwr.app.message import remove_content_from_message
from flwr.common.constant import TIMESTAMP_HEADER
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    PullObjectRequest,
    PushObjectRequest,
)
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.node_pb2 import Node as ProtoNode
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.date import now
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext
from flwr.supercore.run import Run as Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.fleet_http_client import FleetHttpClient

HOLDS_FOR = "1.41"
"""The major and minor version of Flower that these imports were read in."""
HEARTBEAT_S = 30.0
"""Flower counts a device as gone after twice this time of silence."""
AWAY = 5
"""Flower's error for a node that is not there now: who gets it asks again."""
_NOT_ACTIVATED = 2004
"""Flower's FLEET_NODE_ACTIVATION_FAILED; its error module would bring fastapi along."""
_CLOCK_TOLERANCE_S = 5.0
_NOT_BEHIND_THE_PROXY = (502, 503, 504)
_Got = TypeVar("_Got")


def identify_process(run_id: int, node_id: int) -> None:
    """Say whose messages this process makes; ``Message()`` needs it."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, run_id, node_id


def number_message(message: Message, message_id: str) -> None:
    """Give a message its id, as a SuperLink would."""
    message.metadata.__dict__["_message_id"] = message_id


def message_to_bytes(message: Message) -> bytes:
    """The message as it travels."""
    return bytes(message_to_proto(message).SerializeToString())


def message_from_bytes(data: bytes) -> Message:
    """The message that :func:`message_to_bytes` wrote."""
    return message_from_proto(ProtoMessage.FromString(data))


def head_to_bytes(message: Message) -> bytes:
    """The message without its content: enough to reply to it later."""
    return message_to_bytes(remove_content_from_message(message))


def empty_run(run_id: int) -> Run:
    """A run that no SuperLink knows."""
    return Run.create_empty(run_id)


class LinkError(Exception):
    """A request to the coordinator failed; the message says why in a few words."""


class UnreachableError(LinkError):
    """The network, the proxy or the SuperLink is down."""


class ArrivingError(UnreachableError):
    """A message's head is here before its content, which the coordinator is still sending."""


class UntrustedError(LinkError):
    """The coordinator's certificate is not valid for this device."""


class KeyRefusedError(LinkError):
    """The coordinator does not accept the device's signature."""


class NotActivatedError(LinkError):
    """Flower's error 2004."""


class RunEndedError(LinkError):
    """The run has ended or the message is gone: no reply is needed."""


@dataclass(frozen=True)
class Waiting:
    """A message that has been handed out to the device and whose content is still to be fetched."""

    head: Message
    object_ids: tuple[str, ...]


class Link:
    """A device's connection to its SuperLink. Every call is one or a few HTTPS requests.

    Args:
        address: ``host:port``.
        ca_certificate: PEM; the only authority that is trusted.
        private_key: OpenSSH's PEM; it is the device's identity.
        timeout_s: of one request.

    Every method raises one of the :class:`LinkError` kinds. Safe to use from several threads.
    """

    def __init__(
        self, address: str, ca_certificate: str, private_key: str, timeout_s: float = 30.0
    ) -> None:
        key = load_ssh_private_key(private_key.encode(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError("the key is not an elliptic curve's")
        self._key = public_key_to_bytes(key.public_key())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=ca_certificate)
        self._client = FleetHttpClient(
            f"https://{address}",
            interceptors=[_Signature(key)],
            verify=context,
            timeout=timeout_s,
        )

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def activate(self) -> int:
        """Tell the SuperLink that the device is there; its node id, which its key decides."""
        request = ActivateNodeRequest(public_key=self._key, heartbeat_interval=HEARTBEAT_S)
        return int(_called(lambda: self._client.ActivateNode(request)).node_id)

    def heartbeat(self, node_id: int) -> bool:
        """Say that the device is still there; False where the SuperLink does not know it."""
        request = SendNodeHeartbeatRequest(
            node=ProtoNode(node_id=node_id), heartbeat_interval=HEARTBEAT_S
        )
        return bool(_called(lambda: self._client.SendNodeHeartbeat(request)).success)

    def deactivate(self, node_id: int) -> None:
        """Say that the device is going."""
        _called(lambda: self._client.DeactivateNode(DeactivateNodeRequest(node_id=node_id)))

    def pull(self, node_id: int) -> Waiting | None:
        """The next message for the device; None where there is none. It is handed out only once."""
        request = PullMessagesRequest(node=ProtoNode(node_id=node_id))
        pulled = _called(lambda: self._client.PullMessages(request))
        if not pulled.messages_list:
            return None
        trees = iterate_object_tree(pulled.message_object_trees[0])
        return Waiting(
            message_from_proto(pulled.messages_list[0]), tuple(tree.object_id for tree in trees)
        )

    def fetch(self, node_id: int, waiting: Waiting) -> Message:
        """The whole message; asking again does no harm."""
        node, run_id = ProtoNode(node_id=node_id), waiting.head.metadata.run_id
        message_id, contents = waiting.head.metadata.message_id, {}
        for object_id in waiting.object_ids:
            wanted = PullObjectRequest(node=node, run_id=run_id, object_id=object_id)
            got = _called(partial(self._client.PullObject, wanted))
            if not got.object_found:
                raise RunEndedError("the SuperLink has dropped the message's content")
            if not got.object_available:
                raise ArrivingError("the message's content has not arrived yet")
            contents[object_id] = got.object_content
        received = ConfirmMessageReceivedRequest(
            node=node, run_id=run_id, message_object_id=message_id
        )
        _called(lambda: self._client.ConfirmMessageReceived(received))
        message = inflate_object_from_contents(message_id, contents)
        if not isinstance(message, Message):
            raise RunEndedError("what arrived is not a message")
        number_message(message, message_id)
        return message

    def push(self, node_id: int, reply: Message, runtime_s: float) -> None:
        """Send a reply; sending the same one again does no harm."""
        node = ProtoNode(node_id=node_id)
        with no_object_id_recompute():
            number_message(reply, reply.object_id)
            request = PushMessagesRequest(
                node=node,
                messages_list=[message_to_proto(remove_content_from_message(reply))],
                message_object_trees=[get_object_tree(reply)],
                clientapp_runtime_list=[runtime_s],
            )
            pushed = _called(lambda: self._client.PushMessages(request))
            wanted = set(pushed.objects_to_push)
            for object_id, part in get_all_nested_objects(reply).items():
                if object_id in wanted:
                    content = PushObjectRequest(
                        node=node,
                        run_id=reply.metadata.run_id,
                        object_id=object_id,
                        object_content=part.deflate(),
                        session_id=pushed.session_id,
                    )
                    _called(partial(self._client.PushObject, content))


def _called(request: Callable[[], _Got]) -> _Got:
    """What the request returns; whatever it raises becomes a :class:`LinkError`."""
    try:
        return request()
    except httpx.HTTPStatusError as refused:
        raise _refusal(refused.response) from None
    except httpx.TransportError as failed:
        said = re.sub(r"^\[Errno -?\d+\] ", "", str(failed)) or type(failed).__name__
        if "WRONG_VERSION_NUMBER" in said:
            said = "what listens there speaks no TLS, so it is not the coordinator"
        if "CERTIFICATE_VERIFY_FAILED" in said:
            raise UntrustedError(said.partition("failed: ")[2].partition(" (_ssl")[0]) from None
        raise UnreachableError(said) from None
    except (ValueError, httpx.HTTPError) as garbled:
        raise UnreachableError(f"not a SuperLink's answer: {garbled}") from None


class _Signature:
    """Signs each request, as Flower's own NodeAuthHttpInterceptor does.

    That one is not imported because it brings ``requests`` along: 7 MB on a small board.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self._public = b64encode(public_key_to_bytes(key.public_key())).decode("ascii")

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        stamp = now().isoformat()
        signature = sign_message(self._key, stamp.encode("ascii"))
        context.request.headers[FLEET_HTTP_PUBLIC_KEY_HEADER] = self._public
        context.request.headers[TIMESTAMP_HEADER] = stamp
        context.request.headers[FLEET_HTTP_SIGNATURE_HEADER] = b64encode(signature).decode("ascii")
        return call_next(context)


def _refusal(response: httpx.Response) -> LinkError:
    status, code = response.status_code, _flower_code(response)
    if status == httpx.codes.UNAUTHORIZED:
        return KeyRefusedError(_clock(response) or "the coordinator does not know its key")
    if code == _NOT_ACTIVATED:
        return NotActivatedError(f"Flower error {code}")
    if status == httpx.codes.FORBIDDEN and code is not None:
        return RunEndedError(f"Flower error {code}")
    if status in _NOT_BEHIND_THE_PROXY:
        return UnreachableError(f"its SuperLink does not answer the proxy (HTTP status {status})")
    return UnreachableError(f"HTTP status {status} at {response.request.url.path}")


def _flower_code(response: httpx.Response) -> int | None:
    """The code of a Flower error; None where something else, such as a proxy, answered."""
    try:
        told = json.loads(response.text)
    except ValueError:
        return None
    code = told.get("code") if isinstance(told, dict) else None
    return code if isinstance(code, int) else None


def _clock(response: httpx.Response) -> str | None:
    """How far the device's clock is from the coordinator's, where that is why it was refused."""
    behind_s = clock_behind_s(response.headers.get("date"))
    if behind_s is None or abs(behind_s) < _CLOCK_TOLERANCE_S:
        return None
    side = "behind" if behind_s > 0 else "ahead of"
    return f"its clock is {abs(behind_s):.0f} s {side} the coordinator's: set it, or start NTP"


def clock_behind_s(date: str | None) -> float | None:
    """Seconds that this device's clock is behind an HTTP ``Date``; None where there is none."""
    try:
        return None if date is None else (parsedate_to_datetime(date) - now()).total_seconds()
    except (TypeError, ValueError):
        return None
