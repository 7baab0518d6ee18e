"""The fleet of real devices: they come, go, restart and answer late.

Every request is answered once, whatever happens. A device that is away is waited for, but not for
ever; one that has restarted is asked again; the first answer to a request counts and later ones are
dropped. What has no answer by then is a failure, and the study goes on without that device until it
is back. A device that was not there when the study was started or resumed is not waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from flwr.app import Message

from fieldtune.client.contract.messages import Description, Failure
from fieldtune.client.node.fleet_api import AWAY
from fieldtune.server.deployment.run import Node, Run, RunLostError
from fieldtune.server.devices.registration import UNAVAILABLE, Gathering, and_more
from fieldtune.server.devices.revalidation import Returning
from fieldtune.server.federation.fleet import Addressed, Reply, failure, refuse_if
from fieldtune.server.federation.grid_fleet import reported, request_message

PATIENCE_S = 600.0
AWAY_S = 180.0
_LATECOMERS_S = 5.0
_REFRESH_S = 2.0
_POLL_S = (0.02, 0.5)
_MOST_TRIES = 3
_LONG_S = 30.0
"""A device that is there works so long at a request before it is said that it is waited for."""
_PASSED_OVER_S = 60.0
"""A device works one message off after the other. So long after it has answered a later one, an
earlier one or its reply must be lost, such as in a SuperLink that was ended."""

_CRASHED = 8
"""Flower's error for a ClientApp whose process died."""


@dataclass(eq=False)
class _Job:
    """A request that has not been answered."""

    addressed: Addressed
    until: float
    tries: int = 0
    current: str | None = None
    """Id of the message last sent for it; None while it waits to be sent."""
    sent: float = 0.0
    not_before: float = 0.0
    """When it may be sent again."""
    activated: str = ""
    """When the device had last connected as that was sent."""
    with_model: bool = False


class DeviceFleet:
    """The devices that are connected to a coordinator.

    Args:
        start: starts a run on SuperLink; called again where that is lost.
        numbers: name of an enrolled device -> its client number.
        profiles: the device types that take part.
        wanted: so many devices must be there for a study to start.
        notes: is told, in a sentence, who comes and goes.
        patience_s: a request that is not answered by then counts as a failure ``no_reply``.
        away_s: so does one for a device that is away for so long.
        waiting: is told, as long as something is waited for, which devices and for how long yet;
            an empty string where nothing is any more. It is called again and again.
        clock: seconds; only differences count.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        start: Callable[[], Run],
        numbers: Mapping[str, int],
        *,
        profiles: Collection[str],
        wanted: int,
        notes: Callable[[str], None],
        patience_s: float = PATIENCE_S,
        away_s: float = AWAY_S,
        waiting: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._start, self._numbers, self._wanted = start, numbers, wanted
        self._profiles = profiles
        self._notes, self._waiting, self._clock, self._sleep = notes, waiting, clock, sleep
        self._patience_s, self._away_s = patience_s, away_s
        self._names = {number: name for name, number in numbers.items()}
        self._run = start()
        self._there: dict[int, Node] = {}
        self._next_refresh = 0.0
        self._pause_s, self._next_look = _POLL_S[0], 0.0
        """Between two looks for answers, whoever waits for them; a look costs SuperLink 15 ms."""
        self._left: dict[int, float] = {}
        """When a device that is away was last there."""
        self._jobs: list[_Job] = []
        self._messages: dict[str, _Job] = {}
        self._held: set[tuple[int, str]] = set()
        self._reached: dict[int, tuple[float, float]] = {}
        """When the latest message that a device has answered was sent, and when answered."""
        self._returning = Returning({}, {}, notes)
        self._closed = False

    def close(self, failed: str | None = None) -> None:
        """End the run; ``failed`` says why where it ends early."""
        if not self._closed:
            self._closed = True
            self._run.close(failed)

    def members(self) -> list[Description]:
        """Wait until enough devices have described themselves; they are the fleet.

        A device whose description does not fit is left out, and why is said.
        """
        refuse_if(self._closed)
        while True:
            try:
                return self._gathered(self._gathering())
            except RunLostError:
                self._start_again()

    def _gathering(self) -> Gathering:
        return Gathering(self._run, self._numbers, self._profiles, self._notes)

    def _gathered(self, gathering: Gathering) -> list[Description]:
        enough_since: float | None = None
        while True:
            waiting = gathering.look()
            gathering.say(self._wanted)
            self._waiting(gathering.wait(self._wanted))
            now = self._clock()
            if len(gathering.found) < self._wanted:
                enough_since = None
            else:
                enough_since = now if enough_since is None else enough_since
                if not waiting or now - enough_since >= _LATECOMERS_S:
                    members, self._there = gathering.members(), gathering.nodes()
                    known = {member.client: member for member in members}
                    self._returning = Returning(known, self._there, self._notes)
                    return members
            self._sleep(_POLL_S[1])

    def send(self, requests: Sequence[Addressed]) -> None:
        """Send the requests to the devices that are there, and have the others wait for theirs."""
        refuse_if(self._closed)
        until = self._clock() + self._patience_s
        self._jobs += [_Job(addressed, until) for addressed in requests]
        self._pause_s = _POLL_S[0]
        self._next_look = self._clock() + self._pause_s
        self._surviving(self._post)

    def receive(self, timeout_s: float) -> list[Reply]:
        """Answers that have come in, and failures of what had none for too long."""
        refuse_if(self._closed)
        give_up = self._clock() + timeout_s
        while self._jobs:
            if (early_s := self._next_look - self._clock()) > 0:
                self._sleep(min(early_s, max(give_up - self._clock(), 0.0)))
            replies = self._look() if self._clock() >= self._next_look else []
            if replies or self._clock() >= give_up:
                return replies
        return []

    def _look(self) -> list[Reply]:
        """Look for answers; the next look is the later the longer there were none."""
        replies = self._surviving(self._step)
        self._waiting(self._wait())
        self._pause_s = _POLL_S[0] if replies else min(2 * self._pause_s, _POLL_S[1])
        self._next_look = self._clock() + self._pause_s
        return replies

    def _surviving(self, act: Callable[[], list[Reply]]) -> list[Reply]:
        """Do something with the run; where SuperLink has lost that, send all again in another."""
        try:
            return act()
        except RunLostError:
            self._start_again()
            return []

    def _start_again(self) -> None:
        self._notes("SuperLink no longer knows this run: another is started, nothing is lost")
        self._run.close("lost")
        self._run = self._start()
        self._messages.clear()
        self._returning.run_is_lost()
        for job in self._jobs:
            job.current = None

    def _wait(self) -> str:
        """Which devices are waited for, and for how long yet; empty where none is for long."""
        now, devices = self._clock(), []
        oldest: dict[int, _Job] = {}
        for job in self._jobs:
            oldest.setdefault(job.addressed.client, job)
        for client, job in sorted(oldest.items()):
            request, left_s = job.addressed.request, job.until - now
            if client in self._left:
                left_s = min(left_s, self._left[client] + self._away_s - now)
                what = "away"
            elif left_s <= self._patience_s - _LONG_S:
                what = f"at trial {request.trial} round {request.round}"
            else:
                continue
            devices.append(f"{self._name(client)} ({what}, {max(left_s, 0):.0f} s more at most)")
        return f"waiting for {and_more(devices)}" if devices else ""

    def _name(self, client: int) -> str:
        return self._names.get(client, f"device {client}")

    def _step(self) -> list[Reply]:
        self._refresh()
        answered = [*self._answers(), *self._overdue()]
        self._take_back_what_was_passed_over()
        self._post()
        return answered

    def _refresh(self) -> None:
        """See who is there; a device that has connected anew is asked again."""
        now = self._clock()
        if now < self._next_refresh:
            return
        self._next_refresh = now + _REFRESH_S
        nodes = self._run.nodes()
        before, self._there = (
            self._there,
            {self._numbers[node.name]: node for node in nodes if node.name in self._numbers},
        )
        for number in sorted(before.keys() - self._there.keys()):
            self._left[number] = now
            self._notes(f"{self._names[number]} has left")
        for number in sorted(self._there.keys() - before.keys()):
            self._left.pop(number, None)
            self._notes(f"{self._names[number]} is here")
        for job in self._jobs:
            node = self._there.get(job.addressed.client)
            if node is not None and job.current and job.activated != node.activated:
                job.current = None
        self._returning.ask(self._there, self._run)

    def _post(self) -> list[Reply]:
        """Send what waits to be sent, where its device is there."""
        waiting = [job for job in self._jobs if job.current is None and self._is_ready(job)]
        if not waiting:
            return []
        messages = []
        for job in waiting:
            node, request = self._there[job.addressed.client], job.addressed.request
            key = (job.addressed.client, request.artefact)
            job.with_model = key not in self._held
            self._held.add(key)
            job.activated, job.tries = node.activated, job.tries + 1
            job.sent = self._clock()
            left_s = max(job.until - self._clock(), 1.0)
            messages.append(request_message(job.addressed, node.node_id, left_s, job.with_model))
        for job, message_id in zip(waiting, self._run.push(messages), strict=True):
            job.current = message_id
            if message_id is not None:
                self._messages[message_id] = job
        return []

    def _is_ready(self, job: _Job) -> bool:
        """Whether its device is there, and is still what it was."""
        if self._clock() < job.not_before:
            return False
        client = job.addressed.client
        node = self._there.get(client)
        knows, change = self._returning.knows, self._returning.change
        return node is not None and knows(client, node) and not change(client)

    def _answers(self) -> Iterator[Reply]:
        for message in self._run.pull([*self._messages, *self._returning.open_messages]):
            if self._returning.take(message):
                continue
            job = self._messages.pop(message.metadata.reply_to_message_id, None)
            if job is None:
                continue  # its job was done by another message's answer that came with this one
            if message.has_error():
                if message.metadata.reply_to_message_id != job.current:
                    continue  # an earlier message for this job; a later one is under way
                yield from self._on_error(job, message)
                continue
            report = reported(message, job.addressed.request)
            if report.failure == "artefact_missing" and not job.with_model:
                # The device was believed to hold it; it has lost it, perhaps in a restart.
                self._held.discard((job.addressed.client, job.addressed.request.artefact))
                job.current, job.tries = None, job.tries - 1
                continue
            if report.failure == "error" and job.tries < 2:
                job.current = None  # such as a client that was killed and started again
                continue
            yield self._done(job, Reply(job.addressed.client, report))

    def _on_error(self, job: _Job, message: Message) -> Iterator[Reply]:
        """Ask again where that may help."""
        code, reason = message.error.code, message.error.reason
        name = self._names[job.addressed.client]
        if code == _CRASHED and job.tries >= 2:
            yield self._failed(
                job,
                "out_of_memory",
                f"the client on {name} died twice of this, most likely for want of memory",
            )
        elif code == AWAY:
            # It is waited for like any device that is away: whether it is there, SuperLink says
            # late, above all after it was away itself.
            job.current, job.tries = None, job.tries - 1
            job.not_before, self._next_refresh = self._clock() + _REFRESH_S, 0.0
        elif code in UNAVAILABLE and job.tries >= _MOST_TRIES:
            yield self._failed(job, "no_reply", f"{name} was asked {job.tries} times: {reason}")
        elif code == _CRASHED or code in UNAVAILABLE:
            job.current = None
            self._next_refresh = 0.0  # it may be away: look before sending again
        else:
            yield self._done(
                job, Reply(job.addressed.client, reported(message, job.addressed.request))
            )

    def _take_back_what_was_passed_over(self) -> None:
        """Have what a device seems to have skipped sent again; its first answer counts anyhow."""
        for job in self._jobs:
            sent, answered = self._reached.get(job.addressed.client, (0.0, 0.0))
            if job.current and job.sent < sent and self._clock() - answered >= _PASSED_OVER_S:
                job.current = None

    def _overdue(self) -> Iterator[Reply]:
        now = self._clock()
        for job in list(self._jobs):
            client = job.addressed.client
            name, left = self._name(client), self._left.get(client)
            if not self._returning.took_part(client):
                what = f"{name} was not there when the study was started"
                yield self._failed(job, "no_reply", what)
            elif change := self._returning.change(client):
                yield self._failed(job, "bad_data", f"{name} {change}")
            elif client in self._there and job.current is None and job.tries >= _MOST_TRIES:
                yield self._failed(
                    job,
                    "no_reply",
                    f"{name} has connected anew {job.tries} times while it was at this: its "
                    "client may be running out of memory",
                )
            elif left is not None and now - left >= self._away_s:
                yield self._failed(job, "no_reply", f"{name} is away")
            elif now >= job.until:
                what = f"{name} has not answered for {self._patience_s:.0f} s"
                yield self._failed(job, "no_reply", what)

    def _failed(self, job: _Job, kind: Failure, detail: str) -> Reply:
        report = failure(job.addressed.request, kind, detail)
        return self._done(job, Reply(job.addressed.client, report))

    def _done(self, job: _Job, reply: Reply) -> Reply:
        """One answer a request: whatever else comes for it is not asked for any more."""
        self._jobs.remove(job)
        if job.sent > self._reached.get(reply.client, (-1.0, 0.0))[0]:
            self._reached[reply.client] = job.sent, self._clock()
        for message_id in [m for m, owner in self._messages.items() if owner is job]:
            del self._messages[message_id]
        if reply.report.failure and reply.report.failure != "diverged":
            request = reply.report
            self._notes(
                f"{self._name(reply.client)}, trial {request.trial} round {request.round}: "
                f"{request.failure}{': ' if request.detail else ''}{request.detail}"
            )
        return replace(reply, described=self._returning.described(reply.client))
