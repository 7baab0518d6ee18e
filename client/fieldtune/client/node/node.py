"""The light node: one process that is a device's connection, its heartbeat and its ClientApp.

Flower's own SuperNode starts a second program, and a third for every message; that does not fit a
board with 512 MB. This one speaks the same protocol, and a SuperLink cannot tell them apart.

It runs until it is told to stop. Whatever can mend itself (the network, the SuperLink, a key that
is enrolled late, a certificate that is renewed) is waited for, with exponential back-off and jitter
(Brooker 2015, "Exponential Backoff And Jitter": equal jitter), and is one line in the log when it
begins and one when it ends.
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

from fieldtune.client.contract.messages import Failure, numbers_of
from fieldtune.client.node.client_app import failed_reply
from fieldtune.client.node.fleet_api import (
    AWAY,
    HEARTBEAT_S,
    ArrivingError,
    KeyRefusedError,
    Link,
    LinkError,
    NotActivatedError,
    RunEndedError,
    UntrustedError,
    Waiting,
    head_to_bytes,
    message_from_bytes,
)
from fieldtune.client.node.sd_notify import notify
from fieldtune.client.node.state import Place, Status

_LOG = logging.getLogger(__name__)
_Done = TypeVar("_Done")
_BUSY_S, _LIVELY_S, _IDLE_S = 0.05, 1.0, 2.0
"""Between looking for messages: right after one, in a study, and after a long silence. A look costs
about 3 ms of a slow core."""
_LONG_S = 120.0
_SHARE_OF_SILENCE = 0.12
"""What a message waits on its way, against how long there was none: it is hardly noticed."""
HEARD_S = 2.0
"""Between the last reply and goodbye: a SuperLink hands out no reply of a device that has gone."""
_REACTIVATED_S = 2 * HEARTBEAT_S + 15
_ARRIVES_S = 10.0
"""A message's head is often a moment ahead of its content; so long that is not worth a word."""
_CLIENT_ERROR = 2  # Flower's ErrorCode.CLIENT_APP_RAISED_EXCEPTION


class Backoff:
    """Waiting times that double, each drawn from its upper half.

    Args:
        first_s: about the first one.
        most_s: the longest.
        rng: draws the jitter, so that a fleet does not come back all at once.
    """

    def __init__(self, first_s: float, most_s: float, rng: random.Random) -> None:
        self._first_s, self._most_s, self._rng = first_s, most_s, rng
        self._next_s = first_s

    def next_s(self) -> float:
        """The next waiting time."""
        wait_s, self._next_s = self._next_s, min(2 * self._next_s, self._most_s)
        return wait_s * self._rng.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Begin anew: it worked."""
        self._next_s = self._first_s


def pause_s(silence_s: float) -> float:
    """Seconds between two looks for messages, after so long without one."""
    longest_s = _LIVELY_S if silence_s < _LONG_S else _IDLE_S
    return min(max(_SHARE_OF_SILENCE * silence_s, _BUSY_S), longest_s)


class _StopError(BaseException):
    """Raised in the middle of work when the node is told to stop."""


class Node:
    """A device in a real fleet.

    Args:
        link: to the SuperLink.
        app: what the device can do.
        node_config: who the device is, as :func:`~fieldtune.client.node.client_app.make_client_app`
            reads it.
        place: its folders; the caller holds the lock.
        status: shown to others as it changes.
        rng: for jitter alone.
    """

    def __init__(
        self,
        link: Link,
        app: ClientApp,
        node_config: Mapping[str, str],
        place: Place,
        status: Status,
        rng: random.Random | None = None,
    ) -> None:
        self._link, self._app, self._place, self._status = link, app, place, status
        self._node_config: UserConfig = dict(node_config)
        self._rng = rng or random.Random()
        self._backoff = Backoff(1.0, 60.0, self._rng)
        self._stop = threading.Event()
        self._gone = threading.Event()
        """Set when the SuperLink no longer knows this device."""
        self._working = False
        self._node_id = place.remembered()
        self._context: Context | None = None
        self._refused_since: float | None = None
        self._pushed = -HEARD_S

    def stop(self) -> None:
        """End soon; may be called by a signal handler of the thread that runs the node."""
        self._stop.set()
        if self._working:
            self._working = False
            raise _StopError

    def run(self) -> None:
        """Serve until :meth:`stop`, then say goodbye to the SuperLink."""
        heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        heart.start()
        notify("READY=1")
        try:
            while not self._stop.is_set():
                try:
                    self._serve()
                except LinkError as lost:
                    self._wait(lost)
        except _StopError:
            pass
        finally:
            self._stop.set()
            notify("STOPPING=1")
            heart.join()
            self._leave()

    def _serve(self) -> None:
        """Join, then do one message after another until the link breaks."""
        node_id = self._join()
        self._backoff.reset()
        self._refused_since = None
        _LOG.info("connected to %s as node %d", self._status.address, node_id)
        self._show("connected")
        self._own_up(node_id)
        last = time.monotonic()
        while not self._stop.is_set() and not self._gone.is_set():
            waiting = self._link.pull(node_id)
            if waiting is None:
                self._stop.wait(pause_s(time.monotonic() - last) * self._rng.uniform(0.9, 1.1))
            else:
                self._do(node_id, waiting)
                last = time.monotonic()

    def _join(self) -> int:
        """Be active, as the same node as before where the SuperLink still knows it."""
        self._gone.clear()
        if self._node_id is not None:
            try:
                if self._link.heartbeat(self._node_id):
                    return self._node_id
            except KeyRefusedError:
                pass  # the key was enrolled anew, or not at all: activating will tell
            self._node_id = None
        self._node_id = self._link.activate()
        self._place.remember(self._node_id)
        return self._node_id

    def _own_up(self, node_id: int) -> None:
        """Answer what a process before this one left unanswered, so that nobody waits for it."""
        left = self._place.unfinished()
        if left is None:
            return
        failure: Failure = "out_of_memory" if left.out_of_memory else "error"
        why = "out of memory" if left.out_of_memory else "its process was killed"
        reply = failed_reply(
            message_from_bytes(left.head), left.trial, left.round, failure, f"cut off: {why}"
        )
        with contextlib.suppress(RunEndedError):
            self._link.push(node_id, reply, 0.0)
        self._place.finish()
        _LOG.warning("trial %d, round %d was cut off: %s", left.trial, left.round, why)

    def _do(self, node_id: int, waiting: Waiting) -> None:
        """One message, from fetching its content to sending the reply."""
        head = waiting.head.metadata
        what = f"{head.message_type} ({head.group_id})" if head.group_id else head.message_type
        expires = head.created_at + head.ttl
        asked = numbers_of(head.group_id)
        if asked:  # before its content is fetched: nobody else will be handed this message
            self._place.begin(head_to_bytes(waiting.head), *asked)
        message = self._persist(node_id, lambda: self._link.fetch(node_id, waiting), expires, what)
        if message is None:
            if not self._stop.is_set():  # else the next process owns up to it
                self._place.finish()
            return
        self._show("working", what)
        began = time.monotonic()
        reply = self._work(message)
        took_s = time.monotonic() - began
        came_of_it = _outcome(reply)

        def push() -> bool:
            self._link.push(node_id, reply, took_s)
            self._pushed = time.monotonic()
            return True

        sent = self._persist(node_id, push, expires, what)
        self._place.finish()
        self._status.answered += 1
        self._status.refused += came_of_it != "done"
        self._status.last = f"{what}: {came_of_it}, {took_s:.2f} s"
        if sent is None:
            self._status.last += ", not sent"
        _LOG.log(logging.INFO if came_of_it == "done" else logging.WARNING, "%s", self._status.last)
        self._show("connected")

    def _work(self, message: Message) -> Message:
        run_id = message.metadata.run_id
        if self._context is None or self._context.run_id != run_id:
            self._context = Context(
                run_id, self._node_id or 0, self._node_config, RecordDict(), run_config={}
            )  # fmt: skip
        self._working = True
        try:
            if self._stop.is_set():  # it came before the flag was up
                raise _StopError
            return self._app(message, self._context)
        except _StopError:
            return Message(Error(AWAY, "the device was stopped"), reply_to=message)
        except Exception as bug:
            _LOG.exception("%s raised", message.metadata.message_type)
            reason = f"{type(bug).__name__}: {bug}"[:500]
            return Message(Error(_CLIENT_ERROR, reason), reply_to=message)
        finally:
            self._working = False

    def _persist(
        self, node_id: int, request: Callable[[], _Done], expires: float, what: str
    ) -> _Done | None:
        """Have a request done through outages; None where it has become pointless.

        After an outage the first thing is a heartbeat, since a device that counts as gone is not
        heard. Once the node has been told to stop, the request is tried only once.
        """
        backoff, troubled = Backoff(0.2, 10.0, self._rng), False
        quiet_until = time.monotonic() + _ARRIVES_S
        while True:
            try:
                if troubled:
                    self._link.heartbeat(node_id)
                done = request()
            except RunEndedError as ended:
                _LOG.info("%s is dropped: %s", what, ended)
                return None
            except LinkError as lost:
                early = isinstance(lost, ArrivingError) and time.monotonic() < quiet_until
                if not troubled and not early:
                    _LOG.warning("%s waits for the connection: %s", what, lost)
                    troubled = True
                if self._stop.is_set() or time.time() > expires:
                    _LOG.warning("%s is dropped: it was not through in time", what)
                    return None
                self._stop.wait(backoff.next_s())
            else:
                if troubled:
                    _LOG.info("%s got through", what)
                return done

    def _wait(self, lost: LinkError) -> None:
        """Say what is wrong, once, and wait before the next try."""
        why = self._explained(lost)
        if why != self._status.detail or self._status.state != "connecting":
            _LOG.warning("not connected to %s: %s; trying again", self._status.address, why)
        self._show("connecting", why)
        self._stop.wait(self._backoff.next_s())

    def _explained(self, lost: LinkError) -> str:
        if isinstance(lost, UntrustedError):
            return f"the coordinator's certificate is not valid: {lost}"
        if isinstance(lost, KeyRefusedError):
            return f"the coordinator refuses this device: {lost}"
        if not isinstance(lost, NotActivatedError):
            return str(lost)
        now = time.monotonic()
        self._refused_since = now if self._refused_since is None else self._refused_since
        if now - self._refused_since < _REACTIVATED_S:
            return "the coordinator does not let it in yet: it may count as connected still"
        return (
            "the coordinator does not let it in: its key is not enrolled there, or another device "
            "runs with a copy of its bundle"
        )

    def _beat(self) -> None:
        """Keep the SuperLink from counting the device as gone, even while it works."""
        while not self._stop.wait(HEARTBEAT_S * self._rng.uniform(0.6, 0.8)):
            node_id = self._node_id
            if node_id is None or self._status.state == "connecting":
                continue
            try:
                known = self._link.heartbeat(node_id)
            except KeyRefusedError:
                known = False
            except LinkError:
                continue  # the other thread sees it too, and says so
            if not known:
                self._gone.set()

    def _leave(self) -> None:
        if self._node_id is not None:
            time.sleep(max(0.0, self._pushed + HEARD_S - time.monotonic()))
            try:
                self._link.deactivate(self._node_id)
                self._place.remember(None)
            except LinkError as lost:
                _LOG.warning("could not say goodbye: %s", lost)
        self._link.close()
        self._show("stopped")
        _LOG.info("stopped")

    def _show(self, state: str, detail: str = "") -> None:
        self._status.state, self._status.detail = state, detail
        self._status.node_id = self._node_id
        self._place.show(self._status)
        notify(f"STATUS={state} {detail}".strip())


def _outcome(reply: Message) -> str:
    """What came of a message, in a few words."""
    if reply.has_error():
        return f"failed, {reply.error.reason}"
    told: Mapping[str, object] = reply.content.config_records.get("message", {})
    failure, detail = told.get("failure"), told.get("detail") or told.get("problem")
    if failure:
        return f"refused, {failure}: {detail}" if detail else f"refused, {failure}"
    return f"cannot take part, {detail}" if detail else "done"
