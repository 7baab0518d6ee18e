"""Delivery of rollouts: the canary first, then the rest; who is off is left for the next time."""

from __future__ import annotations

import math
import shlex
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from flwr.app import ConfigRecord, RecordDict

from fieldtune.client.contract.deployment import (
    DEPLOY,
    ROLL_BACK,
    STATUS,
    DeployOrder,
    DeployReport,
    RollbackOrder,
    StatusReport,
)
from fieldtune.client.node.signatures import Signer
from fieldtune.server.deployment.fleet_state import FleetState
from fieldtune.server.deployment.folder import CoordinatorFolder
from fieldtune.server.operation.exchange import DEPLOY_S, STATUS_S, Exchange, NoAnswer, Question
from fieldtune.server.operation.rollouts import Member, Rollout, RolloutStore

_FINE = ("switched", "unchanged")
_RECENT_S = 60.0
"""A device that told its status so recently is not asked for it before an order."""


class Delivery:
    """Delivers rollouts over an exchange.

    Args:
        folder: of the coordinator; it keeps the rollouts, and what devices say of themselves.
        exchange: with the devices.
        notes: prints a sentence about each device.
        clock: Unix time.
    """

    def __init__(
        self,
        folder: CoordinatorFolder,
        exchange: Exchange,
        notes: Callable[[str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._state = RolloutStore(folder.path), FleetState(folder.path)
        self._sign = Signer(folder.authority_key)
        self._exchange, self._notes, self._clock = exchange, notes, clock
        self._recent: dict[str, tuple[float, StatusReport]] = {}
        """When a device last told its status, and what."""

    def ask_status(self, limit_s: float = STATUS_S) -> dict[str, StatusReport]:
        """What the connected devices say of themselves; kept too."""
        told, refused = self._ask_status(None, limit_s)
        for name, why in refused.items():
            self._notes(f"{name} {why}")
        return told

    def _ask_status(
        self, names: Collection[str] | None, limit_s: float = STATUS_S
    ) -> tuple[dict[str, StatusReport], dict[str, str]]:
        """Also why a device cannot answer at all."""
        there = self._exchange.connected()
        wanted = sorted(there if names is None else there.keys() & set(names))
        questions = {name: Question(STATUS, RecordDict()) for name in wanted}
        told: dict[str, StatusReport] = {}
        refused: dict[str, str] = {}
        for name, answer in self._exchange.ask(questions, StatusReport, limit_s):
            if not isinstance(answer, NoAnswer):
                told[name] = answer
            elif answer.final:
                refused[name] = answer.why
            else:
                self._notes(f"{name} {answer.why}")
        now = self._clock()
        self._state.keep(told, now)
        self._recent |= {name: (now, status) for name, status in told.items()}
        return told, refused

    def advance(self, rollout: Rollout) -> Rollout:
        """Deliver to the devices that wait and are connected; each step is kept.

        Returns:
            The rollout as it is then; who is off still waits.
        """
        canary = [name for name in rollout.waiting() if name in rollout.canary]
        if canary:
            rollout = self._deliver(rollout, canary)
            if bad := self._failed(rollout):
                return self._stop(rollout, bad)
            if left := [name for name in rollout.waiting() if name in rollout.canary]:
                rest = len(rollout.waiting()) - len(left)
                if rest:
                    self._notes(f"the other {rest} wait until {', '.join(left)} has answered")
                return rollout
        return self._deliver(rollout, rollout.waiting())

    def _failed(self, rollout: Rollout) -> list[str]:
        return [
            name
            for name in rollout.canary
            if rollout.devices[name].state not in (*_FINE, "waiting", "superseded")
        ]

    def _stop(self, rollout: Rollout, bad: Sequence[str]) -> Rollout:
        member = rollout.devices[bad[0]]
        why = f"{bad[0]}: {member.why}"
        rollout = rollout.model_copy(update={"stopped": why})
        for name in rollout.waiting():
            rollout = rollout.changed(name, Member(state="stopped", at=self._clock()))
        self._store.keep(rollout)
        return rollout

    def _deliver(self, rollout: Rollout, names: Sequence[str]) -> Rollout:
        now = self._clock()
        known = {n: s for n in names if (s := self._recent.get(n)) and now - s[0] < _RECENT_S}
        told, refused = self._ask_status(set(names) - known.keys())
        told |= {name: status for name, (_, status) in known.items()}
        for name, why in refused.items():
            rollout = self._keep(rollout, name, Member(state="left out", why=why))
        questions: dict[str, Question] = {}
        for name in names:
            if name not in told:
                continue
            question = self._question(rollout, name, told[name].profile)
            if isinstance(question, str):
                rollout = self._keep(rollout, name, Member(state="left out", why=question))
            else:
                questions[name] = question
        answered = []
        for name, answer in self._exchange.ask(questions, DeployReport, DEPLOY_S):
            rollout = self._take(rollout, name, answer)
            answered.append(name)
        if answered:
            self._ask_status(answered)  # what they run now
        return rollout

    def _question(self, rollout: Rollout, name: str, profile: str) -> Question | str:
        """The order for a device; a string with the reason where there is none."""
        if rollout.kind == "rollback":
            back = RollbackOrder(number=rollout.number, device=name, leave=rollout.leave[name])
            return Question(ROLL_BACK, self._signed(ROLL_BACK, back.text()))
        card = rollout.cards.get(profile)
        if card is None:
            retarget = ("fieldtune", "retarget", rollout.run, "--device", profile or "PROFILE")
            return (
                f"is a {profile or 'device of unknown type'}, for which the run recommends "
                f"nothing; this may find something: {shlex.join(retarget)}"
            )
        order = DeployOrder(number=rollout.number, device=name, card=card, force=rollout.force)
        content = self._signed(DEPLOY, order.text())
        content["model"] = ConfigRecord({"model": self._store.model(card)})
        return Question(DEPLOY, content)

    def _signed(self, purpose: str, text: str) -> RecordDict:
        content = RecordDict({"message": ConfigRecord({"order": text})})
        content["signature"] = ConfigRecord({"order": self._sign.of_text(purpose, text)})
        return content

    def _take(self, rollout: Rollout, name: str, answer: DeployReport | NoAnswer) -> Rollout:
        if isinstance(answer, NoAnswer):
            self._notes(f"{name} {answer.why}")
            if not answer.final:
                return rollout
            return self._keep(rollout, name, Member(state="left out", why=answer.why))
        if why := _untrue(rollout, answer):
            return self._keep(rollout, name, Member(state="kept", why=why))
        member = Member(state=answer.outcome, why=answer.why, report=answer)
        return self._keep(rollout, name, member)

    def _keep(self, rollout: Rollout, name: str, member: Member) -> Rollout:
        rollout = rollout.changed(name, member.model_copy(update={"at": self._clock()}))
        self._store.keep(rollout)
        self._notes(f"{name} {said(rollout, name)}")
        return rollout


def _untrue(rollout: Rollout, answer: DeployReport) -> str:
    """Why an answer cannot be true, as a sentence about its device; empty where it can."""
    refused = answer.outcome == "kept"
    if answer.number != rollout.number and not (refused and answer.number == 0):
        return f"answered order {answer.number}"
    sent = {card.artefact for card in rollout.cards.values()}
    if rollout.kind == "deploy" and not refused and answer.runs not in sent:
        runs = answer.runs[:8] if answer.runs else "nothing"
        return f"says that it has followed the order, and runs {runs}"
    return ""


def said(rollout: Rollout, name: str) -> str:
    """What became of a device in a rollout, as a sentence about it."""
    member = rollout.devices[name]
    back = rollout.kind == "rollback"
    match member.state:
        case "switched":
            sentence = "runs its earlier model again" if back else "runs the new model"
            return sentence + _figures(member.report)
        case "unchanged":
            return "runs another model already" if back else "runs this model already"
        case "kept":
            return f"keeps what it has: {member.why}"
        case "left out":
            return member.why
        case "superseded":
            return "has got a later order"
        case "stopped":
            return "was not asked, since the canary has stopped the rollout"
        case _:
            return "gets it when it is connected"


def _figures(report: DeployReport | None) -> str:
    if report is None or report.error is None:
        return ""
    before = report.error_before
    against = "" if before is None else f", {100 * before:.1f} % with the one before"
    took = "" if report.inference_ms is None else f", {report.inference_ms:.3g} ms a call"
    samples = report.samples
    return f": error {100 * report.error:.1f} % on {samples} own test samples{against}{took}"


def canary_of(
    connected: Iterable[str], types: Mapping[str, str], share: float | None, count: int | None
) -> tuple[str, ...]:
    """The devices that go first: a share of each device type, rounded up, or so many in turn.

    Args:
        connected: devices that can go first, by name.
        types: name -> device type.
        share: of each type, in 0..1; None: ``count`` says how many.
        count: of all types together; None: ``share`` says how many. None of both: no canary.
    """
    by_type: dict[str, list[str]] = defaultdict(list)
    for name in sorted(connected):
        by_type[types.get(name, "")].append(name)
    groups = [by_type[each] for each in sorted(by_type)]
    if share is not None:
        return tuple(n for group in groups for n in group[: math.ceil(share * len(group))])
    turns = (group[turn] for turn in range(max(map(len, groups), default=0))
             for group in groups if turn < len(group))  # fmt: skip
    return tuple(turns)[: count or 0]
