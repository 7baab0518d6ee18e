"""A run on SuperLink that this process executes: its nodes, and sending and receiving messages.

Usually ``flower-superexec`` starts a run's ServerApp in a process of its own. Here the process of
``fieldtune tune`` is the executor: it starts a run, claims it and uses SuperLink's Runtime API,
protobuf over HTTP, as Flower's ``HttpGrid`` does. (That class is not used: importing it imports
SuperLink's database, which takes a second and 40 MB.) So the user sees progress and the exit code
directly, Ctrl-C works, and the coordinator never executes code that comes with a run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import httpx
from flwr.app import Error, Message, Metadata

from fieldtune.client.node.fleet_api import identify_process, set_message_id
from fieldtune.profiles.common.errors import FleetError
from fieldtune.server.deployment.flower_private import (
    SYSTEM_MESSAGE_TYPE,
    AcquireTaskRequest,
    ConfirmMessageReceivedRequest,
    GetNodesRequest,
    ProtoNode,
    PullAppMessagesRequest,
    PullObjectRequest,
    PullTaskInputRequest,
    PushAppMessagesRequest,
    PushObjectRequest,
    PushTaskOutputRequest,
    RetryInvoker,
    RuntimeHttpClient,
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SendTaskHeartbeatRequest,
    SubStatus,
    SuperExecAuthHttpInterceptor,
    TaskType,
    exponential,
    get_all_nested_objects,
    get_object_tree,
    inflate_object_from_contents,
    iterate_object_tree,
    make_message,
    message_from_proto,
    message_to_proto,
    no_object_id_recompute,
    remove_content_from_message,
)
from fieldtune.server.deployment.folder import CoordinatorFolder
from fieldtune.server.deployment.run import ConnectedDevice, RunLostError
from fieldtune.server.deployment.superlink_control import (
    node_of,
    start_hint,
    start_run,
    superlink_errors,
)
from fieldtune.server.devices.reply_limits import TooLargeError, check_size, most_bytes, refused
from fieldtune.server.federation.grid_fleet import REPLY_REFUSED

_COORDINATOR = 1  # Flower's node id of whoever sends a run's messages
_SUPERLINK = ProtoNode(node_id=_COORDINATOR)
_REPLY_LOST = 4  # Flower's ErrorCode.REPLY_MESSAGE_UNAVAILABLE
_CONTENT_S = 60.0
_HEARTBEAT_S, _HEARTBEAT_RETRY_S = 20.0, 2.0
"""Pauses between heartbeats, and after a failed one; SuperLink drops a run after 60 s without."""
_GIVE_UP_S = 900.0
_UNREPORTED_S = 2.0
"""Shorter interruptions are not reported: idle connections are often closed and reopened."""
_TEMPORARY = (500, 502, 503, 504)
"""HTTP statuses of a busy or restarting SuperLink; 500 when its database is locked for 5 s."""


Request = TypeVar("Request")
Answer = TypeVar("Answer")


class SuperLinkRun:
    """A run on SuperLink that this process executes.

    Args:
        folder: the coordinator's.
        notes: prints a sentence when SuperLink stops answering, and when it answers again.
        waiting: called in between with the time left, as a sentence; with an empty string at the
            end.

    Raises:
        FleetError: SuperLink does not answer.
    """

    def __init__(
        self,
        folder: CoordinatorFolder,
        notes: Callable[[str], None],
        waiting: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._folder = folder
        self._lost, self._closing = threading.Event(), threading.Event()
        with superlink_errors(folder):
            token = _claimed_run(folder)
        self._reconnecting = _Reconnecting(folder, notes, waiting)
        self._client = _runtime_client(
            folder, RuntimeTokenHttpInterceptor(token=token), self._reconnecting.invoker
        )
        self._run_id = self._client.PullTaskInput(PullTaskInputRequest()).run.run_id
        identify_process(self._run_id, _COORDINATOR)
        self._partial_replies: list[_PartialReply] = []
        self._most_bytes: dict[str, int] = {}
        """Message -> the largest reply to it."""
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
        with no_object_id_recompute():
            for message in messages:
                set_message_id(message, message.object_id)
            request = PushAppMessagesRequest(
                messages_list=[message_to_proto(remove_content_from_message(m)) for m in messages],
                message_object_trees=[get_object_tree(message) for message in messages],
            )
            pushed = self._call(self._client.PushMessages, request)
            wanted = set(pushed.objects_to_push)
            # Messages with the same content share objects: an artefact is uploaded once.
            parts = {
                k: v for message in messages for k, v in get_all_nested_objects(message).items()
            }
            for object_id in wanted & parts.keys():
                content = PushObjectRequest(
                    node=_SUPERLINK,
                    run_id=self._run_id,
                    object_id=object_id,
                    object_content=parts[object_id].deflate(),
                    session_id=pushed.session_id,
                )
                self._call(self._client.PushObject, content)
        for message_id, message in zip(pushed.message_ids, messages, strict=True):
            self._most_bytes[message_id] = most_bytes(message)
        return [message_id or None for message_id in pushed.message_ids]

    def pull(self, message_ids: Iterable[str]) -> list[Message]:
        """Replies to these messages, or errors in their place, that have come in."""
        # SuperLink delivers a reply's head once: asked again, it would not know these messages.
        arriving = {each.head.metadata.reply_to_message_id for each in self._partial_replies}
        if wanted := [each for each in message_ids if each not in arriving]:
            request = PullAppMessagesRequest(message_ids=wanted)
            pulled = self._call(self._client.PullMessages, request)
            self._partial_replies += [
                _PartialReply(
                    message_from_proto(head), [t.object_id for t in iterate_object_tree(tree)]
                )
                for head, tree in zip(
                    pulled.messages_list, pulled.message_object_trees, strict=True
                )
            ]
        arrived = [
            reply for each in self._partial_replies if (reply := self._fetched(each)) is not None
        ]
        self._partial_replies = [each for each in self._partial_replies if not each.done]
        return arrived

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

    def _fetched(self, arriving: _PartialReply) -> Message | None:
        """The complete reply, or Flower's error if it was lost; None while content is missing."""
        for object_id in arriving.missing():
            if why := self._too_large(arriving):
                return self._refused(arriving, why)
            request = PullObjectRequest(node=_SUPERLINK, run_id=self._run_id, object_id=object_id)
            try:
                got = self._call(self._client.PullObject, request)
            except TooLargeError as large:
                return self._refused(arriving, str(large))
            if got.object_found and got.object_available:
                arriving.contents[object_id] = got.object_content
            elif not got.object_found or arriving.overdue():
                arriving.done = True
                return _lost_reply(arriving.head)
            else:
                return None
        self._confirm(arriving)
        return _inflated(arriving.head, arriving.contents)

    def _too_large(self, arriving: _PartialReply) -> str:
        most = self._most_bytes.get(arriving.head.metadata.reply_to_message_id, 0)
        fetched = sum(len(content) for content in arriving.contents.values())
        return refused(most, len(arriving.object_ids), fetched)

    def _refused(self, arriving: _PartialReply, why: str) -> Message:
        """SuperLink deletes what it holds of a reply, and an error takes its place."""
        self._confirm(arriving)
        arriving.contents.clear()
        return _error(arriving.head, REPLY_REFUSED, why)

    def _confirm(self, arriving: _PartialReply) -> None:
        arriving.done = True
        metadata = arriving.head.metadata
        self._most_bytes.pop(metadata.reply_to_message_id, None)
        confirmation = ConfirmMessageReceivedRequest(
            node=_SUPERLINK, run_id=self._run_id, message_object_id=metadata.message_id
        )
        self._call(self._client.ConfirmMessageReceived, confirmation)

    def _call(self, method: Callable[[Request], Answer], request: Request) -> Answer:
        if self._lost.is_set():
            raise RunLostError
        try:
            return method(request)
        except httpx.HTTPStatusError as refused:
            raise RunLostError from refused

    def _beat(self, token: str) -> None:
        client = _runtime_client(self._folder, RuntimeTokenHttpInterceptor(token=token))
        pause_s = _HEARTBEAT_S
        while not self._closing.wait(pause_s):
            pause_s = _HEARTBEAT_S
            try:
                if not client.SendTaskHeartbeat(SendTaskHeartbeatRequest()).success:
                    self._lost.set()
            except (httpx.TransportError, httpx.HTTPStatusError) as failed:
                if _is_final(failed):
                    self._lost.set()
                pause_s = _HEARTBEAT_RETRY_S
        client.close()


@dataclass
class _PartialReply:
    """A reply whose head has arrived, and whose content the device may still be sending."""

    head: Message
    object_ids: list[str]
    contents: dict[str, bytes] = field(default_factory=dict)
    since: float = field(default_factory=time.monotonic)
    done: bool = False

    def missing(self) -> list[str]:
        return [object_id for object_id in self.object_ids if object_id not in self.contents]

    def overdue(self) -> bool:
        return time.monotonic() - self.since > _CONTENT_S


class _Reconnecting:
    """Retries calls while SuperLink is unreachable, and reports that."""

    def __init__(
        self,
        folder: CoordinatorFolder,
        notes: Callable[[str], None],
        waiting: Callable[[str], None],
    ) -> None:
        self._folder, self._notes, self._waiting = folder, notes, waiting
        self._most_s = _GIVE_UP_S
        self._since: float | None = None
        self._said = False
        self.outages = 0
        self.invoker = RetryInvoker(
            wait_gen_factory=lambda: exponential(0.5, max_delay=5),
            recoverable_exceptions=(httpx.TransportError, httpx.HTTPStatusError),
            max_tries=None,
            max_time=None,
            should_giveup=_is_final,
            on_success=lambda _: self._is_back(),
            on_backoff=lambda _: self._is_away(),
        )

    def give_up(self) -> None:
        """From now on, calls fail without retries."""
        self._most_s, self._said = 0.0, True

    def _is_away(self) -> None:
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        away_s = now - self._since
        if away_s >= _UNREPORTED_S and not self._said:
            self._said = True
            self._notes(f"SuperLink does not answer: waiting for it ({start_hint(self._folder)})")
        elif self._said and away_s < self._most_s:
            self._waiting(f"waiting for SuperLink ({self._most_s - away_s:.0f} s more at most)")
        if away_s >= self._most_s:
            raise FleetError(
                f"SuperLink has not answered for {away_s / 60:.0f} minutes: "
                f"{start_hint(self._folder)} Once it is, run the same command to resume"
            )

    def _is_back(self) -> None:
        if self._said and self._since is not None:
            self.outages += 1
            self._waiting("")
            self._notes(f"SuperLink is back after {time.monotonic() - self._since:.0f} s")
        self._since, self._said = None, False


def _claimed_run(folder: CoordinatorFolder) -> str:
    """Start a run and claim it for this process; its token."""
    run_id = start_run(folder)
    client = _runtime_client(
        folder,
        SuperExecAuthHttpInterceptor(
            master_secret=folder.executor_key,
            protected_methods={"/flwr.proto.Runtime/AcquireTask"},
        ),
    )
    try:
        claimed = client.AcquireTask(AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP]))
    finally:
        client.close()
    if not claimed.token or claimed.task.run_id != run_id:
        raise FleetError(
            "SuperLink assigned the run to another process: a 'flower-superexec' is running; "
            "stop it and try again"
        )
    return str(claimed.token)


def _runtime_client(
    folder: CoordinatorFolder,
    interceptor: SuperExecAuthHttpInterceptor | RuntimeTokenHttpInterceptor,
    invoker: RetryInvoker | None = None,
) -> RuntimeHttpClient:
    client = RuntimeHttpClient.from_server_address(
        server_address=folder.settings.superlink_address,
        insecure=False,
        root_certificates=folder.ca_certificate.encode(),
        interceptors=[RuntimeVersionHttpInterceptor(component_name="SuperExec"), interceptor],
        retry_invoker=invoker,
    )
    client._client.event_hooks = {"response": [check_size]}
    return client


def _inflated(head: Message, contents: dict[str, bytes]) -> Message:
    """The reply made of these objects, or Flower's error for one that cannot be read.

    The objects come from the device and are not trusted: sender and request are taken from the
    head, which SuperLink has checked.
    """
    try:
        reply = inflate_object_from_contents(head.metadata.message_id, contents)
        if not isinstance(reply, Message):
            return _error(head, REPLY_REFUSED, "the reply is not a message")
        if reply.has_error():
            return make_message(head.metadata, error=reply.error)
        return make_message(head.metadata, content=reply.content)
    except Exception as malformed:  # a device's bytes may make Flower or protobuf raise anything
        why = f"the reply cannot be read: {type(malformed).__name__}"
        return _error(head, REPLY_REFUSED, why)


def _lost_reply(head: Message) -> Message:
    """The error in place of a reply whose content is missing, as in Flower's own grid."""
    return _error(head, _REPLY_LOST, "the reply's content never arrived")


def _error(head: Message, code: int, why: str) -> Message:
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


def _is_final(error: Exception) -> bool:
    return isinstance(error, httpx.HTTPStatusError) and error.response.status_code not in _TEMPORARY
