"""A run on SuperLink that this process executes: its nodes, and sending and receiving messages.

Usually ``flower-superexec`` starts a run's ServerApp in a process of its own. Here the process of
``fieldtune tune`` is the executor: it starts a run, claims it and uses SuperLink's Runtime API,
protobuf over HTTP, as Flower's ``HttpGrid`` does. (That class is not used: importing it imports
SuperLink's database, which takes a second and 40 MB.) So the user sees progress and the exit code
directly, Ctrl-C works, and the coordinator never executes code that comes with a run.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import httpx
from flwr.app import Message

from fieldtune.client.contract.combined_calls import COLLECT, SEND, Parts, that_fit
from fieldtune.client.node.fleet_api import identify_process, set_message_id
from fieldtune.profiles.common.errors import FleetError
from fieldtune.server.deployment.flower_private import (
    ConfirmMessageReceivedRequest,
    GetNodesRequest,
    ProtoNode,
    PullAppMessagesRequest,
    PullAppMessagesResponse,
    PullObjectRequest,
    PullTaskInputRequest,
    PushAppMessagesRequest,
    PushAppMessagesResponse,
    PushObjectRequest,
    PushTaskOutputRequest,
    RuntimeTokenHttpInterceptor,
    SendTaskHeartbeatRequest,
    SubStatus,
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    message_from_proto,
    message_to_proto,
    no_object_id_recompute,
    remove_content_from_message,
)
from fieldtune.server.deployment.folder import CoordinatorFolder
from fieldtune.server.deployment.run import ConnectedDevice, RunLostError
from fieldtune.server.deployment.superlink_control import node_of, superlink_errors
from fieldtune.server.devices.replies import PartialReply, error_reply, inflated, lost_reply
from fieldtune.server.devices.reply_limits import TooLargeError, most_bytes, refused
from fieldtune.server.devices.runtime_client import (
    GIVE_UP_S,
    Reconnecting,
    claimed_run,
    is_final,
    runtime_client,
)
from fieldtune.server.federation.flower_messages import REPLY_REFUSED

_COORDINATOR = 1  # Flower's node id of whoever sends a run's messages
_SUPERLINK = ProtoNode(node_id=_COORDINATOR)
_HEARTBEAT_S, _HEARTBEAT_RETRY_S = 20.0, 2.0
"""Pauses between heartbeats, and after a failed one; SuperLink drops a run after 60 s without."""
_BATCH, _BATCH_BYTES = 32, 4 * 2**20
"""Messages that are sent in one call, which is one transaction of SuperLink's database, and the
bytes of their objects."""
_ALL_S = 5.0
"""Interval of looking for replies to all messages. In between, SuperLink looks only for those that
it knows of; errors in place of a reply, of devices that have disconnected, are not among them."""
_LATE_S = 600.0
"""How long the size of a reply is known after its request has expired; it may be fetched then."""
_OLD_SUPERLINK = (b"not allowed", b'{"detail":"Not Found"}')
"""Answers of earlier versions to a call that they do not know."""


Request = TypeVar("Request")
Answer = TypeVar("Answer")


class SuperLinkRun:
    """A run on SuperLink that this process executes.

    Args:
        folder: the coordinator's.
        notes: prints a sentence when SuperLink stops answering, and when it answers again.
        waiting: called in between with the time left, as a sentence; with an empty string at the
            end.
        patience_s: how long it is waited for.

    Raises:
        FleetError: SuperLink does not answer.
    """

    def __init__(
        self,
        folder: CoordinatorFolder,
        notes: Callable[[str], None],
        waiting: Callable[[str], None] = lambda _: None,
        patience_s: float = GIVE_UP_S,
    ) -> None:
        self._folder = folder
        self._lost, self._closing = threading.Event(), threading.Event()
        with superlink_errors(folder):
            token = claimed_run(folder)
        self._reconnecting = Reconnecting(folder, notes, waiting, patience_s)
        self._client = runtime_client(
            folder, RuntimeTokenHttpInterceptor(token=token), self._reconnecting.invoker
        )
        self._run_id = self._client.PullTaskInput(PullTaskInputRequest()).run.run_id
        identify_process(self._run_id, _COORDINATOR)
        self._partial_replies: list[PartialReply] = []
        self._look_for_all = 0.0
        """Time of the next look for replies to all messages."""
        self._most_bytes: dict[str, tuple[int, float]] = {}
        """Message -> the largest reply to it, and the time at which it expires."""
        self._heart = threading.Thread(target=self._beat, args=(token,), daemon=True)
        self._heart.start()

    @property
    def outages(self) -> int:
        """How often SuperLink has not answered for a while."""
        return self._reconnecting.outages

    def nodes(self) -> list[ConnectedDevice]:
        """The connected devices."""
        return [
            node_of(node) for node in self._call(self._client.GetNodes, GetNodesRequest()).nodes
        ]

    def push(self, messages: Sequence[Message]) -> list[str | None]:
        """Send messages; the id of each, or None where SuperLink did not accept it."""
        return [
            message_id
            for begin in range(0, len(messages), _BATCH)
            for message_id in self._push(messages[begin : begin + _BATCH])
        ]

    def _push(self, messages: Sequence[Message]) -> list[str | None]:
        with no_object_id_recompute():
            for message in messages:
                set_message_id(message, message.object_id)
            request = PushAppMessagesRequest(
                messages_list=[message_to_proto(remove_content_from_message(m)) for m in messages],
                message_object_trees=[get_object_tree(message) for message in messages],
            )
            # Messages with the same content share objects: an artefact is uploaded once.
            contents = {
                object_id: part.deflate()
                for message in messages
                for object_id, part in get_all_nested_objects(message).items()
            }
        objects = (
            PushObjectRequest(object_id=object_id, object_content=content).SerializeToString()
            for object_id, content in that_fit(contents.items(), _BATCH_BYTES)
        )
        (answer,) = self._combined(SEND, request.SerializeToString(), _number(), *objects)
        pushed = PushAppMessagesResponse.FromString(answer)
        for object_id in pushed.objects_to_push:
            content = PushObjectRequest(
                node=_SUPERLINK,
                run_id=self._run_id,
                object_id=object_id,
                object_content=contents[object_id],
                session_id=pushed.session_id,
            )
            self._call(self._client.PushObject, content)
        now = time.monotonic()
        self._most_bytes = {each: of for each, of in self._most_bytes.items() if of[1] > now}
        for message_id, message in zip(pushed.message_ids, messages, strict=True):
            expires = now + message.metadata.ttl + _LATE_S
            self._most_bytes[message_id] = most_bytes(message), expires
        return [message_id or None for message_id in pushed.message_ids]

    def pull(self, message_ids: Iterable[str]) -> list[Message]:
        """Replies to these messages, or errors in their place, that have come in."""
        asked = dict.fromkeys(message_ids)
        # SuperLink delivers a reply's head once: asked again, it would not know these messages.
        arriving = {each.request for each in self._partial_replies}
        if wanted := [each for each in asked if each not in arriving]:
            self._partial_replies += self._collected(wanted)
        arrived = [
            reply
            for each in self._partial_replies
            if each.request in asked and (reply := self._fetched(each)) is not None
        ]
        self._partial_replies = [
            each
            for each in self._partial_replies
            if not each.done and (each.request in asked or not each.overdue())
        ]
        return arrived

    def _collected(self, message_ids: Sequence[str]) -> list[PartialReply]:
        request, which = PullAppMessagesRequest(message_ids=message_ids), b""
        if (now := time.monotonic()) >= self._look_for_all:
            self._look_for_all, which = now + _ALL_S, b"all"
        answer, *parts = self._combined(COLLECT, request.SerializeToString(), which, _number())
        pulled = PullAppMessagesResponse.FromString(answer)
        objects = map(PushObjectRequest.FromString, parts)
        contents = {each.object_id: each.object_content for each in objects}
        return [
            PartialReply.of(
                message_from_proto(head), [t.object_id for t in iterate_object_tree(tree)], contents
            )
            for head, tree in zip(pulled.messages_list, pulled.message_object_trees, strict=True)
        ]

    def close(self, failed: str | None = None) -> None:
        """End the run on SuperLink; later replies of its devices are dropped."""
        self._closing.set()
        self._reconnecting.give_up()
        try:
            self._client.PushTaskOutput(
                PushTaskOutputRequest(
                    sub_status=SubStatus.FAILED if failed else SubStatus.COMPLETED,
                    details=failed or "",
                )
            )
        except (httpx.HTTPError, FleetError):
            pass  # the next study stops runs that were left
        finally:
            self._client.close()

    def _fetched(self, arriving: PartialReply) -> Message | None:
        """The complete reply, or Flower's error if it was lost; None while content is missing."""
        if why := self._too_large(arriving):
            return self._refused(arriving, why)
        for object_id in arriving.missing():
            request = PullObjectRequest(node=_SUPERLINK, run_id=self._run_id, object_id=object_id)
            try:
                got = self._call(self._client.PullObject, request)
            except TooLargeError as large:
                return self._refused(arriving, str(large))
            if got.object_found and got.object_available:
                arriving.contents[object_id] = got.object_content
                if why := self._too_large(arriving):
                    return self._refused(arriving, why)
            elif not got.object_found or arriving.overdue():
                arriving.done = True
                return lost_reply(arriving.head)
            else:
                return None
        self._confirm(arriving)
        return inflated(arriving.head, arriving.contents)

    def _too_large(self, arriving: PartialReply) -> str:
        most, _ = self._most_bytes.get(arriving.request, (0, 0.0))
        fetched = sum(len(content) for content in arriving.contents.values())
        return refused(most, len(arriving.object_ids), fetched)

    def _refused(self, arriving: PartialReply, why: str) -> Message:
        """SuperLink deletes what it holds of a reply, and an error takes its place."""
        self._confirm(arriving)
        arriving.contents.clear()
        return error_reply(arriving.head, REPLY_REFUSED, why)

    def _confirm(self, arriving: PartialReply) -> None:
        arriving.done = True
        self._most_bytes.pop(arriving.request, None)
        if arriving.confirmed:
            return
        confirmation = ConfirmMessageReceivedRequest(
            node=_SUPERLINK,
            run_id=self._run_id,
            message_object_id=arriving.head.metadata.message_id,
        )
        self._call(self._client.ConfirmMessageReceived, confirmation)

    def _combined(self, path: str, *parts: bytes) -> list[bytes]:
        """Make a combined call; the parts of its answer."""
        call: Any = self._client._unary_unary  # for protobuf messages; Parts has their methods

        def method(request: Parts) -> Parts:
            answer: Parts = call(path=path, rpc_method=path, request=request, response_type=Parts)
            return answer

        return self._call(method, Parts(*parts)).parts

    def _call(self, method: Callable[[Request], Answer], request: Request) -> Answer:
        if self._lost.is_set():
            raise RunLostError
        try:
            return method(request)
        except httpx.HTTPStatusError as failed:
            if failed.response.content in _OLD_SUPERLINK:
                raise FleetError(
                    "The coordinator was started by an earlier version of fieldtune: stop it, and "
                    f"start it again with 'fieldtune coordinator start {self._folder.path}'"
                ) from None
            raise RunLostError from failed

    def _beat(self, token: str) -> None:
        client = runtime_client(self._folder, RuntimeTokenHttpInterceptor(token=token))
        pause_s = _HEARTBEAT_S
        while not self._closing.wait(pause_s):
            pause_s = _HEARTBEAT_S
            try:
                if not client.SendTaskHeartbeat(SendTaskHeartbeatRequest()).success:
                    self._lost.set()
            except (httpx.TransportError, httpx.HTTPStatusError) as failed:
                if is_final(failed):
                    self._lost.set()
                pause_s = _HEARTBEAT_RETRY_S
        client.close()


def _number() -> bytes:
    """Of a call that is made again with the same number where its answer is lost."""
    return secrets.token_bytes(8)
