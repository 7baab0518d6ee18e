"""A run on SuperLink that this process carries out: its nodes, and messages to and fro.

A run's ServerApp is usually started by a ``flower-superexec`` in a process of its own. A study is
its own executor instead: it starts a run, claims it and speaks SuperLink's Runtime API, protobuf
over HTTP, as Flower's ``HttpGrid`` does. (That class itself is left alone: importing it imports
SuperLink's database, a second and 40 MB.) So progress, Ctrl-C and the exit code are the user's,
and nothing on the coordinator runs code that a run brings along.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import httpx
from flwr.app import Error, Message, Metadata

from fieldtune.client.node.fleet_api import identify_process, number_message
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
from fieldtune.server.deployment.run import Node, RunLostError
from fieldtune.server.deployment.superlink_control import node_of, start_hint, start_run, told

_COORDINATOR = 1  # Flower's node id of whoever sends a run's messages
_SUPERLINK = ProtoNode(node_id=_COORDINATOR)
_REPLY_LOST = 4  # Flower's ErrorCode.REPLY_MESSAGE_UNAVAILABLE
_ARRIVES_S = 60.0
_HEARTBEAT_S, _AGAIN_S = 20.0, 2.0
"""Between two signs of life, and after one that failed: SuperLink gives up a run after 60 s."""
_GIVE_UP_S = 900.0
_BLINK_S = 2.0
"""A connection that was idle is often closed and opened anew; that is not worth a word."""
_PASSING = (500, 502, 503, 504)
"""What a busy or restarting SuperLink answers; 500 where its database was kept busy for 5 s."""


Request = TypeVar("Request")
Answer = TypeVar("Answer")


class SuperLinkRun:
    """One run on SuperLink, carried out by this process: its nodes, and messages to and fro.

    Args:
        folder: the coordinator's.
        notes: is told, in a sentence, when SuperLink stops and starts to answer.
        waiting: is told meanwhile for how long yet it is waited for; an empty string in the end.

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
        with told(folder):
            token = _claimed_run(folder)
        self._patience = _Patience(folder, notes, waiting)
        self._client = _runtime_client(
            folder, RuntimeTokenHttpInterceptor(token=token), self._patience.invoker
        )
        self._run_id = self._client.PullTaskInput(PullTaskInputRequest()).run.run_id
        identify_process(self._run_id, _COORDINATOR)
        self._arriving: list[_Arriving] = []
        self._heart = threading.Thread(target=self._beat, args=(token,), daemon=True)
        self._heart.start()

    def nodes(self) -> list[Node]:
        """Devices that are connected now."""
        return [
            node_of(node) for node in self._call(self._client.GetNodes, GetNodesRequest()).nodes
        ]

    def push(self, messages: Sequence[Message]) -> list[str | None]:
        """Send; each message's id, or None where SuperLink would not take it."""
        with no_object_id_recompute():
            for message in messages:
                number_message(message, message.object_id)
            request = PushAppMessagesRequest(
                messages_list=[message_to_proto(remove_content_from_message(m)) for m in messages],
                message_object_trees=[get_object_tree(message) for message in messages],
            )
            pushed = self._call(self._client.PushMessages, request)
            wanted = set(pushed.objects_to_push)
            # Messages that say the same share objects: an artefact goes to SuperLink once.
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
        return [message_id or None for message_id in pushed.message_ids]

    def pull(self, message_ids: Iterable[str]) -> list[Message]:
        """Replies, and errors in place of replies, that have come in for these messages."""
        # SuperLink has handed these over; asked again, it would say that it does not know them.
        arriving = {each.head.metadata.reply_to_message_id for each in self._arriving}
        if wanted := [each for each in message_ids if each not in arriving]:
            request = PullAppMessagesRequest(message_ids=wanted)
            pulled = self._call(self._client.PullMessages, request)
            self._arriving += [
                _Arriving(
                    message_from_proto(head), [t.object_id for t in iterate_object_tree(tree)]
                )
                for head, tree in zip(
                    pulled.messages_list, pulled.message_object_trees, strict=True
                )
            ]
        arrived = [reply for each in self._arriving if (reply := self._fetched(each)) is not None]
        self._arriving = [each for each in self._arriving if not each.done]
        return arrived

    def close(self, failed: str | None = None) -> None:
        """Have SuperLink end the run; what its devices still do is dropped."""
        self._closing.set()
        self._patience.give_up()
        try:
            self._client.PushTaskOutput(
                PushTaskOutputRequest(
                    sub_status=SubStatus.FAILED if failed else SubStatus.COMPLETED,
                    details=failed or "",
                )
            )
        except (httpx.HTTPError, FleetError):
            pass  # the next study stops what is left running
        finally:
            self._client.close()

    def _fetched(self, arriving: _Arriving) -> Message | None:
        """The whole reply, or Flower's error for one that was lost; None while it is arriving."""
        message_id = arriving.head.metadata.message_id
        for object_id in arriving.missing():
            request = PullObjectRequest(node=_SUPERLINK, run_id=self._run_id, object_id=object_id)
            got = self._call(self._client.PullObject, request)
            if got.object_found and got.object_available:
                arriving.contents[object_id] = got.object_content
            elif not got.object_found or arriving.overdue():
                arriving.done = True
                return _lost_reply(arriving.head)
            else:
                return None
        arriving.done = True
        confirmation = ConfirmMessageReceivedRequest(
            node=_SUPERLINK, run_id=self._run_id, message_object_id=message_id
        )
        self._call(self._client.ConfirmMessageReceived, confirmation)
        return _inflated(arriving.head, arriving.contents)

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
                pause_s = _AGAIN_S
        client.close()


@dataclass
class _Arriving:
    """A reply whose head is here, and whose content may still be on its way from the device."""

    head: Message
    object_ids: list[str]
    contents: dict[str, bytes] = field(default_factory=dict)
    since: float = field(default_factory=time.monotonic)
    done: bool = False

    def missing(self) -> list[str]:
        return [object_id for object_id in self.object_ids if object_id not in self.contents]

    def overdue(self) -> bool:
        return time.monotonic() - self.since > _ARRIVES_S


class _Patience:
    """Waits for a SuperLink that is away, and says so."""

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
        """From now on fail at once."""
        self._most_s, self._said = 0.0, True

    def _is_away(self) -> None:
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        away_s = now - self._since
        if away_s >= _BLINK_S and not self._said:
            self._said = True
            self._notes(f"SuperLink does not answer: waiting for it ({start_hint(self._folder)})")
        elif self._said and away_s < self._most_s:
            self._waiting(f"waiting for SuperLink ({self._most_s - away_s:.0f} s more at most)")
        if away_s >= self._most_s:
            raise FleetError(
                f"SuperLink has not answered for {away_s / 60:.0f} minutes: "
                f"{start_hint(self._folder)} Once it is, the same command goes on"
            )

    def _is_back(self) -> None:
        if self._said and self._since is not None:
            self._waiting("")
            self._notes(f"SuperLink is back after {time.monotonic() - self._since:.0f} s")
        self._since, self._said = None, False


def _claimed_run(folder: CoordinatorFolder) -> str:
    """The token of a new run that is ours to carry out."""
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
            "SuperLink gave the run to somebody else: a 'flower-superexec' is at work on it; "
            "end that and try again"
        )
    return str(claimed.token)


def _runtime_client(
    folder: CoordinatorFolder,
    interceptor: SuperExecAuthHttpInterceptor | RuntimeTokenHttpInterceptor,
    invoker: RetryInvoker | None = None,
) -> RuntimeHttpClient:
    return RuntimeHttpClient.from_server_address(
        server_address=folder.settings.superlink_address,
        insecure=False,
        root_certificates=folder.ca_certificate.encode(),
        interceptors=[RuntimeVersionHttpInterceptor(component_name="SuperExec"), interceptor],
        retry_invoker=invoker,
    )


def _inflated(head: Message, contents: dict[str, bytes]) -> Message:
    """The reply of these objects, or Flower's error for one that cannot be read.

    The objects are the device's bytes and may say anything. Whose answer it is, and to what, is
    believed of SuperLink alone, which has checked the head.
    """
    try:
        reply = inflate_object_from_contents(head.metadata.message_id, contents)
        if not isinstance(reply, Message):
            return _lost_reply(head, "the reply is not a message")
        if reply.has_error():
            return make_message(head.metadata, error=reply.error)
        return make_message(head.metadata, content=reply.content)
    except Exception as malformed:  # whatever Flower or protobuf stumbles over
        return _lost_reply(head, f"the reply cannot be read: {type(malformed).__name__}")


def _lost_reply(head: Message, why: str = "the reply's content never arrived") -> Message:
    """What stands in for a reply whose content never came; as Flower's own grid has it."""
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
    return make_message(metadata, error=Error(_REPLY_LOST, why))


def _is_final(error: Exception) -> bool:
    return isinstance(error, httpx.HTTPStatusError) and error.response.status_code not in _PASSING
