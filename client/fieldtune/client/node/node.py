"""The light node: connection, heartbeat and ClientApp of a device in a single process.

Flower's own SuperNode starts a second process, and a third for every message, which is too much for
a board with 512 MB. The light node uses the same protocol; a SuperLink sees no difference.

While it has nothing to do, one call waits at the coordinator for the next message.

It runs until it is stopped. After temporary failures (network or SuperLink down, key not enrolled
yet, certificate expired) it retries with exponential back-off and jitter (Brooker 2015,
"Exponential Backoff And Jitter": equal jitter), and logs one line when the failure begins and one
when it ends.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from flwr.app import Context, Error, Message, RecordDict, UserConfig
from flwr.clientapp import ClientApp

from fieldtune.client.contract.deployment import STATUS
from fieldtune.client.contract.messages import Failure, numbers_of
from fieldtune.client.node.client_app import failed_reply
from fieldtune.client.node.fleet_api import (
    HEARTBEAT_S,
    NODE_UNAVAILABLE,
    Link,
    PendingMessage,
    Waited,
    head_to_bytes,
    message_from_bytes,
)
from fieldtune.client.node.link_errors import (
    ContentPendingError,
    KeyRefusedError,
    LinkError,
    NotActivatedError,
    NotOfferedError,
    RunEndedError,
    TooLargeError,
    UntrustedError,
)
from fieldtune.client.node.state import ClientFolders, Status
from fieldtune.client.node.waiting import Backoff, held_call_s, poll_interval_s
from fieldtune.profiles.common.sd_notify import notify

_LOG = logging.getLogger(__name__)
_Done = TypeVar("_Done")
GOODBYE_DELAY_S = 2.0
"""Minimum time between the last reply and deactivation: a SuperLink does not deliver replies of a
node that is offline."""
_TIMED_OUT_AFTER_S = 2 * HEARTBEAT_S + 15
_CONTENT_GRACE_S = 10.0
"""Time to wait for a message's content, which often arrives after its metadata, before logging."""
_RECONNECT_S = 1.0, 10.0
"""Upper bounds of the first waiting time between attempts to connect, and of all."""
_CLIENT_ERROR = 2  # Flower's ErrorCode.CLIENT_APP_RAISED_EXCEPTION


class _StopError(BaseException):
    """Raised during work, or while waiting for a message, when the node is asked to stop."""


class LightNode:
    """A device in a real fleet.

    Args:
        link: to the SuperLink.
        app: the ClientApp that processes messages.
        node_config: identity of the device, as
            :func:`~fieldtune.client.node.client_app.make_client_app` reads it.
        folders: the client's folders; the caller holds their lock.
        status: updated and written to disk on each change.
        rng: used only for jitter.
    """

    def __init__(
        self,
        link: Link,
        app: ClientApp,
        node_config: Mapping[str, str],
        folders: ClientFolders,
        status: Status,
        rng: random.Random | None = None,
    ) -> None:
        self._link, self._app, self._folders, self._status = link, app, folders, status
        self._node_config: UserConfig = dict(node_config)
        self._rng = rng or random.Random()  # noqa: S311 - spreads reconnections
        self._backoff = Backoff(*_RECONNECT_S, self._rng)
        self._stop = threading.Event()
        self._unregistered = threading.Event()
        """Set when the SuperLink no longer knows this node."""
        self._interruptible = False
        self._waits = False
        """Whether a call waits at the coordinator, which began with a heartbeat."""
        self._node_id = folders.saved_node_id()
        self._context: Context | None = None
        self._refused_since: float | None = None
        self._last_push = -GOODBYE_DELAY_S

    def stop(self) -> None:
        """Stop soon; may be called in a signal handler of the thread that runs the node."""
        self._stop.set()
        if self._interruptible:
            self._interruptible = False
            raise _StopError

    def run(self) -> None:
        """Process messages until :meth:`stop`, then deactivate the node at the SuperLink."""
        heartbeat = threading.Thread(target=self._send_heartbeats, name="heartbeat", daemon=True)
        heartbeat.start()
        notify("READY=1")
        try:
            while not self._stop.is_set():
                try:
                    self._serve()
                except LinkError as error:
                    self._wait_for_connection(error)
        except _StopError:
            pass
        finally:
            self._stop.set()
            notify("STOPPING=1")
            heartbeat.join()
            self._disconnect()

    def _serve(self) -> None:
        """Connect, then process messages until the connection fails."""
        node_id = self._connect()
        self._backoff.reset()
        self._refused_since = None
        _LOG.info("connected to %s as node %d", self._status.address, node_id)
        self._set_state("connected")
        self._report_interrupted(node_id)
        last, may_have_message = time.monotonic(), True
        while not self._stop.is_set() and not self._unregistered.is_set():
            if may_have_message and (pending := self._link.pull(node_id)) is not None:
                self._process(node_id, pending)
                last = time.monotonic()
            may_have_message = self._wait_for_message(node_id, time.monotonic() - last)

    def _wait_for_message(self, node_id: int, idle_s: float) -> bool:
        """Wait at the coordinator, or until it is time for the next poll.

        Returns:
            Whether there may be a message.
        """
        self._interruptible = self._waits = True
        try:
            if self._stop.is_set():
                return False
            outcome = self._link.wait(node_id, held_call_s(idle_s))
            if outcome is Waited.UNKNOWN_NODE:
                self._unregistered.set()
            return outcome is Waited.MESSAGE
        except NotOfferedError:
            self._waits = False
            self._stop.wait(poll_interval_s(idle_s) * self._rng.uniform(0.9, 1.1))
            return True
        finally:
            self._interruptible = self._waits = False

    def _connect(self) -> int:
        """Activate the node, or resume as the previous node if the SuperLink still knows it."""
        self._unregistered.clear()
        if self._node_id is not None:
            try:
                if self._link.heartbeat(self._node_id):
                    return self._node_id
            except KeyRefusedError:
                pass  # the key may have been re-enrolled or removed: activation will show
            self._node_id = None
        self._node_id = self._link.activate()
        self._folders.save_node_id(self._node_id)
        return self._node_id

    def _report_interrupted(self, node_id: int) -> None:
        """Report a failure for the message that a previous process was interrupted in."""
        interrupted = self._folders.unfinished()
        if interrupted is None:
            return
        try:
            message = message_from_bytes(interrupted.head)
        except Exception:  # damaged by a power cut; protobuf and Flower raise several types
            self._folders.finish()
            return
        failure: Failure = "out_of_memory" if interrupted.out_of_memory else "error"
        why = "out of memory" if interrupted.out_of_memory else "its process was killed"
        reply = failed_reply(
            message,
            interrupted.trial,
            interrupted.round,
            failure,
            f"interrupted: {why}",
        )
        with contextlib.suppress(RunEndedError):
            self._link.push(node_id, reply, 0.0)
        self._folders.finish()
        _LOG.warning(
            "trial %d, round %d was interrupted: %s", interrupted.trial, interrupted.round, why
        )

    def _process(self, node_id: int, pending: PendingMessage) -> None:
        """Process one message: fetch its content, do the work, send the reply."""
        head = pending.head.metadata
        what = f"{head.message_type} ({head.group_id})" if head.group_id else head.message_type
        expires = head.created_at + head.ttl
        request = numbers_of(head.group_id)
        if request:  # before fetching its content: the SuperLink delivers it only once
            self._folders.begin(head_to_bytes(pending.head), *request)
        began = time.monotonic()
        try:
            message = self._retry(
                node_id, lambda: self._link.fetch(node_id, pending), expires, what
            )
        except TooLargeError as large:
            reply = (
                failed_reply(pending.head, *request, "error", str(large))
                if request
                else Message(Error(_CLIENT_ERROR, str(large)), reply_to=pending.head)
            )
        else:
            if message is None:
                if not self._stop.is_set():  # else the next process reports it as interrupted
                    self._folders.finish()
                return
            self._set_state("working", what)
            began = time.monotonic()
            reply = self._work(message)
        took_s = time.monotonic() - began
        outcome = _outcome(reply)

        def push() -> bool:
            self._link.push(node_id, reply, took_s)
            self._last_push = time.monotonic()
            return True

        sent = self._retry(node_id, push, expires, what)
        self._folders.finish()
        self._status.answered += 1
        self._status.refused += outcome != "done"
        self._status.last = f"{what}: {outcome}, {took_s:.2f} s"
        if sent is None:
            self._status.last += ", not sent"
        if outcome != "done":
            self._status.last_failure = self._status.last
        # A watched device is asked every minute: that is not worth a line on its SD card.
        done = logging.DEBUG if head.message_type == STATUS else logging.INFO
        _LOG.log(done if outcome == "done" else logging.WARNING, "%s", self._status.last)
        self._set_state("connected")

    def _work(self, message: Message) -> Message:
        run_id = message.metadata.run_id
        if self._context is None or self._context.run_id != run_id:
            self._context = Context(
                run_id, self._node_id or 0, self._node_config, RecordDict(), run_config={}
            )  # fmt: skip
        self._interruptible = True
        try:
            if self._stop.is_set():  # the signal arrived before _interruptible was set
                raise _StopError
            return self._app(message, self._context)
        except _StopError:
            return Message(Error(NODE_UNAVAILABLE, "the device was stopped"), reply_to=message)
        except Exception as bug:
            _LOG.exception("%s raised", message.metadata.message_type)
            reason = f"{type(bug).__name__}: {bug}"[:500]
            return Message(Error(_CLIENT_ERROR, reason), reply_to=message)
        finally:
            self._interruptible = False

    def _retry(
        self, node_id: int, request: Callable[[], _Done], expires: float, what: str
    ) -> _Done | None:
        """Make a request, retrying through outages; None if its run ended or it expired.

        After an outage a heartbeat is sent first, since a SuperLink ignores nodes that it considers
        offline. Once the node has been asked to stop, the request is tried only once.
        """
        backoff, warned = Backoff(0.2, 10.0, self._rng), False
        quiet_until = time.monotonic() + _CONTENT_GRACE_S
        while True:
            try:
                if warned:
                    self._link.heartbeat(node_id)
                done = request()
            except RunEndedError as ended:
                _LOG.info("%s is dropped: %s", what, ended)
                return None
            except TooLargeError:
                raise
            except LinkError as error:
                early = isinstance(error, ContentPendingError) and time.monotonic() < quiet_until
                if not warned and not early:
                    _LOG.warning("%s waits for the connection: %s", what, error)
                    warned = True
                if self._stop.is_set() or time.time() > expires:
                    _LOG.warning("%s is dropped: its time limit expired, or the client stops", what)
                    return None
                self._stop.wait(backoff.next_s())
            else:
                if warned:
                    _LOG.info("%s got through", what)
                return done

    def _wait_for_connection(self, error: LinkError) -> None:
        """Log the reason once, and wait before the next attempt."""
        why = self._explain(error)
        if why != self._status.detail or self._status.state != "connecting":
            _LOG.warning("not connected to %s: %s; trying again", self._status.address, why)
        self._set_state("connecting", why)
        self._stop.wait(self._backoff.next_s())

    def _explain(self, error: LinkError) -> str:
        if isinstance(error, UntrustedError):
            return f"the coordinator's certificate is not valid: {error}"
        if isinstance(error, KeyRefusedError):
            return f"the coordinator refuses this device: {error}"
        if not isinstance(error, NotActivatedError):
            return str(error)
        now = time.monotonic()
        self._refused_since = now if self._refused_since is None else self._refused_since
        if now - self._refused_since < _TIMED_OUT_AFTER_S:
            return "the coordinator does not accept it yet: it may still be registered as connected"
        return (
            "the coordinator does not accept it: its key is not enrolled there, or another device "
            "runs with a copy of its bundle"
        )

    def _send_heartbeats(self) -> None:
        """Send heartbeats, also during work, so that the SuperLink considers the node online."""
        while not self._stop.wait(HEARTBEAT_S * self._rng.uniform(0.6, 0.8)):
            node_id = self._node_id
            if node_id is None or self._waits or self._status.state == "connecting":
                continue
            try:
                known = self._link.heartbeat(node_id)
            except KeyRefusedError:
                known = False
            except LinkError:
                continue  # the main thread notices and logs it
            if not known:
                self._unregistered.set()

    def _disconnect(self) -> None:
        if self._node_id is not None:
            time.sleep(max(0.0, self._last_push + GOODBYE_DELAY_S - time.monotonic()))
            try:
                self._link.deactivate(self._node_id)
                self._folders.save_node_id(None)
            except LinkError as error:
                _LOG.warning("could not deactivate the node: %s", error)
        self._link.close()
        self._set_state("stopped")
        _LOG.info("stopped")

    def _set_state(self, state: str, detail: str = "") -> None:
        self._status.state, self._status.detail = state, detail
        self._status.node_id = self._node_id
        self._folders.write_status(self._status)
        notify(f"STATUS={state} {detail}".strip())


def _outcome(reply: Message) -> str:
    """A short description of a message's outcome."""
    if reply.has_error():
        return f"failed, {reply.error.reason}"
    record: Mapping[str, object] = reply.content.config_records.get("message", {})
    failure, detail = record.get("failure"), record.get("detail") or record.get("problem")
    if failure:
        return f"refused, {failure}: {detail}" if detail else f"refused, {failure}"
    return f"cannot take part, {detail}" if detail else "done"
