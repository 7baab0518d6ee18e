"""Everything that devices and message builders use of Flower beyond its public API.

Valid for :data:`FLOWER_VERSIONS`; ``tests/client/node/test_flower.py`` checks the assumptions. It
has two parts: functions for processes that create messages without a SuperLink (identity, message
ids, serialisation); and :class:`Link`, the device's side of the Fleet API, the protocol of Flower's
own SuperNode (protobuf over HTTP, each request signed by the device), and of the combined calls
(:mod:`fieldtune.client.contract.combined_calls`).
"""

from __future__ import annotations

import secrets
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from typing import Any, TypeVar

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
    PullMessagesResponse,
    PushMessagesRequest,
    PushMessagesResponse,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest, SendNodeHeartbeatResponse
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
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.fleet_http_client import FleetHttpClient

from fieldtune.client.contract.combined_calls import NEWS, REPLY, TAKE, WAIT, Parts, that_fit
from fieldtune.client.node.clock import clock_error, server_date
from fieldtune.client.node.link_errors import (
    ContentPendingError,
    NotOfferedError,
    RunEndedError,
    TooLargeError,
    UnreachableError,
    UntrustedError,
    WrongClockError,
    checked,
)
from fieldtune.client.node.tls import show_certificate, trusting

FLOWER_VERSIONS = ("1.41", "1.42")
"""The versions of Flower, major and minor, that this module is tested with."""
HEARTBEAT_S = 30.0
"""Heartbeat interval; Flower considers a node offline after twice this time without one."""
NODE_UNAVAILABLE = 5
"""Flower's error code for a node that is currently unavailable; the request is then repeated."""
_KEEP_ALIVE_S = 70.0
"""An unused connection is kept this long; the coordinator's proxy closes it after 75 s."""
_Result = TypeVar("_Result")


def identify_process(run_id: int, node_id: int) -> None:
    """Set the run and node of the messages that this process creates; ``Message()`` requires it."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, run_id, node_id


def set_message_id(message: Message, message_id: str) -> None:
    """Set a message's id, as a SuperLink would."""
    message.metadata.__dict__["_message_id"] = message_id


def message_to_bytes(message: Message) -> bytes:
    """The message, serialised as protobuf."""
    return bytes(message_to_proto(message).SerializeToString())


def message_from_bytes(data: bytes) -> Message:
    """The message that :func:`message_to_bytes` serialised."""
    return message_from_proto(ProtoMessage.FromString(data))


def head_to_bytes(message: Message) -> bytes:
    """The message's metadata, serialised; sufficient to reply to it later."""
    return message_to_bytes(remove_content_from_message(message))


@dataclass(frozen=True)
class PendingMessage:
    """A message assigned to the device whose content has not been fetched completely yet."""

    head: Message
    object_ids: tuple[str, ...]
    contents: dict[str, bytes] = field(default_factory=dict)
    """Objects that have been fetched, or came with the head."""
    confirmed: bool = False
    """Whether all came with the head, and the SuperLink knows that they have arrived."""


class Waited(Enum):
    """What came of waiting for a message."""

    MESSAGE = auto()
    NOTHING = auto()
    UNKNOWN_NODE = auto()
    """The SuperLink does not know the node."""


class Link:
    """A device's connection to its SuperLink; each method makes one or more HTTPS requests.

    Args:
        address: ``host:port``.
        ca_certificate: PEM; the only trusted certificate authority.
        private_key: OpenSSH format (PEM); it identifies the device.
        certificate: PEM, for the private key; None: it has none.
        timeout_s: timeout of one request.
        most_mib: of a message, and of a single answer; a larger one is not received.

    Methods raise subclasses of :class:`~fieldtune.client.node.link_errors.LinkError`. Thread-safe,
    apart from :meth:`pull`.
    """

    def __init__(
        self,
        address: str,
        ca_certificate: str,
        private_key: str,
        certificate: str | None = None,
        timeout_s: float = 30.0,
        most_mib: Callable[[], float] = lambda: 200.0,
    ) -> None:
        key = load_ssh_private_key(private_key.encode(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError("the key is not an elliptic curve key")
        self._key = public_key_to_bytes(key.public_key())
        self._address, self._ca_certificate = address, ca_certificate
        context = trusting(ca_certificate)
        if certificate is not None:
            show_certificate(context, certificate, private_key)
        self._client = FleetHttpClient(f"https://{address}", interceptors=[_Signature(key)])
        self._client._client.close()
        self._client._client = httpx.Client(
            verify=context,
            timeout=timeout_s,
            limits=httpx.Limits(keepalive_expiry=_KEEP_ALIVE_S),
            event_hooks={"response": [self._check_size]},
        )
        self._timeout_s, self._most_mib = timeout_s, most_mib
        self._offered = True
        """Whether combined calls are offered, as far as known."""
        self._process, self._takes = secrets.token_hex(4), 0
        """Together the number of the next call TAKE."""

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def activate(self) -> int:
        """Register the device as online; returns its node id, which is determined by its key."""
        request = ActivateNodeRequest(public_key=self._key, heartbeat_interval=HEARTBEAT_S)
        return int(self._call(lambda: self._client.ActivateNode(request)).node_id)

    def heartbeat(self, node_id: int) -> bool:
        """Send a heartbeat; False if the SuperLink does not know the node."""
        request = SendNodeHeartbeatRequest(
            node=ProtoNode(node_id=node_id), heartbeat_interval=HEARTBEAT_S
        )
        return bool(self._call(lambda: self._client.SendNodeHeartbeat(request)).success)

    def wait(self, node_id: int, seconds: float) -> Waited:
        """Send a heartbeat, and wait until a message comes in, or so many seconds.

        Raises:
            NotOfferedError: the coordinator cannot hold a call until a message comes in.
        """
        request = SendNodeHeartbeatRequest(
            node=ProtoNode(node_id=node_id), heartbeat_interval=HEARTBEAT_S
        )
        parts = request.SerializeToString(), f"{seconds:.0f}".encode()
        return self._combined(WAIT, _outcome, *parts, wait_s=seconds)

    def deactivate(self, node_id: int) -> None:
        """Register the device as offline."""
        self._call(lambda: self._client.DeactivateNode(DeactivateNodeRequest(node_id=node_id)))

    def pull(self, node_id: int) -> PendingMessage | None:
        """The next message for the device, or None. The SuperLink delivers each only once."""
        request = PullMessagesRequest(node=ProtoNode(node_id=node_id))
        number = f"{self._process} {self._takes}".encode()
        try:
            pulled, contents = self._combined(TAKE, _pulled, request.SerializeToString(), number)
            self._takes += 1
        except NotOfferedError:
            pulled, contents = self._call(lambda: self._client.PullMessages(request)), {}
        if not pulled.messages_list:
            return None
        trees = iterate_object_tree(pulled.message_object_trees[0])
        object_ids = tuple(tree.object_id for tree in trees)
        return PendingMessage(
            message_from_proto(pulled.messages_list[0]),
            object_ids,
            contents,
            confirmed=contents.keys() >= set(object_ids),
        )

    def fetch(self, node_id: int, pending: PendingMessage) -> Message:
        """Fetch what is missing of the message's content; may be repeated.

        Raises:
            TooLargeError: it is larger than the device takes; it need not be tried again.
        """
        node, run_id = ProtoNode(node_id=node_id), pending.head.metadata.run_id
        message_id, contents = pending.head.metadata.message_id, pending.contents
        for object_id in pending.object_ids:
            if object_id in contents:
                continue
            wanted = PullObjectRequest(node=node, run_id=run_id, object_id=object_id)
            got = self._call(partial(self._client.PullObject, wanted))
            if not got.object_found:
                raise RunEndedError("the SuperLink has deleted the message's content")
            if not got.object_available:
                raise ContentPendingError("the message's content has not arrived yet")
            contents[object_id] = got.object_content
            self._check(sum(map(len, contents.values())))
        if not pending.confirmed:
            received = ConfirmMessageReceivedRequest(
                node=node, run_id=run_id, message_object_id=message_id
            )
            self._call(lambda: self._client.ConfirmMessageReceived(received))
        try:
            message = inflate_object_from_contents(message_id, contents)
        except Exception as malformed:  # the bytes may make Flower or protobuf raise anything
            raise RunEndedError(f"the message cannot be read: {malformed}") from None
        if not isinstance(message, Message):
            raise RunEndedError("the received object is not a message")
        set_message_id(message, message_id)
        return message

    def push(self, node_id: int, reply: Message, runtime_s: float) -> None:
        """Send a reply; may be repeated with the same reply."""
        node = ProtoNode(node_id=node_id)
        with no_object_id_recompute():
            set_message_id(reply, reply.object_id)
            request = PushMessagesRequest(
                node=node,
                messages_list=[message_to_proto(remove_content_from_message(reply))],
                message_object_trees=[get_object_tree(reply)],
                clientapp_runtime_list=[runtime_s],
            )
            contents = {
                object_id: part.deflate()
                for object_id, part in get_all_nested_objects(reply).items()
            }
        objects = (
            PushObjectRequest(object_id=object_id, object_content=content).SerializeToString()
            for object_id, content in that_fit(contents.items())
        )
        try:
            pushed = self._combined(REPLY, _pushed, request.SerializeToString(), *objects)
        except NotOfferedError:
            pushed = self._call(lambda: self._client.PushMessages(request))
        for object_id in pushed.objects_to_push:
            content = PushObjectRequest(
                node=node,
                run_id=reply.metadata.run_id,
                object_id=object_id,
                object_content=contents[object_id],
                session_id=pushed.session_id,
            )
            self._call(partial(self._client.PushObject, content))

    def _combined(
        self,
        path: str,
        read: Callable[[list[bytes]], _Result],
        *parts: bytes,
        wait_s: float = 0.0,
    ) -> _Result:
        """Make a combined call, and read the parts of its answer."""
        if not self._offered:
            raise NotOfferedError(path)
        call: Any = self._client._unary_unary  # for protobuf messages; Parts has their methods

        def request() -> _Result:
            answer: Parts = call(
                path=path,
                rpc_method=path,
                request=Parts(*parts),
                response_type=Parts,
                timeout=self._timeout_s + wait_s,
            )
            return read(answer.parts)

        try:
            return self._call(request)
        except NotOfferedError:
            self._offered = False
            raise

    def _check_size(self, response: httpx.Response) -> None:
        """Refuse an answer that is too large, or of unknown size, before its body is read."""
        size = response.headers.get("content-length")
        if size is None or "content-encoding" in response.headers:
            raise UnreachableError("invalid response, not from a SuperLink: its size is not known")
        self._check(int(size))

    def _check(self, size: int) -> None:
        if size > (most_mib := self._most_mib()) * 2**20:
            raise TooLargeError(
                f"{size / 2**20:.0f} MiB or more were sent, {most_mib:.0f} MiB are taken "
                "(privacy.max_model_mib)"
            )

    def _call(self, request: Callable[[], _Result]) -> _Result:
        try:
            return checked(request)
        except UnreachableError:
            self._offered = True  # there may be another coordinator next time
            raise
        except UntrustedError as untrusted:
            if wrong := clock_error(server_date(self._address, self._ca_certificate)):
                raise WrongClockError(f"{wrong} ({untrusted})") from None
            raise


def _outcome(parts: list[bytes]) -> Waited:
    beaten, news = parts
    if not SendNodeHeartbeatResponse.FromString(beaten).success:
        return Waited.UNKNOWN_NODE
    return Waited.MESSAGE if news == NEWS else Waited.NOTHING


def _pulled(parts: list[bytes]) -> tuple[PullMessagesResponse, dict[str, bytes]]:
    """The answer to TAKE, and the objects that came with it."""
    answer, *objects = parts
    contents = {
        each.object_id: each.object_content for each in map(PushObjectRequest.FromString, objects)
    }
    return PullMessagesResponse.FromString(answer), contents


def _pushed(parts: list[bytes]) -> PushMessagesResponse:
    (answer,) = parts
    pushed: PushMessagesResponse = PushMessagesResponse.FromString(answer)
    return pushed


_IDLE_HEADERS = ("user-agent", "accept-encoding", "connection")
"""Of httpx: they say nothing that SuperLink uses."""


class _Signature:
    """Signs each request, like Flower's NodeAuthHttpInterceptor, and leaves out idle headers.

    That one is not used because it imports ``requests``, which takes 7 MB of memory.
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
        for name in _IDLE_HEADERS:
            context.request.headers.pop(name, None)
        return call_next(context)
