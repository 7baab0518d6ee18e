"""Asking devices by name over a run on SuperLink: each is asked once, and answers or does not.

A device that has reconnected is asked again, and so are all when SuperLink has dropped the run. So
a device may get a question twice, and orders are made such that this does no harm.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from flwr.app import Message, RecordDict

from fieldtune.client.contract.deployment import SINCE
from fieldtune.client.contract.wire import WireMessage
from fieldtune.profiles.common.text import printable
from fieldtune.server.deployment.run import ConnectedDevice, Run, RunLostError
from fieldtune.server.devices.registration import UNAVAILABLE

STATUS_S = 120.0
"""Time limit of a question about the status, which may try the deployed model."""
DEPLOY_S = 900.0
"""Time limit of an order: the device tries two models on its test data."""
AWAY_S = 20.0
"""A device that is not connected for so long is not waited for."""
_POLL_S = (0.05, 0.5)
_UNKNOWN_MESSAGE = "No query function registered"
"""What Flower says in a client that does not know the message."""

Answer = TypeVar("Answer", bound=WireMessage)


@dataclass(frozen=True)
class NoAnswer:
    """A device did not answer.

    Attributes:
        why: as a sentence about it.
        final: whether asking again later is of no use.
    """

    why: str
    final: bool = False


@dataclass(frozen=True)
class Question:
    """What a device is asked: the type and the content of the message."""

    kind: str
    content: RecordDict


@dataclass
class _Open:
    question: Question
    node: ConnectedDevice
    message_id: str | None = None
    away_since: float | None = None


class Exchange:
    """Asks connected devices.

    Args:
        start: starts a run on SuperLink; called again when the run is lost.
        clock: seconds; only differences count.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        start: Callable[[], Run],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._start, self._clock, self._sleep = start, clock, sleep
        self._run: Run | None = None
        self._live()

    def close(self, failed: str | None = None) -> None:
        """End the run."""
        run, self._run = self._run, None
        if run is not None:
            run.close(failed)

    def _live(self) -> Run:
        """The run; a new one where the last was lost."""
        if self._run is None:
            self._run = self._start()
        return self._run

    def connected(self) -> dict[str, ConnectedDevice]:
        """Name -> connected device."""
        while True:
            try:
                return {node.name: node for node in self._live().nodes()}
            except RunLostError:
                self.close("lost")

    def ask(
        self, questions: Mapping[str, Question], kind: type[Answer], limit_s: float
    ) -> Iterator[tuple[str, Answer | NoAnswer]]:
        """Ask devices, and yield what each answers as soon as it does.

        Args:
            questions: by name of the device.
            kind: of the answers.
            limit_s: a device that has not answered by then is not waited for.
        """
        there, give_up = self.connected(), self._clock() + limit_s
        open_: dict[str, _Open] = {}
        for name, question in questions.items():
            if name in there:
                open_[name] = _Open(question, there[name])
            else:
                yield name, NoAnswer("is not connected")
        pause_s = _POLL_S[0]
        while open_:
            found: list[tuple[str, Answer | NoAnswer]] = []
            try:
                self._send(open_, give_up)
                found = list(self._step(open_, kind))
                self._follow(open_)
            except RunLostError:
                self.close("lost")
                for each in open_.values():
                    each.message_id = None
            for name, answer in found:
                del open_[name]
                yield name, answer
            for name, late in list(self._expired(open_, give_up)):
                del open_[name]
                yield name, late
            if open_:
                pause_s = _POLL_S[0] if found else min(2 * pause_s, _POLL_S[1])
                self._sleep(pause_s)

    def _send(self, open_: Mapping[str, _Open], give_up: float) -> None:
        waiting = [each for each in open_.values() if each.message_id is None]
        waiting = [each for each in waiting if each.away_since is None]
        left_s = max(give_up - self._clock(), 1.0)
        messages = [
            Message(each.question.content, each.node.node_id, each.question.kind, ttl=left_s)
            for each in waiting
        ]
        if messages:
            for each, message_id in zip(waiting, self._live().push(messages), strict=True):
                each.message_id = message_id

    def _step(
        self, open_: Mapping[str, _Open], kind: type[Answer]
    ) -> Iterator[tuple[str, Answer | NoAnswer]]:
        names = {each.message_id: name for name, each in open_.items() if each.message_id}
        for message in self._live().pull(list(names)) if names else ():
            name = names.get(message.metadata.reply_to_message_id)
            if name is None:
                continue
            if message.has_error() and message.error.code in UNAVAILABLE:
                open_[name].message_id = None  # it is asked again
                continue
            yield name, answer_in(message, kind)

    def _follow(self, open_: Mapping[str, _Open]) -> None:
        """Note who is away, and ask anew who has reconnected."""
        there = {node.name: node for node in self._live().nodes()}
        for name, each in open_.items():
            node = there.get(name)
            if node is None:
                each.away_since = self._clock() if each.away_since is None else each.away_since
            else:
                if node.activated != each.node.activated or each.away_since is not None:
                    each.message_id = None
                each.node, each.away_since = node, None

    def _expired(
        self, open_: Mapping[str, _Open], give_up: float
    ) -> Iterator[tuple[str, NoAnswer]]:
        now = self._clock()
        for name, each in open_.items():
            if each.away_since is not None and now - each.away_since >= AWAY_S:
                yield name, NoAnswer("has disconnected")
            elif now >= give_up:
                yield name, NoAnswer("has not answered in time")


def answer_in(message: Message, kind: type[Answer]) -> Answer | NoAnswer:
    """What a device has replied; nothing in a reply raises an exception."""
    if message.has_error():
        reason = printable(message.error.reason or "", 300)
        if _UNKNOWN_MESSAGE in reason:
            return NoAnswer(
                f"has a client that cannot do this: upgrade its fieldtune to >= {SINCE}, and use "
                "'fieldtune client', not Flower's SuperNode",
                final=True,
            )
        return NoAnswer(f"failed: Flower error {message.error.code}: {reason}")
    try:
        return kind.parse(dict(message.content.config_records["message"]))
    except Exception as malformed:  # a device's bytes may make Flower or pydantic raise anything
        return NoAnswer(printable(f"sent no valid answer: {malformed}", 300), final=True)
