"""The tuning loop.

Ask the tuner for a configuration, forecast what it costs, tell at once what the limits rule out,
train what is left on the fleet, to its end or to a rung, tell what was learned. Several trainings
are in flight; outcomes are told in the order of their numbers, so the same seed gives the same
study however fast the clients answer.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field, replace

import numpy as np

from fieldtune.client.contract.messages import Description, TrainReport, Weights
from fieldtune.profiles.common.errors import CompileError
from fieldtune.server.compiler.manifest import Artefact
from fieldtune.server.costs.budget import Budget
from fieldtune.server.costs.calibration import Watch, corrections, known_before
from fieldtune.server.costs.feasible_space import find_feasible
from fieldtune.server.costs.forecast import Forecaster, fleet_measure
from fieldtune.server.costs.known_costs import Formulas
from fieldtune.server.costs.usage import Bill
from fieldtune.server.federation.fedavg import (
    Answers,
    Exchange,
    NothingLearnedError,
    Plan,
    Report,
    federated_averaging,
)
from fieldtune.server.federation.fedex import fedex
from fieldtune.server.federation.fedex_candidates import Candidate, candidates_around, who_may_train
from fieldtune.server.federation.fleet import Addressed, Fleet, Reply
from fieldtune.server.outcomes.trial import (
    Completed,
    Failed,
    Forecast,
    Infeasible,
    Learned,
    Outcome,
    Proposal,
    Stopped,
)
from fieldtune.server.results.run_folder import RunFolder
from fieldtune.server.session.cpu_time import Spending
from fieldtune.server.session.progress import Observer
from fieldtune.server.study.artefacts import Artefacts
from fieldtune.server.study.config import COST_MEASURES
from fieldtune.server.tuner import Tuner
from fieldtune.server.tuner.early_stopping import Rungs
from fieldtune.server.tuner.schedule import Schedule, defaults_again, next_finalist

PATIENCE = 100
"""So many proposals in a row ruled out by the limits, and the whole space is looked at."""

_WAIT_S = 0.2


@dataclass
class _Training:
    """A trial in flight."""

    plan: Plan
    candidates: Sequence[Candidate]
    """Configurations that share it, the one that was asked for first."""
    proposal: Proposal
    model: bytes
    steps: Generator[Exchange, Answers, tuple[Weights, Learned]]
    watch: Watch
    bill: Bill
    waiting_for: set[int] = field(default_factory=set)
    answers: dict[int, Report] = field(default_factory=dict)
    outcome: Outcome | None = None


class Coordinator:
    """Runs one study on a fleet until its budget is used up.

    Args:
        folder: the run's folder, with its study.
        tuner: proposes and learns.
        fleet: trains.
        members: the fleet's clients.
        forecaster: predicts costs and judges limits.
        artefacts: compiles models.
        formulas: what the tuner searches by; learns of each architecture that is compiled.
        observer: is told what happens.
        spending: is charged with where time goes.
    """

    def __init__(
        self,
        folder: RunFolder,
        tuner: Tuner,
        fleet: Fleet,
        members: Sequence[Description],
        forecaster: Forecaster,
        artefacts: Artefacts,
        formulas: Formulas,
        observer: Observer,
        spending: Spending,
    ) -> None:
        self._folder, self._study, self._tuner, self._fleet = folder, folder.study, tuner, fleet
        self._profile_of = {member.client: member.profile for member in members}
        self._forecaster, self._artefacts = forecaster, artefacts
        self._formulas, self._observer, self._spending = formulas, observer, spending
        self._budget, self._rungs = Budget(self._study.study), Rungs(self._study)
        self._in_flight: deque[_Training] = deque()
        self._judging: tuple[Proposal, Future[Artefact]] | None = None
        self._ruled_out: set[int] = set()
        """Since the whole space was last looked at."""
        for outcome in tuner.history():
            if isinstance(outcome, Infeasible):
                self._exhausts_patience(outcome.proposal.number)
        self._schedule, self._settled = Schedule(self._study), False
        self._share: float | None = None
        """Of the budget, what is used; None where it is to be looked up."""
        self._compiled_any = bool(tuner.history())
        self._known = 0
        self._spent_trials = sum(not isinstance(outcome, Infeasible) for outcome in tuner.history())

    def run(self) -> None:
        """Run, or go on with, the study."""
        while self._wants_more() or self._in_flight:
            if self._wants_more() and len(self._in_flight) < self._study.study.parallel:
                # Ask before anything else is told: what the tuner knows at each ask must not
                # depend on which client was faster.
                if not self._admit():
                    self._receive()
            elif self._in_flight[0].outcome:
                self._finish(self._in_flight.popleft())
            else:
                self._receive()

    def _wants_more(self) -> bool:
        return not self._settled and self._used() < 1

    def _used(self) -> float:
        """Of the budget, what is used, by the trials that the next one may know of."""
        if self._share is None:
            trials = self._spent_trials + len(self._in_flight)
            self._share = self._budget.share(trials, self._known_to(math.inf))
        return self._share

    def _admit(self) -> bool:
        """Ask and judge one proposal; False while its artefact is still being compiled."""
        if self._judging is None:
            self._correct(math.inf)
            with self._spending.on("optimizer"):
                if self._formulas.renewed():
                    self._tuner.know(self._formulas)
                proposal = self._ask()
            if proposal is None:
                return True
            self._judging = (proposal, self._artefacts.of(proposal.configuration))
        proposal, compiling = self._judging
        if not compiling.done():
            return False
        self._judging = None
        try:
            artefact = compiling.result()
        except CompileError as refused:
            if not self._compiled_any:
                raise
            self._spent_trials += 1
            self._tell(Failed(proposal, str(refused), sent=False))
            return True
        self._compiled_any = True
        self._formulas.learn(proposal.configuration, artefact.manifest)
        self._correct(proposal.number)
        forecast = self._forecaster.forecast(proposal.configuration, artefact.manifest)
        if forecast.feasible:
            self._start(proposal, forecast, artefact)
        else:
            self._rule_out(proposal, forecast)
        return True

    def _ask(self) -> Proposal | None:
        """The next proposal; None where the finalists' order is settled, which ends the study."""
        trials = self._spent_trials + len(self._in_flight)
        phase = self._schedule.phase(trials, self._used())
        if self._tuner.resumes:
            return self._tuner.ask(phase)
        flying = [training.proposal for training in self._in_flight]
        known, history = self._known_to(math.inf), self._tuner.history()
        if defaults := defaults_again(self._study, trials, known, history, flying):
            return self._tuner.ask("validate", defaults)
        if phase != "validate":
            return self._tuner.ask(phase)
        finalist = next_finalist(self._study, known, history, flying)
        if finalist is None:
            self._settled = True
            return None
        return self._tuner.ask(phase, finalist)

    def _correct(self, number: float) -> None:
        """Predict with what devices had reported by the time this trial was asked for."""
        known = self._known_to(number)
        if len(known) != self._known:  # the trials sent to devices only ever grow in number
            self._known = len(known)
            self._forecaster.correct(corrections(known))

    def _known_to(self, number: float) -> list[Outcome]:
        """What had been told of trials sent to devices when this one was asked for."""
        flying = {training.plan.trial for training in self._in_flight}
        return known_before(number, self._tuner.history(), flying, self._study.study.parallel)

    def _rule_out(self, proposal: Proposal, forecast: Forecast) -> None:
        if self._exhausts_patience(proposal.number):
            # Before it is told: a study that is killed meanwhile asks for this proposal again.
            self._tuner.suggest(
                find_feasible(self._study, self._forecaster, self._artefacts, seed=proposal.number)
            )
        self._tell(Infeasible(proposal, forecast))

    def _exhausts_patience(self, number: int) -> bool:
        """Count one more that is ruled out; whether so many in a row are that one looks further."""
        self._ruled_out.add(number)
        if not self._ruled_out.issuperset(range(number - PATIENCE + 1, number + 1)):
            return False
        self._ruled_out.clear()
        return True

    def _start(self, proposal: Proposal, forecast: Forecast, artefact: Artefact) -> None:
        seed = trial_seed(self._study.study.seed, proposal.number)
        candidates = self._candidates(proposal, forecast, artefact, seed)
        participants = tuple(who_may_train(candidates))
        deadlines = {
            client: cap
            for client in participants
            if (cap := self._forecaster.deadline_s(self._profile_of[client])) is not None
        }

        def goes_on(rounds: int, measures: Mapping[str, float]) -> bool:
            others = self._known_to(proposal.number)
            return self._rungs.goes_on(rounds, forecast, measures, others)

        plan = Plan(
            trial=proposal.number,
            configuration=proposal.configuration,
            artefact=artefact.manifest.artefact_sha256,
            hyperparameters=artefact.manifest.hyperparameters,
            initial_weights=artefact.initial_weights,
            participants=participants,
            classes=0 if self._study.task.reconstructs else artefact.manifest.classes,
            rounds=self._study.study.rounds,
            metric=self._study.task.metric,
            deadline_s=deadlines,
            seed=seed,
            # Whoever asks for another run of a finalist wants to know how it ends.
            rungs=() if proposal.phase == "validate" else self._rungs.rounds,
            goes_on=goes_on,
        )
        expected = self._forecaster.expected(proposal.configuration, artefact.manifest)
        training = _Training(
            plan, candidates, proposal, artefact.model, self._steps(plan, candidates),
            Watch(expected), Bill(expected, forecast),
        )  # fmt: skip
        self._in_flight.append(training)
        self._share = None
        self._advance(training, None)

    def _candidates(
        self, proposal: Proposal, forecast: Forecast, artefact: Artefact, seed: int
    ) -> list[Candidate]:
        """The configurations that share a training: the one asked for and, in FedEx, others.

        The first trial is of the study's defaults, which are trained alone: what is recommended is
        compared with them.
        """
        asked = Candidate(proposal.configuration, forecast)
        options = self._study.tuner.exploration
        if options is None or proposal.number == 0:
            return [asked]
        return candidates_around(
            asked,
            space=self._study.space,
            count=options.configurations,
            radius=options.radius,
            forecast=lambda other: self._forecaster.forecast(other, artefact.manifest),
            seed=seed,
        )

    def _steps(
        self, plan: Plan, candidates: Sequence[Candidate]
    ) -> Generator[Exchange, Answers, tuple[Weights, Learned]]:
        """The federated algorithm for so many configurations."""
        options = self._study.tuner.exploration
        if options is None or len(candidates) == 1:
            return federated_averaging(plan)
        return fedex(plan, candidates, options)

    def _receive(self) -> None:
        """Take what the clients have answered, or wait a moment for the compiler."""
        if any(training.waiting_for for training in self._in_flight):
            for reply in self._fleet.receive(_WAIT_S):
                self._accept(reply)
        elif self._judging is not None:
            wait_for([self._judging[1]], timeout=_WAIT_S)

    def _accept(self, reply: Reply) -> None:
        """Take one client's report; once the last is in, its training goes on."""
        report = reply.report
        kind = "train" if isinstance(report, TrainReport) else "evaluate"
        self._spending.charge(kind, report.host_cpu_s or 0.0)
        training = next(t for t in self._in_flight if t.plan.trial == report.trial)
        training.waiting_for.discard(reply.client)
        training.answers[reply.client] = report
        if not training.waiting_for:
            answers, training.answers = training.answers, {}
            training.watch.take(answers)
            training.bill.take(answers)
            self._advance(training, answers)

    def _advance(self, training: _Training, answers: Answers | None) -> None:
        """Run the federated algorithm to its next exchange, or to its end."""
        try:
            with self._spending.on("aggregate"):
                exchange = training.steps.send(answers)  # type: ignore[arg-type]
        except StopIteration as end:
            training.outcome = self._outcome(training, *end.value)
            return
        except NothingLearnedError as nothing:
            training.outcome = Failed(
                training.proposal, str(nothing), dict(nothing.failures),
                expense=training.bill.total(),
            )  # fmt: skip
            return
        training.waiting_for = set(exchange)
        first = next(iter(exchange.values()))
        self._observer.round_started(training.plan.trial, first.round)
        with self._spending.on("messages"):
            self._fleet.send(
                [Addressed(client, request, training.model) for client, request in exchange.items()]
            )

    def _outcome(self, training: _Training, weights: Weights, learned: Learned) -> Outcome:
        chosen = training.candidates[learned.choice.mode if learned.choice else 0]
        proposal = replace(training.proposal, configuration=chosen.configuration)
        objectives = {
            name: fleet_measure(chosen.forecast, name)
            if name in COST_MEASURES
            else learned.measures[name]
            for name in (key.removeprefix("-") for key in self._study.study.objectives)
        }
        about = proposal, chosen.forecast, learned, objectives, training.plan.seed
        observed, expense = training.watch.observed(), training.bill.total()
        if learned.stopped:
            return Stopped(*about, learned.rounds, observed, expense)
        for name, value in objectives.items():
            if not math.isfinite(value):
                reason = f"{name} is {value}: not a finite number"
                return Failed(proposal, reason, expense=expense)
        self._folder.save_weights(training.plan.trial, weights)
        return Completed(*about, observed, expense)

    def _finish(self, training: _Training) -> None:
        assert training.outcome is not None
        self._spent_trials += 1
        self._tell(training.outcome)

    def _tell(self, outcome: Outcome) -> None:
        with self._spending.on("optimizer"):
            self._tuner.tell(outcome)
        self._share = None
        self._observer.told(outcome)


def trial_seed(study_seed: int, trial: int) -> int:
    """The seed of everything random in one trial."""
    return int(np.random.SeedSequence([study_seed, trial]).generate_state(1)[0])
