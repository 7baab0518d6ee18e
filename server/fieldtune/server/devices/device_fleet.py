"""The fleet of real devices, which connect, disconnect, restart and answer late.

Every request gets exactly one reply. A disconnected device is waited for up to a time limit; after
a device has reconnected, its requests are sent again; the first answer to a request counts, and
later ones are dropped. A request without an answer in time is a failure, and the study continues
without the device until it reconnects. A device that connects after the study was started joins it:
it describes itself, and gets requests of new trials.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from flwr.app import Message, RecordDict

from fieldtune.client.contract.messages import Description, Failure
from fieldtune.client.node.fleet_api import NODE_UNAVAILABLE
from fieldtune.profiles.common.text import printable
from fieldtune.server.deployment.run import Run, RunLostError
from fieldtune.server.devices.membership import Membership
from fieldtune.server.devices.open_requests import (
    AWAY_S,
    MAX_TRIES,
    PATIENCE_S,
    Job,
    late,
    new_jobs,
    waited_for,
)
from fieldtune.server.devices.registration import UNAVAILABLE
from fieldtune.server.devices.status_polls import StatusPolls
from fieldtune.server.federation.fleet import Addressed, Reply, failure, refuse_if
from fieldtune.server.federation.flower_messages import reported, request_message

_REFRESH_S = 2.0
_POLL_S = (0.02, 0.5)
_SKIPPED_S = 5.0
"""SuperLink delivers messages in the order in which they were sent, and a device works on one after
the other. This long after its answer to a later message, an earlier one or its reply must be lost,
for example in a SuperLink that was stopped."""

_CRASHED = 8
"""Flower's error for a ClientApp whose process died."""


class DeviceFleet:
    """The devices that are connected to a coordinator.

    Args:
        start: starts a run on SuperLink; called again when the run is lost.
        numbers: name of an enrolled device -> its client number.
        renumber: the same again, with devices that were enrolled since.
        profiles: the device types that take part.
        needs: the contract that the study needs of a device
            (:mod:`fieldtune.client.contract.version`).
        wanted: number of devices that must be connected for a study to start.
        notes: prints a sentence about devices that connect, disconnect or fail.
        sign: adds the signature of an artefact to a message that has it.
        patience_s: a request without an answer after this time, and the time that its device may
            work on it and on those before it, is a failure ``no_reply``.
        away_s: so is one to a device that has been disconnected for this long (and a tenth of the
            time that it may work on it: what it has done so far is not to be lost for a moment).
        waiting: called repeatedly with the devices that are waited for and the time left, as a
            sentence; with an empty string when no device is waited for any more.
        status: asks the devices now and then how they are; None: nobody does.
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
        needs: int = 1,
        renumber: Callable[[], Mapping[str, int]] | None = None,
        sign: Callable[[RecordDict, str], object] = lambda content, artefact: None,
        patience_s: float = PATIENCE_S,
        away_s: float = AWAY_S,
        waiting: Callable[[str], None] = lambda _: None,
        status: StatusPolls | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._start, self._wanted, self._sign = start, wanted, sign
        self._notes, self._waiting, self._clock, self._sleep = notes, waiting, clock, sleep
        self._patience_s, self._away_s = patience_s, away_s
        self._members = Membership(numbers, renumber or (lambda: numbers), profiles, needs, notes)
        self._run = start()
        self._next_refresh = 0.0
        self._pause_s, self._next_look = _POLL_S[0], 0.0
        """Pause between two looks for replies, and the time of the next one."""
        self._jobs: dict[Job, None] = {}
        """In the order in which they were asked for."""
        self._messages: dict[str, Job] = {}
        self._held: set[tuple[int, str]] = set()
        self._last_answered: dict[int, tuple[float, float]] = {}
        """By client, of the latest message that it has answered: when sent, when answered."""
        self._outages, self._outage_asked = 0, dict[int, float]()
        """Outages of SuperLink so far; client -> when it was asked after the latest one whether it
        still has earlier requests."""
        self._status = status
        self._closed = False

    def close(self, failed: str | None = None) -> None:
        """End the run; ``failed`` is the reason if it ends early."""
        if not self._closed:
            self._closed = True
            self._run.close(failed)

    def members(self) -> list[Description]:
        """Wait until enough devices have described themselves; these are the fleet.

        A device whose description does not fit is left out, with a note that gives the reason.
        """
        refuse_if(self._closed)
        while True:
            try:
                return self._members.register(
                    self._run, self._wanted, self._waiting, self._clock, self._sleep
                )
            except RunLostError:
                self._restart_run()

    def joined(self) -> list[Description]:
        """Devices that have connected since, and fit: they get requests from now on."""
        refuse_if(self._closed)
        return self._members.joined()

    def connected(self) -> list[int]:
        """The clients that are connected now."""
        return list(self._members.connected)

    def send(self, requests: Sequence[Addressed]) -> None:
        """Send the requests to connected devices; those to others wait until they connect."""
        refuse_if(self._closed)
        now = self._clock()
        for job in list(new_jobs(requests, self._jobs, now, self._patience_s, self._away_s)):
            self._jobs[job] = None
        self._pause_s = _POLL_S[0]
        self._next_look = self._clock() + self._pause_s
        self._with_restart(self._post)

    def receive(self, timeout_s: float) -> list[Reply]:
        """Replies that have come in, and failures of requests that have timed out."""
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
        """Poll for replies; the longer there are none, the longer the pause to the next poll."""
        replies = self._with_restart(self._step)
        members = self._members
        self._waiting(waited_for(self._jobs, members.left_at, members.name, self._clock()))
        self._pause_s = _POLL_S[0] if replies else min(2 * self._pause_s, _POLL_S[1])
        self._next_look = self._clock() + self._pause_s
        return replies

    def _with_restart(self, act: Callable[[], list[Reply]]) -> list[Reply]:
        """Do something with the run; if SuperLink has lost it, start another and send all again."""
        try:
            return act()
        except RunLostError:
            self._restart_run()
            return []

    def _restart_run(self) -> None:
        self._notes("SuperLink has dropped this run: starting another, nothing is lost")
        self._run.close("lost")
        self._run = self._start()
        self._outages = self._run.outages
        self._messages.clear()
        self._members.run_is_lost(self._run)
        if self._status is not None:
            self._status.run_is_lost()
        for job in self._jobs:
            job.current = None
            job.messages.clear()

    def _step(self) -> list[Reply]:
        self._refresh()
        answered = [*self._answers(), *self._overdue()]
        self._resend_skipped()
        self._post()
        return answered

    def _refresh(self) -> None:
        """Update the connected devices; requests to reconnected ones are sent again."""
        now = self._clock()
        if now < self._next_refresh:
            return
        self._next_refresh = now + _REFRESH_S
        nodes = self._run.nodes()
        self._members.update(nodes, now)
        for job in self._jobs:
            node = self._members.connected.get(job.addressed.client)
            if node is not None and job.current and job.activated != node.activated:
                job.current = None
        if self._outages != self._run.outages:
            # A request may be lost, as may its reply. A device that answers a message sent now has
            # answered all earlier ones that it got.
            self._outages = self._run.outages
            clients = {job.addressed.client for job in self._jobs if job.current}
            self._outage_asked = dict.fromkeys(clients, now)
            self._members.revalidation.ask_again(clients)
        self._members.revalidation.ask(self._members.connected, self._run)
        if self._status is not None:
            self._status.ask(nodes, self._run)

    def _post(self) -> list[Reply]:
        """Send waiting requests whose device is connected."""
        waiting = [
            job
            for job in self._jobs
            if job.current is None
            and self._clock() >= job.not_before
            and self._members.is_ready(job.addressed.client)
        ]
        if not waiting:
            return []
        messages = []
        for job in waiting:
            node = self._members.connected[job.addressed.client]
            request = job.addressed.request
            key = (job.addressed.client, request.artefact)
            job.with_model = key not in self._held
            self._held.add(key)
            job.activated, job.tries = node.activated, job.tries + 1
            job.sent = self._clock()
            left_s = max(job.until - self._clock(), 1.0)
            described = self._members.revalidation.described(job.addressed.client)
            message = request_message(
                job.addressed, node.node_id, left_s, job.with_model,
                contract=described.contract if described else 1,
            )  # fmt: skip
            if job.with_model:
                self._sign(message.content, request.artefact)
            messages.append(message)
        for job, message_id in zip(waiting, self._run.push(messages), strict=True):
            job.current = message_id
            if message_id is not None:
                self._messages[message_id] = job
                job.messages.append(message_id)
        return []

    def _answers(self) -> Iterator[Reply]:
        polls = self._status.open_messages if self._status else ()
        revalidation = self._members.revalidation
        for message in self._run.pull([*self._messages, *revalidation.open_messages, *polls]):
            if self._status is not None and self._status.take(message):
                continue
            if revalidation.take(message):
                self._note_described(message)
                continue
            job = self._messages.pop(message.metadata.reply_to_message_id, None)
            if job is None:
                continue  # another message's answer in the same poll has finished its job
            if message.has_error():
                if message.metadata.reply_to_message_id != job.current:
                    continue  # it answers an earlier message for this job; a later one is open
                yield from self._on_error(job, message)
                continue
            report = reported(message, job.addressed.request)
            if report.failure == "artefact_missing" and not job.with_model:
                # The device has lost the artefact, perhaps in a restart: send it again.
                self._held.discard((job.addressed.client, job.addressed.request.artefact))
                job.current, job.tries = None, job.tries - 1
                continue
            if report.failure in ("error", "implausible") and job.tries < 2:
                job.current = None  # try once more: the client may have been killed and restarted
                continue
            yield self._done(job, Reply(job.addressed.client, report))

    def _note_described(self, message: Message) -> None:
        """A device that was asked after an outage has answered: earlier requests are lost."""
        if message.has_error():
            return
        for client, node in self._members.connected.items():
            if node.node_id == message.metadata.src_node_id and client in self._outage_asked:
                self._last_answered[client] = self._outage_asked.pop(client), self._clock()

    def _on_error(self, job: Job, message: Message) -> Iterator[Reply]:
        """Handle an error of Flower: send the request again if that may help."""
        code, reason = message.error.code, printable(message.error.reason or "", 500)
        name = self._members.name(job.addressed.client)
        if code == _CRASHED and job.tries >= 2:
            yield self._failed(
                job,
                "out_of_memory",
                f"the client on {name} crashed twice on this request, probably out of memory",
            )
        elif code == NODE_UNAVAILABLE:
            # Wait for it like for any disconnected device: SuperLink notices late that a device
            # has disconnected, above all after a restart of its own.
            job.current, job.tries = None, job.tries - 1
            job.not_before, self._next_refresh = self._clock() + _REFRESH_S, 0.0
        elif code in UNAVAILABLE and job.tries >= MAX_TRIES:
            yield self._failed(job, "no_reply", f"sent to {name} {job.tries} times: {reason}")
        elif code == _CRASHED or code in UNAVAILABLE:
            job.current = None
            self._next_refresh = 0.0  # it may be disconnected: check before sending again
        else:
            yield self._done(
                job, Reply(job.addressed.client, reported(message, job.addressed.request))
            )

    def _resend_skipped(self) -> None:
        """Send requests again that a device seems to have skipped; its first answer counts."""
        for job in self._jobs:
            sent, answered = self._last_answered.get(job.addressed.client, (0.0, 0.0))
            if job.current and job.sent < sent and self._clock() - answered >= _SKIPPED_S:
                job.current = None

    def _overdue(self) -> Iterator[Reply]:
        members, now = self._members, self._clock()
        for job in list(self._jobs):
            client = job.addressed.client
            name = members.name(client)
            if not members.revalidation.is_member(client):
                yield self._failed(job, "no_reply", f"{name} does not take part")
            elif change := members.revalidation.change(client):
                yield self._failed(job, "bad_data", f"{name} {change}")
            elif why := late(job, now, members.left_at.get(client), client in members.connected):
                yield self._failed(job, "no_reply", f"{name} {why}")

    def _failed(self, job: Job, kind: Failure, detail: str) -> Reply:
        report = failure(job.addressed.request, kind, detail)
        return self._done(job, Reply(job.addressed.client, report))

    def _done(self, job: Job, reply: Reply) -> Reply:
        """Finish a job with a reply; later answers to it are ignored."""
        del self._jobs[job]
        if job.sent > self._last_answered.get(reply.client, (-1.0, 0.0))[0]:
            self._last_answered[reply.client] = job.sent, self._clock()
        for message_id in job.messages:
            self._messages.pop(message_id, None)
        report = reply.report
        if report.failure and report.failure not in ("diverged", "implausible"):
            self._notes(
                f"{self._members.name(reply.client)}, trial {report.trial} round {report.round}: "
                f"{report.failure}{': ' if report.detail else ''}{report.detail}"
            )
        return reply._replace(described=self._members.revalidation.described(reply.client))
