"""The tuning loop: where a study happens.

For each trial:

1. ask the tuner for a configuration, and compile its model;
2. predict what it costs on each device type; a configuration that the limits rule out ends here,
   as infeasible;
3. train it on the fleet, to its last round or until early stopping ends it;
4. tell the tuner the outcome.

Several trials train at the same time. Their outcomes are told in the order of the trials' numbers,
so the same seed gives the same study however fast the clients answer.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from dataclasses import replace

from fieldtune.client.contract.messages import Description
from fieldtune.profiles.common.errors import CompileError
from fieldtune.server.compiler.manifest import Artefact
from fieldtune.server.costs.cost_model import CostModel
from fieldtune.server.costs.feasible_space import find_feasible
from fieldtune.server.costs.known_costs import KnownCosts
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
from fieldtune.server.session.cpu_time import CpuTime
from fieldtune.server.session.knowledge import Knowledge
from fieldtune.server.session.progress import Observer
from fieldtune.server.session.training import Requests, Training
from fieldtune.server.session.trainings import Trainings
from fieldtune.server.session.untrainable import InVain
from fieldtune.server.study.artefacts import Artefacts
from fieldtune.server.study.space import Configuration
from fieldtune.server.study.tuner_options import Phase
from fieldtune.server.tuner import Tuner
from fieldtune.server.tuner.early_stopping import Rungs
from fieldtune.server.tuner.finalists import next_finalist
from fieldtune.server.tuner.schedule import Schedule, defaults_again, untried_model

_WAIT_S = 0.2
"""The longest wait for a reply or for the compiler before the loop looks again."""


class TuningLoop:
    """Runs one study on a fleet until its budget is used up.

    Args:
        folder: the run folder, with the study.
        tuner: proposes configurations and learns from outcomes.
        fleet: sends requests to the clients and receives their replies.
        members: the fleet's clients.
        costs: predicts costs and checks them against the limits.
        artefacts: compiles models.
        known_costs: the tuner's view of the cost model; updated with each compiled architecture.
        observer: is notified of rounds and outcomes.
        cpu_time: adds up busy seconds by phase.
        bounds: check the clients' reports for plausibility.
        in_flight: trials that are being trained, of an earlier loop of the same session.
    """

    def __init__(
        self,
        folder: RunFolder,
        tuner: Tuner,
        fleet: Fleet,
        members: Sequence[Description],
        costs: CostModel,
        artefacts: Artefacts,
        known_costs: KnownCosts,
        observer: Observer,
        cpu_time: CpuTime,
        bounds: Bounds,
        in_flight: deque[Training],
    ) -> None:
        self._folder, self._study, self._tuner, self._fleet = folder, folder.study, tuner, fleet
        self._costs, self._artefacts, self._known_costs = costs, artefacts, known_costs
        self._observer, self._cpu_time, self._bounds = observer, cpu_time, bounds
        self._knowledge = Knowledge(self._study, tuner, costs)
        self._schedule = Schedule(self._study)
        self._in_vain = InVain(self._study, members)
        self._trainings = Trainings(
            folder, members, fleet, costs, self._knowledge, Rungs(self._study), bounds, cpu_time,
            self._numbers,
        )  # fmt: skip
        self._in_flight = in_flight
        """Trials that are being trained, in the order of their numbers."""
        self._compiling: tuple[Proposal, Future[Artefact]] | None = None
        """The latest proposal, until its model is compiled."""
        self._compiled_any = bool(tuner.history() or in_flight)

    def run(self) -> Sequence[Description]:
        """Run the study, or resume it.

        Returns the clients that have joined the fleet; then another loop is to go on with it and
        the trials in flight. Empty where the study has ended.
        """
        while self.wants_more() or self._in_flight:
            if self.wants_more() and len(self._in_flight) < self._study.study.parallel:
                # Start the next trial before telling any outcome: what the tuner knows when it is
                # asked must not depend on which client was faster.
                if self._compiling is None:
                    if joined := self._fleet.joined():
                        return joined
                    self._compiling = self._ask()
                elif self._compiling[1].done():
                    proposal, compiled = self._compiling
                    self._compiling = None
                    self._train_if_feasible(proposal, compiled)
                else:
                    self._receive()
            elif self._in_flight[0].outcome:
                self._finish(self._in_flight.popleft())
            else:
                self._receive()
        return ()

    def wants_more(self) -> bool:
        """Whether another trial is to be asked for."""
        return self._knowledge.budget_used(self._numbers()) < 1

    # 1. Ask and compile

    def _ask(self) -> tuple[Proposal, Future[Artefact]]:
        """The tuner's next proposal, its model being compiled."""
        self._known_costs.calibrate(self._knowledge.calibration(math.inf, self._numbers()))
        with self._cpu_time.on("optimizer"):
            updated = self._known_costs if self._known_costs.renewed() else None
            proposal = self._tuner.ask(*self._next_purpose(updated), updated)
        return proposal, self._artefacts.of(proposal.configuration)

    def _next_purpose(self, updated: KnownCosts | None) -> tuple[Phase, Configuration | None]:
        """The next trial's phase and the configuration to try, None where the tuner proposes it."""
        sent = self._knowledge.sent() + len(self._in_flight)
        used = self._knowledge.budget_used(self._numbers())
        phase = self._schedule.phase(sent, used)
        if self._tuner.resumes:  # a repetition has its phase stored with it
            return self._schedule.phase(sent, used, settled=True), None
        in_flight = [training.proposal for training in self._in_flight]
        history = self._tuner.history()
        if (history or in_flight) and (new := untried_model(self._study, history, in_flight)):
            return "explore", new
        finished = self._knowledge.finished_before(math.inf, self._numbers())
        if defaults := defaults_again(self._study, sent, finished, history, in_flight):
            return "validate", defaults
        if phase != "validate":
            return phase, None
        otherwise = self._schedule.phase(sent, used, settled=True)
        proposals = [*in_flight, *(outcome.proposal for outcome in history[-1:])]
        latest = max(proposals, key=lambda proposal: proposal.number, default=None)
        if latest is None or not self._schedule.looks(sent, used, latest.phase):
            return otherwise, None
        rescored = self._knowledge.rescored_before(math.inf, self._numbers())
        predicted = self._tuner.predict(rescored, updated, sampling=False)
        finalist = next_finalist(
            self._study, rescored, history, in_flight, predicted,
            last=self._schedule.is_last(sent, used),
        )  # fmt: skip
        return (otherwise, None) if finalist is None else (phase, finalist)

    # 2. Predict costs and check the limits

    def _train_if_feasible(self, proposal: Proposal, compiled: Future[Artefact]) -> None:
        """Start training where the limits allow it; otherwise tell the tuner at once."""
        try:
            artefact = compiled.result()
        except CompileError as refused:
            if not self._compiled_any:
                raise
            self._known_costs.rule_out(proposal.configuration)
            self._tell(Failed(proposal, str(refused), sent=False))
            return
        self._compiled_any = True
        self._known_costs.learn(proposal.configuration, artefact.manifest)
        calibration = self._knowledge.calibration(proposal.number, self._numbers())
        forecast = self._costs.forecast(proposal.configuration, calibration)
        if forecast.feasible:
            self._start_training(proposal, forecast, artefact)
            return
        found = None
        if self._knowledge.many_infeasible(proposal.number):
            found = find_feasible(
                self._study, self._costs, self._artefacts,
                seed=proposal.number, calibration=calibration,
            )  # fmt: skip
        self._tell(Infeasible(proposal, forecast), then=found)

    # 3. Train

    def _start_training(self, proposal: Proposal, forecast: Forecast, artefact: Artefact) -> None:
        """Send the first round's requests to the clients."""
        training = self._trainings.of(proposal, forecast, artefact)
        self._in_flight.append(training)
        self._knowledge.trials_changed()
        self._send(training, training.begin())

    def _receive(self) -> None:
        """Process the replies that have come in; without open requests, wait for the compiler."""
        if any(training.waiting_for for training in self._in_flight):
            for reply in self._fleet.receive(_WAIT_S):
                self._accept(reply)
            for training in self._in_flight:
                self._send(training, training.look())
        elif self._compiling is not None:
            wait_for([self._compiling[1]], timeout=_WAIT_S)

    def _accept(self, reply: Reply) -> None:
        """Pass a report to its training; after the last one of a round, send the next round.

        A report on a training that has ended meanwhile came too late.
        """
        self._bounds.hear(reply)
        for training in self._in_flight:
            if training.plan.trial == reply.report.trial:
                self._send(training, training.accept(reply.client, reply.report))

    def _send(self, training: Training, requests: Requests) -> None:
        if requests:
            self._observer.round_started(training.plan.trial, requests[-1][1].round)
            with self._cpu_time.on("messages"):
                self._fleet.send(
                    [
                        Addressed(client, each, training.model, training.work_s(client))
                        for client, each in requests
                    ]
                )

    # 4. Tell

    def _finish(self, training: Training) -> None:
        """Keep the weights of a completed trial, and tell its outcome."""
        self._tell(self._kept(training))
        self._folder.checkpoint(training.plan.trial).remove()

    def _kept(self, training: Training) -> Outcome:
        """The outcome of a training, whose weights are on the disk."""
        outcome = training.outcome
        assert outcome is not None
        if isinstance(outcome, Completed):
            assert training.weights is not None
            sha256 = self._folder.save_weights(training.plan.trial, training.weights)
            outcome = replace(outcome, weights_sha256=sha256)
        return outcome

    def train_again(self, finished: Completed) -> Outcome:
        """Train a finished trial again, whose weights are lost, and keep its weights.

        It is trained as it was, from the same seed, with the calibration of that time; so on the
        same fleet its weights and outcome are the same.
        """
        proposal = finished.proposal
        if finished.learned.choice:
            client = finished.learned.choice.configurations[0]
            configuration = replace(proposal.configuration, client=client)
            proposal = replace(proposal, configuration=configuration)
        artefact = self._artefacts.of(proposal.configuration).result()
        calibration = self._knowledge.calibration(proposal.number, ())
        forecast = self._costs.forecast(proposal.configuration, calibration)
        self._start_training(proposal, forecast, artefact)
        while self._in_flight[0].outcome is None:
            self._receive()
        training = self._in_flight.popleft()
        outcome = self._kept(training)
        self._folder.checkpoint(proposal.number).remove()
        return outcome

    def _tell(self, outcome: Outcome, then: Configuration | None = None) -> None:
        """Tell the tuner and the observer; ``then`` is a configuration to try next."""
        with self._cpu_time.on("optimizer"):
            self._tuner.tell(outcome, then)
        self._knowledge.trials_changed()
        self._observer.trial_ended(outcome)
        self._in_vain.note(outcome)

    def _numbers(self) -> list[int]:
        """Numbers of the trials that are being trained."""
        return [training.plan.trial for training in self._in_flight]
