"""The federated training of one trial, one exchange of messages with the clients at a time."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fieldtune.client.contract.messages import TrainReport, TrainRequest, Weights
from fieldtune.server.costs.calibration import Expected, ObservationCollector
from fieldtune.server.costs.usage import UsageMeter
from fieldtune.server.federation.device_records import DeviceRecords
from fieldtune.server.federation.exchange import Answers, Collect, Exchange, Report, Request, State
from fieldtune.server.federation.fedavg import federated_averaging
from fieldtune.server.federation.fedex import fedex
from fieldtune.server.federation.fedex_candidates import Candidate
from fieldtune.server.federation.fleet import failure, in_place_of_report
from fieldtune.server.federation.plan import Plan
from fieldtune.server.federation.plausible import Asked, Bounds
from fieldtune.server.federation.tally import NothingLearnedError
from fieldtune.server.federation.timeline import Arrival, Timeline
from fieldtune.server.outcomes.trial import (
    Completed,
    Failed,
    Learned,
    Outcome,
    Proposal,
    Stopped,
    Timing,
    objective_values,
)
from fieldtune.server.results.checkpoints import Checkpoint
from fieldtune.server.session.cpu_time import CpuTime
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.private_averaging import private_averaging

Requests = Sequence[tuple[int, Request]]
"""Clients and the requests to them. A client may get two, to train and to evaluate."""

_MISPREDICTED, _MOST_WORK_S = 3.0, 86400.0
"""Of a round's predicted time: a factor by which it may be exceeded; a bound in seconds."""


class Training:
    """A trial that is being trained.

    Args:
        study: its objectives and tuner options.
        proposal: of the tuner.
        plan: of the training.
        candidates: configurations that share the training, the proposed one first.
        expected: client -> what the device profiles predict for it.
        model: the artefact's bytes.
        bounds: check the clients' reports for plausibility.
        cpu_time: adds up busy seconds by phase.
        checkpoint: of this trial; the training continues from it if it is of the same training.
        timeline: tells when reports of training come.

    Attributes:
        weights: the trained ones, once ``outcome`` is :class:`Completed`.
        outcome: of the trial; None while it is being trained.
    """

    def __init__(
        self,
        study: StudyConfig,
        proposal: Proposal,
        plan: Plan,
        candidates: Sequence[Candidate],
        expected: Mapping[int, Expected],
        model: bytes,
        bounds: Bounds,
        cpu_time: CpuTime,
        checkpoint: Checkpoint,
        timeline: Timeline,
    ) -> None:
        self._records = DeviceRecords(bounds.names)
        self.proposal, self.model = proposal, model
        self.plan = plan = replace(plan, on_norm=self._records.norm)
        self.outcome: Outcome | None = None
        self.weights: Weights | None = None
        self._objectives = study.study.objectives
        self._candidates, self._expected = candidates, expected
        self._observations = ObservationCollector(expected)
        self._usage = UsageMeter(expected, candidates[0].forecast)
        self._bounds, self._cpu_time = bounds, cpu_time
        self._timeline, self._wasted_s = timeline, 0.0
        self._private = private_averaging(plan.configuration) is not None
        """Whether how one device's report is judged may not depend on another's data."""
        self._collecting = False
        """Whether the algorithm waits for the timeline, rather than for all of an exchange."""
        self._asked: dict[int, Asked] = {}
        """Client -> the exchange in which it was asked to train."""
        self._training: set[int] = set()
        """Clients that have not answered a request to train."""
        self._exchange: Asked | None = None
        """The current one that is not of trainings."""
        self._answers: dict[int, Report] = {}
        self._checkpoint = checkpoint
        options, resumed = study.tuner.exploration, self._resumed()
        self._steps: Generator[Exchange, Answers, tuple[Weights, Learned]] = (
            federated_averaging(plan, resumed, self._keep)
            if options is None or len(candidates) == 1
            else fedex(plan, candidates, options, resumed, self._keep)
        )

    @property
    def waiting_for(self) -> bool:
        """Whether the fleet has yet to answer a request."""
        return bool(self._training) or (self._exchange is not None and self._lacks_answers())

    def begin(self) -> Requests:
        """Start; the first requests, none where the training ends at once."""
        return self._advance(None)

    def accept(self, client: int, report: Report) -> Requests:
        """Add a client's report; the next requests once enough have come, else none."""
        if isinstance(report, TrainReport):
            if client not in self._training:
                return []
            self._training.discard(client)
            self._timeline.put(client, report)
            return self.look()
        if self._exchange is None or client not in self._exchange.exchange:
            return []
        if client in self._answers:
            return []
        self._answers[client] = report
        return [] if self._lacks_answers() else self._advance(self._all_answers())

    def look(self) -> Requests:
        """The next requests, if the time has come for them."""
        if self.outcome is not None or not self._collecting:
            return []
        answers = self._arrived()
        return [] if answers is None else self._advance(answers)

    def _lacks_answers(self) -> bool:
        """Whether clients have not answered the current exchange."""
        assert self._exchange is not None
        return len(self._answers) < len(self._exchange.exchange)

    def _all_answers(self) -> Answers:
        """The judged answers to the current exchange."""
        assert self._exchange is not None
        judged = self._bounds.judge(self._exchange, self._answers)
        self._exchange, self._answers = None, {}
        self._count(judged)
        return judged

    def _arrived(self) -> Answers | None:
        """The judged reports that the timeline delivers; None where nothing is due.

        What came too late is paid for, and not passed on.
        """
        arrivals = self._timeline.arrived()
        if arrivals is None:
            return None
        together: dict[int, list[Arrival]] = {}
        for each in arrivals:
            together.setdefault(id(self._asked[each.client]), []).append(each)
        judged: dict[int, Report] = {}
        for group in together.values():
            asked = self._asked[group[0].client]
            came = {each.client: each.report for each in group if each.report is not None}
            judged |= self._bounds.judge(asked, came)
        fates = {each.client: each.fate for each in arrivals}
        worked = {client: fates[client].worked(report) for client, report in judged.items()}
        self._count(worked)
        found = dict[int, Report]()
        for each in arrivals:
            if each.given_up:
                found[each.client] = failure(each.request, "late", "not waited for any more")
            if each.report is None:
                continue
            self._asked.pop(each.client)
            report = each.fate.received(worked[each.client])
            if report.failure or not each.in_time:
                self._wasted_s += each.took_s
            if each.in_time:
                found[each.client] = report
        self._collecting = False
        return found

    def _count(self, judged: Answers) -> None:
        """Take the figures of reports, in which the order does not matter."""
        for each in judged.values():
            kind = "train" if isinstance(each, TrainReport) else "evaluate"
            self._cpu_time.add(kind, each.host_cpu_s or 0.0)
        self._observations.take(judged)
        self._usage.take(judged)
        self._records.take(judged)

    def _count_late(self) -> None:
        """Take the figures of trainings that nobody waited for.

        A virtual clock has delivered all of them before, when their round ended. Of real devices,
        those that still work are charged what is predicted: what they report later is not heard.
        """
        self._timeline.begin(Collect({}))
        self._arrived()
        self._usage.take(
            {
                client: in_place_of_report(request)
                for client in self._training
                if isinstance(request := self._asked[client].exchange[client], TrainRequest)
            }
        )

    def work_s(self, client: int) -> float:
        """How long a client may work on a request, in seconds: its deadline, if it has one.

        Otherwise what is predicted for a round, which may be wrong by ``_MISPREDICTED``.
        """
        deadline_s = self.plan.deadline_s.get(client)
        if deadline_s is not None:
            return deadline_s
        profile = self._expected[client].profile
        rounds = (each.forecast.devices[profile].cost.training_s for each in self._candidates)
        return min(_MISPREDICTED * max(each.high for each in rounds), _MOST_WORK_S)

    def _resumed(self) -> State | None:
        """The stored state of the federated algorithm, if it is of this very training."""
        stored = self._checkpoint.load()
        if stored is None or stored["training"] != self._identity():
            return None
        self._observations.restore(stored["observations"])
        self._usage.restore(stored["usage"])
        self._bounds.refusals.restore(self.plan.trial, stored.get("refused", {}))
        self._records.restore(stored.get("devices", {}))
        if "timeline" in stored:
            self._timeline.restore(stored["timeline"])
            self._wasted_s = stored["wasted_s"]
        algorithm: State = stored["algorithm"]
        return algorithm

    def _keep(self, state: State) -> None:
        self._checkpoint.save(
            {
                "training": self._identity(),
                "observations": self._observations.state(),
                "usage": self._usage.state(),
                "refused": self._bounds.refusals.in_trial(self.plan.trial),
                "devices": self._records.state(),
                "timeline": self._timeline.state(),
                "wasted_s": self._wasted_s,
                "algorithm": state,
            }
        )

    def _identity(self) -> dict[str, Any]:
        """What must not have changed since a checkpoint; the clients that take part may have."""
        plan = self.plan
        return {
            "format": 1,
            "artefact": plan.artefact,
            "seed": plan.seed,
            "rounds": plan.rounds,
            "rungs": list(plan.rungs),
            "configurations": [each.configuration.flat() for each in self._candidates],
        }

    def _advance(self, answers: Answers | None) -> Requests:
        """Run the federated algorithm until it has to wait, or to its end."""
        to_send: list[tuple[int, Request]] = []
        while True:
            try:
                with self._cpu_time.on("aggregate"):
                    exchange = self._steps.send(answers)  # type: ignore[arg-type]
            except StopIteration as end:
                self._count_late()
                self.weights, learned = end.value
                self.outcome = self._outcome(learned)
                return to_send
            except NothingLearnedError as nothing:
                self._count_late()
                self.outcome = Failed(
                    self.proposal, str(nothing), dict(nothing.failures),
                    expense=self._usage.total(),
                    refused=self._bounds.refusals.in_trial(self.plan.trial),
                    devices=self._records.all(),
                )  # fmt: skip
                return to_send
            if isinstance(exchange, Collect):
                to_send += self._begin(exchange)
                answers = self._arrived()
            else:
                to_send += self._ask(exchange)
                answers = None if self._lacks_answers() else self._all_answers()
            if answers is None:
                return to_send

    def _begin(self, collect: Collect) -> Requests:
        """Have the timeline wait for reports of training; the requests to send."""
        self._collecting = True
        asked = self._bounds.ask(collect, self.plan.classes, by_itself=self._private)
        self._asked |= dict.fromkeys(collect, asked)
        sent = self._timeline.begin(collect)
        refused = self._bounds.sitting_out(sent)
        for client, report in refused.items():
            self._timeline.put(client, report)
        self._training |= sent.keys() - refused.keys()
        return [(client, each) for client, each in sent.items() if client not in refused]

    def _ask(self, exchange: Exchange) -> Requests:
        """Wait for all answers to an exchange; the requests to send."""
        self._exchange = self._bounds.ask(exchange, self.plan.classes, by_itself=self._private)
        self._answers = self._bounds.sitting_out(exchange)
        return [(client, each) for client, each in exchange.items() if client not in self._answers]

    def _outcome(self, learned: Learned) -> Outcome:
        if (time_h := learned.measures.get("time_h")) is not None:
            timing = Timing(3600 * time_h, self._timeline.idle_s(), self._wasted_s)
            learned = replace(learned, timing=timing)
        chosen = self._candidates[learned.choice.mode if learned.choice else 0]
        proposal = replace(self.proposal, configuration=chosen.configuration)
        objectives = objective_values(self._objectives, learned.measures, chosen.forecast)
        common = proposal, chosen.forecast, learned, objectives, self.plan.seed
        observed, expense = self._observations.observed(), self._usage.total()
        refused, devices = self._bounds.refusals.in_trial(self.plan.trial), self._records.all()
        if learned.stopped:
            return Stopped(*common, learned.rounds, observed, expense, refused, devices)
        for name, value in objectives.items():
            if not math.isfinite(value):
                reason = f"{name} is {value}: not a finite number"
                return Failed(proposal, reason, expense=expense, refused=refused, devices=devices)
        return Completed(*common, observed, expense, refused, devices=devices)
