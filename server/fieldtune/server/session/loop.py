"""The tuning loop.

Ask the tuner for a configuration, compile it, forecast what it costs on each device type, tell at
once what the limits rule out, train what is left on the fleet, to its end or to a rung, tell what
was learned. Several trainings are in flight; outcomes are told in the order of their numbers, so
the same seed gives the same study however fast the clients answer.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for

import numpy as np

from fieldtune.client.contract.messages import Description
from fieldtune.profiles.common.errors import CompileError
from fieldtune.server.compiler.manifest import Artefact
from fieldtune.server.costs.cost_model import CostModel
from fieldtune.server.costs.feasible_space import find_feasible
from fieldtune.server.costs.known_costs import KnownCosts
from fieldtune.server.federation.fedavg import Exchange, Plan
from fieldtune.server.federation.fedex_candidates import Candidate, candidates_around, who_may_train
from fieldtune.server.federation.fleet import Addressed, Fleet, Reply
from fieldtune.server.federation.plausible import Bounds
from fieldtune.server.outcomes.trial import (
    Completed,
    Failed,
    Forecast,
    Infeasible,
    Outcome,
    Proposal,
)
from fieldtune.server.results.run_folder import RunFolder
from fieldtune.server.session.cpu_time import Spending
from fieldtune.server.session.knowledge import Knowledge
from fieldtune.server.session.progress import Observer
from fieldtune.server.session.training import Training
from fieldtune.server.study.artefacts import Artefacts
from fieldtune.server.study.space import Configuration
from fieldtune.server.study.tuner_options import Phase
from fieldtune.server.tuner import Tuner
from fieldtune.server.tuner.early_stopping import Rungs
from fieldtune.server.tuner.schedule import Schedule, defaults_again, next_finalist

_WAIT_S = 0.2


class TuningLoop:
    """Runs one study on a fleet until its budget is used up.

    Args:
        folder: the run's folder, with its study.
        tuner: proposes and learns.
        fleet: trains.
        members: the fleet's clients.
        costs: predicts costs and judges limits.
        artefacts: compiles models.
        known: what the tuner searches by; learns of each architecture that is compiled.
        observer: is told what happens.
        spending: is charged with where time goes.
        bounds: judge what the clients report.
    """

    def __init__(
        self,
        folder: RunFolder,
        tuner: Tuner,
        fleet: Fleet,
        members: Sequence[Description],
        costs: CostModel,
        artefacts: Artefacts,
        known: KnownCosts,
        observer: Observer,
        spending: Spending,
        bounds: Bounds,
    ) -> None:
        self._folder, self._study, self._tuner, self._fleet = folder, folder.study, tuner, fleet
        self._profile_of = {member.client: member.profile for member in members}
        self._costs, self._artefacts, self._known = costs, artefacts, known
        self._observer, self._spending, self._bounds = observer, spending, bounds
        self._knowledge = Knowledge(self._study, tuner, costs)
        self._rungs, self._schedule = Rungs(self._study), Schedule(self._study)
        self._in_flight: deque[Training] = deque()
        self._asked: tuple[Proposal, Future[Artefact]] | None = None
        self._settled = False
        """Whether the order of the finalists leaves nothing in doubt, which ends the study."""
        self._compiled_any = bool(tuner.history())

    def run(self) -> None:
        """Run, or go on with, the study."""
        while self._wants_more() or self._in_flight:
            if self._wants_more() and len(self._in_flight) < self._study.study.parallel:
                # Ask before anything else is told: what the tuner knows at each ask must not
                # depend on which client was faster.
                if self._asked is None:
                    self._asked = self._ask()
                elif self._asked[1].done():
                    proposal, compiled = self._asked
                    self._asked = None
                    self._judge(proposal, compiled)
                else:
                    self._receive()
            elif self._in_flight[0].outcome:
                self._finish(self._in_flight.popleft())
            else:
                self._receive()

    def _wants_more(self) -> bool:
        return not self._settled and self._knowledge.budget_used(self._numbers()) < 1

    def _ask(self) -> tuple[Proposal, Future[Artefact]] | None:
        """The next proposal, on its way to the compiler; None where the study is settled."""
        self._known.calibrate(self._knowledge.calibration(math.inf, self._numbers()))
        with self._spending.on("optimizer"):
            renewed = self._known if self._known.renewed() else None
            wanted = self._wanted(renewed)
            if wanted is None:
                self._settled = True
                return None
            proposal = self._tuner.ask(*wanted, renewed)
        return proposal, self._artefacts.of(proposal.configuration)

    def _wanted(self, renewed: KnownCosts | None) -> tuple[Phase, Configuration | None] | None:
        """What the next trial is for, and its configuration where it is to be run again."""
        sent = self._knowledge.sent() + len(self._in_flight)
        phase = self._schedule.phase(sent, self._knowledge.budget_used(self._numbers()))
        if self._tuner.resumes:
            return phase, None
        flying = [training.proposal for training in self._in_flight]
        history = self._tuner.history()
        known = self._knowledge.told_before(math.inf, self._numbers())
        if defaults := defaults_again(self._study, sent, known, history, flying):
            return "validate", defaults
        if phase != "validate":
            return phase, None
        evaluated = self._knowledge.evaluated(math.inf, self._numbers())
        predicted = self._tuner.predict(evaluated, renewed, sampling=False)
        finalist = next_finalist(self._study, evaluated, history, flying, predicted)
        return None if finalist is None else (phase, finalist)

    def _judge(self, proposal: Proposal, compiled: Future[Artefact]) -> None:
        """Start training what the limits allow; tell at once what they rule out."""
        try:
            artefact = compiled.result()
        except CompileError as refused:
            if not self._compiled_any:
                raise
            self._tell(Failed(proposal, str(refused), sent=False))
            return
        self._compiled_any = True
        self._known.learn(proposal.configuration, artefact.manifest)
        calibration = self._knowledge.calibration(proposal.number, self._numbers())
        forecast = self._costs.forecast(proposal.configuration, calibration)
        if forecast.feasible:
            self._start(proposal, forecast, artefact)
            return
        found = None
        if self._knowledge.exhausts_patience(proposal.number):
            found = find_feasible(
                self._study, self._costs, self._artefacts,
                seed=proposal.number, calibration=calibration,
            )  # fmt: skip
        self._tell(Infeasible(proposal, forecast), then=found)

    def _start(self, proposal: Proposal, forecast: Forecast, artefact: Artefact) -> None:
        seed, manifest = trial_seed(self._study.study.seed, proposal.number), artefact.manifest
        candidates = self._candidates(proposal, forecast, seed)
        participants = tuple(who_may_train(candidates))

        def goes_on(rounds: int, measures: Mapping[str, float]) -> bool:
            others = self._knowledge.evaluated(proposal.number, self._numbers())
            return self._rungs.goes_on(rounds, forecast, measures, others)

        plan = Plan(
            trial=proposal.number,
            configuration=proposal.configuration,
            artefact=manifest.artefact_sha256,
            hyperparameters=manifest.hyperparameters,
            initial_weights=artefact.initial_weights,
            participants=participants,
            classes=0 if self._study.task.reconstructs else manifest.classes,
            rounds=self._study.study.rounds,
            metric=self._study.task.metric,
            deadline_s={
                client: cap
                for client in participants
                if (cap := self._costs.deadline_s(self._profile_of[client])) is not None
            },
            seed=seed,
            # Whoever asks for another run of a finalist wants to know how it ends.
            rungs=() if proposal.phase == "validate" else self._rungs.rounds,
            goes_on=goes_on,
        )
        expected = self._costs.expected(proposal.configuration)
        training = Training(
            self._study, proposal, plan, candidates, expected, artefact.model,
            self._bounds, self._spending,
        )  # fmt: skip
        self._in_flight.append(training)
        self._knowledge.changed()
        self._send(training, training.begin())

    def _candidates(self, proposal: Proposal, forecast: Forecast, seed: int) -> list[Candidate]:
        """The configurations that share a training: the one asked for and, in FedEx, others.

        The first trial is of the study's defaults, which are trained alone: what is recommended is
        compared with them.
        """
        asked = Candidate(proposal.configuration, forecast)
        options = self._study.tuner.exploration
        if options is None or proposal.number == 0:
            return [asked]
        calibration = self._knowledge.calibration(proposal.number, self._numbers())
        return candidates_around(
            asked,
            space=self._study.space,
            count=options.configurations,
            radius=options.radius,
            forecast=lambda other: self._costs.forecast(other, calibration),
            seed=seed,
        )

    def _receive(self) -> None:
        """Take what the clients have answered, or wait a moment for the compiler."""
        if any(training.waiting_for for training in self._in_flight):
            for reply in self._fleet.receive(_WAIT_S):
                self._accept(reply)
        elif self._asked is not None:
            wait_for([self._asked[1]], timeout=_WAIT_S)

    def _accept(self, reply: Reply) -> None:
        """Take one client's report; once the last is in, its training goes on."""
        self._bounds.hear(reply)
        report = reply.report
        training = next(each for each in self._in_flight if each.plan.trial == report.trial)
        self._send(training, training.accept(reply.client, report))

    def _send(self, training: Training, exchange: Exchange) -> None:
        if exchange:
            first = next(iter(exchange.values()))
            self._observer.round_started(training.plan.trial, first.round)
            with self._spending.on("messages"):
                self._fleet.send(
                    [Addressed(client, each, training.model) for client, each in exchange.items()]
                )

    def _finish(self, training: Training) -> None:
        assert training.outcome is not None
        if isinstance(training.outcome, Completed):
            assert training.weights is not None
            self._folder.save_weights(training.plan.trial, training.weights)
        self._tell(training.outcome)

    def _tell(self, outcome: Outcome, then: Configuration | None = None) -> None:
        with self._spending.on("optimizer"):
            self._tuner.tell(outcome, then)
        self._knowledge.changed()
        self._observer.told(outcome)

    def _numbers(self) -> list[int]:
        """Of the trials in flight."""
        return [training.plan.trial for training in self._in_flight]


def trial_seed(study_seed: int, trial: int) -> int:
    """The seed of everything random in one trial."""
    return int(np.random.SeedSequence([study_seed, trial]).generate_state(1)[0])
