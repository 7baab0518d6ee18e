"""Calls that SuperLink answers in fieldtune's coordinator beyond Flower's own.

Each does in one request, and in one transaction of SuperLink's database, what takes many of
Flower's calls (:mod:`fieldtune.client.contract.combined_calls` says which, and what they carry).
The work is done by Flower's own handlers, after Flower's own checks of the sender, so devices that
make combined calls and those that make Flower's (older clients, Flower's SuperNode) share a run.

What is kept in memory only saves looks at the database: which devices have a message to fetch, and
which messages have been replied to. After a restart devices and coordinator ask for everything.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from anyio import CapacityLimiter
from anyio.to_thread import current_default_thread_limiter, run_sync
from fastapi import HTTPException
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from fieldtune.client.contract.combined_calls import (
    COLLECT,
    LONGEST_WAIT_S,
    MOST_BYTES,
    NEWS,
    REPLY,
    SEND,
    TAKE,
    WAIT,
    Parts,
)
from fieldtune.server.deployment.claimed_objects import forget_false_claims
from fieldtune.server.deployment.mailbox import NOTHING_TAKEN, Mailbox
from fieldtune.server.deployment.own_replies import REFUSAL, Receive, Scope, Send, is_sound
from fieldtune.server.deployment.superlink_handlers import (
    HEARTBEAT_DEFAULT_INTERVAL,
    TASK_TOKEN_HEADER,
    ConfirmMessageReceivedRequest,
    DecodeError,
    FlowerError,
    ObjectTree,
    PullAppMessagesRequest,
    PullAppMessagesResponse,
    PullMessagesRequest,
    PushAppMessagesRequest,
    PushMessagesRequest,
    PushObjectRequest,
    SendNodeHeartbeatRequest,
    authenticate_node,
    authenticate_task,
    fleet_handlers,
    http_error_translator,
    iterate_object_tree,
    runtime_handlers,
)

_Call = Callable[[Request, list[bytes]], Awaitable[list[bytes]]]

_THREADS = 4
"""Threads in which SuperLink works; requests wait for one in the order in which they came. Flower's
40 wait for each other, for the database and for its pool of 15 connections."""
_COLLECTED_BYTES = 16 * 2**20
"""Objects of all replies in one answer; the run fetches others one by one."""
_MOST_OBJECTS = 64
"""A request has nine."""
_MOST_REPLIED, _ID_LENGTH = 10_000, 64
"""Messages with a reply that are kept in memory, and the length of their ids (SHA-256)."""
_OTHER_MESSAGES = "/v1/runtime/push-messages"
_OTHER_REPLIES = ("/v1/fleet/push-messages", "/v1/fleet/push-object")


class CombinedCalls:
    """An ASGI application that answers the combined calls, and passes all others on.

    Args:
        app: SuperLink's.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._calls: dict[str, _Call] = {
            WAIT: self._wait,
            TAKE: self._take,
            REPLY: self._reply,
            SEND: self._send,
            COLLECT: self._collect,
        }
        self._thread_of_run = CapacityLimiter(1)
        """The calls of a run do not wait for those of all its devices."""
        self._mailboxes: dict[int, Mailbox] = defaultdict(Mailbox)
        """By node."""
        self._token: str | None = None
        """Of the latest call of a run that SuperLink has accepted."""
        self._given = NOTHING_TAKEN
        """Number and answer of the run's latest SEND, or COLLECT that found something."""
        self._replied: set[str] = set()
        """Messages with a reply that has not been collected."""
        self._other_replies = False
        """Whether there were replies in Flower's calls, which are not looked into."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            current_default_thread_limiter().total_tokens = _THREADS
        path = scope["path"] if scope["type"] == "http" else ""
        if (call := self._calls.get(path)) is not None:
            request = Request({**scope, "app": self._app, "state": {}}, receive)
            response = await http_error_translator(request, lambda each: _answered(call, each))
            await response(scope, receive, send)
        else:
            await self._app(scope, receive, send)
            self._other_replies |= path in _OTHER_REPLIES
            if path == _OTHER_MESSAGES:
                for mailbox in list(self._mailboxes.values()):  # threads add some
                    mailbox.add_unknown()

    async def _wait(self, request: Request, parts: list[bytes]) -> list[bytes]:
        heartbeat, seconds = SendNodeHeartbeatRequest.FromString(parts[0]), float(parts[1])
        answer = await run_in_threadpool(self._beat, request, heartbeat)
        if not answer.success:
            return [answer.SerializeToString(), b""]
        mailbox = self._mailboxes[heartbeat.node.node_id]
        mailbox.latest = NOTHING_TAKEN  # it has arrived, or the device would ask for it
        news = asyncio.ensure_future(mailbox.news.wait())
        gone = asyncio.ensure_future(request.receive())  # returns if the device hangs up
        await asyncio.wait(
            (news, gone),
            timeout=min(LONGEST_WAIT_S, seconds),
            return_when=asyncio.FIRST_COMPLETED,
        )
        news.cancel()
        gone.cancel()
        return [answer.SerializeToString(), NEWS if mailbox.news.is_set() else b""]

    def _beat(self, request: Request, heartbeat: SendNodeHeartbeatRequest) -> Any:
        with self._transaction() as state:
            _check_node(request, heartbeat)
            return fleet_handlers.send_node_heartbeat(heartbeat, state)

    async def _take(self, request: Request, parts: list[bytes]) -> list[bytes]:
        asked, number = PullMessagesRequest.FromString(parts[0]), parts[1]
        answer, found, changes = await run_in_threadpool(
            self._taken_message, request, asked, number
        )
        if found is not None:
            self._mailboxes[asked.node.node_id].taken(number, answer, found, changes)
        return answer

    def _taken_message(
        self, request: Request, asked: PullMessagesRequest, number: bytes
    ) -> tuple[list[bytes], bool | None, int]:
        """The answer; whether it has a message, None for one that was given before; the changes.

        A device that has waited for long beats next when it is at work, which may be too late. So
        this call is a heartbeat too.
        """
        with self._transaction() as state:
            _check_node(request, asked)
            state.acknowledge_node_heartbeat(asked.node.node_id, HEARTBEAT_DEFAULT_INTERVAL)
            mailbox = self._mailboxes[asked.node.node_id]
            changes, (before, answer) = mailbox.changes, mailbox.latest
            if before == number:
                return answer, None, changes
            pulled = fleet_handlers.pull_messages(asked, state, state.object_store)
            answer = [pulled.SerializeToString()]
            for head, tree in zip(pulled.messages_list, pulled.message_object_trees, strict=True):
                answer += _objects(
                    state,
                    head.metadata.run_id,
                    tree,
                    lambda received: fleet_handlers.confirm_message_received(
                        received, state, state.object_store
                    ),
                )
        return answer, bool(pulled.messages_list), changes

    async def _reply(self, request: Request, parts: list[bytes]) -> list[bytes]:
        asked = PushMessagesRequest.FromString(parts[0])
        if not is_sound(asked):
            raise _UnsoundReplyError
        pushed = await run_in_threadpool(self._stored_reply, request, asked, parts[1:])
        if not pushed.objects_to_push:
            self._has_reply(asked.messages_list[0].metadata.reply_to_message_id)
        return [pushed.SerializeToString()]

    def _has_reply(self, message_id: str) -> None:
        """Note a message that a device says it replies to, which it may have made up."""
        if len(message_id) <= _ID_LENGTH and len(self._replied) < _MOST_REPLIED:
            self._replied.add(message_id)
        else:
            self._replied.clear()
            self._other_replies = True

    def _stored_reply(
        self, request: Request, asked: PushMessagesRequest, objects: Sequence[bytes]
    ) -> Any:
        with self._transaction() as state:
            _check_node(request, asked)
            pushed = fleet_handlers.push_messages(asked, state)
            _store(state, asked.messages_list[0].metadata.run_id, pushed, objects)
        return pushed

    async def _send(self, request: Request, parts: list[bytes]) -> list[bytes]:
        asked = PushAppMessagesRequest.FromString(parts[0])
        answer = await run_sync(
            self._stored_messages, request, asked, parts[1], parts[2:], limiter=self._thread_of_run
        )
        for message in asked.messages_list:
            self._mailboxes[message.metadata.dst_node_id].add()
        return answer

    def _stored_messages(
        self,
        request: Request,
        asked: PushAppMessagesRequest,
        number: bytes,
        objects: Sequence[bytes],
    ) -> list[bytes]:
        with self._transaction() as state:
            task = self._run_of(request, state)
            before, answer = self._given
            if before == number:
                return answer
            forget_false_claims(state, asked.message_object_trees)
            pushed = runtime_handlers.push_messages(asked, state, task)
            _store(state, task.run_id, pushed, objects)
            answer = [pushed.SerializeToString()]
        self._given = number, answer
        return answer

    async def _collect(self, request: Request, parts: list[bytes]) -> list[bytes]:
        asked = PullAppMessagesRequest.FromString(parts[0])
        return await run_sync(
            self._collected,
            request,
            asked.message_ids,
            parts[1] == b"all",
            parts[2],
            limiter=self._thread_of_run,
        )

    def _collected(
        self, request: Request, message_ids: Sequence[str], everything: bool, number: bytes
    ) -> list[bytes]:
        """The replies that have come in, or the answer to the same call before."""
        if number != self._given[0]:
            everything |= self._other_replies
            wanted = [each for each in message_ids if everything or each in self._replied]
            if not wanted:
                if self._token is None or request.headers.get(TASK_TOKEN_HEADER) != self._token:
                    with self._transaction() as state:
                        self._run_of(request, state)
                return [PullAppMessagesResponse().SerializeToString()]
            if everything:
                self._other_replies = False
            self._replied.difference_update(wanted)  # before, since replies come in meanwhile
            try:
                self._given = number, self._delivered(request, wanted)
            except BaseException:
                self._other_replies = True  # those of before are still there
                raise
            return self._given[1]
        with self._transaction() as state:
            self._run_of(request, state)
        return self._given[1]

    def _delivered(self, request: Request, wanted: Sequence[str]) -> list[bytes]:
        with self._transaction() as state:
            task = self._run_of(request, state)
            pulled = runtime_handlers.pull_messages(
                PullAppMessagesRequest(message_ids=wanted), state, task
            )
            answer, left = [pulled.SerializeToString()], _COLLECTED_BYTES
            for tree in pulled.message_object_trees:
                objects = _objects(
                    state,
                    task.run_id,
                    tree,
                    lambda received: runtime_handlers.confirm_message_received(
                        received, state, task
                    ),
                    min(left, MOST_BYTES),
                )
                left -= sum(map(len, objects))
                answer += objects
        return answer

    def _run_of(self, request: Request, state: Any) -> Any:
        """The task whose token the request has; SuperLink knows then that its run goes on."""
        token = request.headers.get(TASK_TOKEN_HEADER)
        task = authenticate_task(request, token, state)
        state.acknowledge_task_heartbeat(task.task_id)
        self._token = token
        return task

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        """SuperLink's state; all that Flower's handlers do with it is one transaction."""
        state = self._app.state.linkstate_factory.state()
        with state.session():
            yield state


class _UnsoundReplyError(Exception):
    """A reply in the name of another node, of no time, or of other objects."""


async def _answered(call: _Call, request: Request) -> Response:
    body = Parts()
    try:
        body.ParseFromString(await request.body())
        parts = await call(request, body.parts)
    except _UnsoundReplyError:
        return Response(REFUSAL, 403)
    except (ValueError, IndexError, DecodeError) as malformed:
        raise HTTPException(400, "malformed request") from malformed
    return Response(Parts(*parts).SerializeToString())


def _check_node(request: Request, message: Any) -> None:
    """Raise HTTPException 401 where the signature is not of the node in the message."""
    request.state.protobuf_request = message
    authenticate_node(request)


def _store(state: Any, run_id: int, pushed: Any, objects: Sequence[bytes]) -> None:
    """Store objects that SuperLink wants; ``pushed`` then names those that it wants still."""
    read = map(PushObjectRequest.FromString, objects)
    given = {each.object_id: each.object_content for each in read}
    missing = [
        wanted
        for wanted in pushed.objects_to_push
        if wanted not in given
        or not state.store_object(run_id, pushed.session_id, wanted, given[wanted])
    ]
    del pushed.objects_to_push[:]
    pushed.objects_to_push.extend(missing)


def _objects(
    state: Any,
    run_id: int,
    tree: ObjectTree,
    confirm: Callable[[ConfirmMessageReceivedRequest], object],
    most_bytes: int = MOST_BYTES,
) -> list[bytes]:
    """The objects of a message that fit, its root first; where these are all, they are deleted.

    A device may have sent many, or large ones: those are not even read.
    """
    wanted = list(dict.fromkeys(each.object_id for each in iterate_object_tree(tree)))[::-1]
    found, left = list[bytes](), most_bytes
    if len(wanted) > _MOST_OBJECTS:
        return found
    for object_id in wanted:
        content = state.get_object(run_id, object_id) or b""
        left -= len(content)
        if not content or left < 0:
            return found
        each = PushObjectRequest(object_id=object_id, object_content=content)
        found.append(each.SerializeToString())
    try:
        confirm(ConfirmMessageReceivedRequest(run_id=run_id, message_object_id=tree.object_id))
    except FlowerError:
        return []  # the run has ended: fetching the objects says so
    return found
