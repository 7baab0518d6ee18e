"""Everything that devices and message builders use of Flower beyond its public API.

Valid for :data:`FLOWER_VERSION`; ``tests/client/node/test_flower.py`` checks the assumptions. It
has two parts: functions for processes that create messages without a SuperLink (identity, message
ids, serialisation); and :class:`Link`, the device's side of the Fleet API, the protocol of Flower's
own SuperNode (protobuf over HTTP, each request signed by the device).

::

    LinkError
    ├── UnreachableError           the network, the proxy or the SuperLink is down: try again
    │   └── ContentPendingError    the coordinator is still uploading the content: try again soon
    ├── UntrustedError             the coordinator's certificate is not valid for this device
    ├── WrongClockError            the device's clock differs too much from the coordinator's
    ├── KeyRefusedError            the device's key is unknown
    ├── NotActivatedError          Flower's error 2004: the key is unknown or already connected
    └── RunEndedError              the run has ended, or the message has been deleted
"""

from __future__ import annotations

import json
import os
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
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_ssh_private_key,
)
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

FLOWER_VERSION = "1.41"
"""The major and minor version of Flower that this module was written for."""
HEARTBEAT_S = 30.0
"""Heartbeat interval; Flower considers a node offline after twice this time without one."""
NODE_UNAVAILABLE = 5
"""Flower's error code for a node that is currently unavailable; the request is then repeated."""
_NOT_ACTIVATED = 2004
"""Flower's FLEET_NODE_ACTIVATION_FAILED; importing its error module would import fastapi."""
_CLOCK_TOLERANCE_S = 5.0
_IGNORE_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME."""
_SUPERLINK_DOWN = (502, 503, 504)
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


def empty_run(run_id: int) -> Run:
    """A run without a SuperLink."""
    return Run.create_empty(run_id)


class LinkError(Exception):
    """A request to the coordinator failed; the message gives the reason."""


class UnreachableError(LinkError):
    """The network, the proxy or the SuperLink is down."""


class ContentPendingError(UnreachableError):
    """A message's metadata has arrived, but the coordinator is still uploading its content."""


class UntrustedError(LinkError):
    """The coordinator's certificate is not valid for this device."""


class WrongClockError(LinkError):
    """The device's clock differs too much: signatures or certificates are refused for that."""


class KeyRefusedError(LinkError):
    """The coordinator does not accept the device's signature."""


class NotActivatedError(LinkError):
    """Flower's error 2004."""


class RunEndedError(LinkError):
    """The run has ended or the message has been deleted: no reply is needed."""


@dataclass(frozen=True)
class PendingMessage:
    """A message assigned to the device whose content has not been fetched yet."""

    head: Message
    object_ids: tuple[str, ...]


class Link:
    """A device's connection to its SuperLink; each method makes one or more HTTPS requests.

    Args:
        address: ``host:port``.
        ca_certificate: PEM; the only trusted certificate authority.
        private_key: OpenSSH format (PEM); it identifies the device.
        certificate: PEM, for the private key; None: it has none.
        timeout_s: timeout of one request.

    Methods raise subclasses of :class:`LinkError`. Thread-safe.
    """

    def __init__(
        self,
        address: str,
        ca_certificate: str,
        private_key: str,
        certificate: str | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        key = load_ssh_private_key(private_key.encode(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError("the key is not an elliptic curve key")
        self._key = public_key_to_bytes(key.public_key())
        self._address, self._ca_certificate = address, ca_certificate
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=ca_certificate)
        if certificate is not None:
            show_certificate(context, certificate, private_key)
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
        """Register the device as online; returns its node id, which is determined by its key."""
        request = ActivateNodeRequest(public_key=self._key, heartbeat_interval=HEARTBEAT_S)
        return int(self._call(lambda: self._client.ActivateNode(request)).node_id)

    def heartbeat(self, node_id: int) -> bool:
        """Send a heartbeat; False if the SuperLink does not know the node."""
        request = SendNodeHeartbeatRequest(
            node=ProtoNode(node_id=node_id), heartbeat_interval=HEARTBEAT_S
        )
        return bool(self._call(lambda: self._client.SendNodeHeartbeat(request)).success)

    def deactivate(self, node_id: int) -> None:
        """Register the device as offline."""
        self._call(lambda: self._client.DeactivateNode(DeactivateNodeRequest(node_id=node_id)))

    def pull(self, node_id: int) -> PendingMessage | None:
        """The next message for the device, or None. The SuperLink delivers each only once."""
        request = PullMessagesRequest(node=ProtoNode(node_id=node_id))
        pulled = self._call(lambda: self._client.PullMessages(request))
        if not pulled.messages_list:
            return None
        trees = iterate_object_tree(pulled.message_object_trees[0])
        return PendingMessage(
            message_from_proto(pulled.messages_list[0]), tuple(tree.object_id for tree in trees)
        )

    def fetch(self, node_id: int, pending: PendingMessage) -> Message:
        """Fetch the message's content; may be repeated."""
        node, run_id = ProtoNode(node_id=node_id), pending.head.metadata.run_id
        message_id, contents = pending.head.metadata.message_id, {}
        for object_id in pending.object_ids:
            wanted = PullObjectRequest(node=node, run_id=run_id, object_id=object_id)
            got = self._call(partial(self._client.PullObject, wanted))
            if not got.object_found:
                raise RunEndedError("the SuperLink has deleted the message's content")
            if not got.object_available:
                raise ContentPendingError("the message's content has not arrived yet")
            contents[object_id] = got.object_content
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
            pushed = self._call(lambda: self._client.PushMessages(request))
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
                    self._call(partial(self._client.PushObject, content))

    def _call(self, request: Callable[[], _Result]) -> _Result:
        try:
            return _call(request)
        except UntrustedError as untrusted:
            if wrong := clock_error(server_date(self._address, self._ca_certificate)):
                raise WrongClockError(f"{wrong} ({untrusted})") from None
            raise


def _call(request: Callable[[], _Result]) -> _Result:
    """Make a request and convert its exceptions to :class:`LinkError`."""
    try:
        return request()
    except httpx.HTTPStatusError as refused:
        raise _http_error(refused.response) from None
    except httpx.TransportError as failed:
        reason = re.sub(r"^\[Errno -?\d+\] ", "", str(failed)) or type(failed).__name__
        if "WRONG_VERSION_NUMBER" in reason:
            reason = "the server there does not use TLS, so it is not the coordinator"
        if "CERTIFICATE_VERIFY_FAILED" in reason:
            why = reason.partition("failed: ")[2].partition(" (_ssl")[0]
            raise UntrustedError(why) from None
        raise UnreachableError(reason) from None
    except (ValueError, httpx.HTTPError) as error:
        raise UnreachableError(f"invalid response, not from a SuperLink: {error}") from None


def show_certificate(context: ssl.SSLContext, certificate: str, private_key: str) -> None:
    """Have connections of this context show a device's certificate.

    Args:
        context: of a client.
        certificate: PEM.
        private_key: OpenSSH format (PEM).
    """
    key = load_ssh_private_key(private_key.encode(), None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    # Python's ssl reads files only; this one is in memory, so that the key is on no disk again.
    file = os.memfd_create("certificate")
    try:
        os.write(file, certificate.encode() + key)
        context.load_cert_chain(f"/proc/self/fd/{file}")
    finally:
        os.close(file)


class _Signature:
    """Signs each request, like Flower's NodeAuthHttpInterceptor.

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
        return call_next(context)


def _http_error(response: httpx.Response) -> LinkError:
    status, code = response.status_code, _flower_code(response)
    if status == httpx.codes.UNAUTHORIZED:
        if wrong := clock_error(response.headers.get("date")):
            return WrongClockError(wrong)
        return KeyRefusedError("the coordinator does not know its key")
    if code == _NOT_ACTIVATED:
        return NotActivatedError(f"Flower error {code}")
    if status == httpx.codes.FORBIDDEN and code is not None:
        return RunEndedError(f"Flower error {code}")
    if status in _SUPERLINK_DOWN:
        return UnreachableError(f"its SuperLink does not answer the proxy (HTTP status {status})")
    return UnreachableError(f"HTTP status {status} at {response.request.url.path}")


def _flower_code(response: httpx.Response) -> int | None:
    """The code of a Flower error; None if the response is from something else, such as a proxy."""
    try:
        body = json.loads(response.text)
    except ValueError:
        return None
    code = body.get("code") if isinstance(body, dict) else None
    return code if isinstance(code, int) else None


def server_date(address: str, ca_certificate: str) -> str | None:
    """The HTTP ``Date`` of a server, whose certificate may be expired or not valid yet.

    None if it does not answer, or its certificate is not of this authority.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=ca_certificate)
    context.verify_flags |= _IGNORE_TIME
    try:
        answer = httpx.get(f"https://{address}", verify=context, timeout=10.0)
    except httpx.HTTPError:
        return None
    return str(answer.headers.get("date"))


def clock_error(date: str | None) -> str:
    """A sentence if the clock differs too much from an HTTP ``Date``; empty if it does not."""
    behind_s = clock_behind_s(date)
    if behind_s is None or abs(behind_s) < _CLOCK_TOLERANCE_S:
        return ""
    side = "behind" if behind_s > 0 else "ahead of"
    return (
        f"its clock is {lasting(abs(behind_s))} {side} the coordinator's: start NTP with "
        "'timedatectl set-ntp true', or set it"
    )


def lasting(seconds: float) -> str:
    """A time of this length in words: ``90 s``, ``12 minutes``, ``30 hours``, ``12 days``."""
    for unit, unit_s in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * unit_s:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds:.0f} s"


def clock_behind_s(date: str | None) -> float | None:
    """Seconds by which this device's clock is behind an HTTP ``Date``; None if it is missing."""
    try:
        return None if date is None else (parsedate_to_datetime(date) - now()).total_seconds()
    except (TypeError, ValueError):
        return None
