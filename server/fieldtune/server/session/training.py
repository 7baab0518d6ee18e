"""The federated training of one trial, one exchange of messages with the clients at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fieldtune.client.contract.messages import TrainReport, Weights
from fieldtune.server.compiler.manifest import Artefact
from fieldtune.server.costs.calibration import Expected, ObservationCollector
from fieldtune.server.costs.usage import UsageMeter
from fieldtune.server.federation.fedavg import (
    Answers,
    Exchange,
    GoesOn,
    NothingLearnedError,
    Plan,
    Report,
    State,
    federated_averaging,
)
from fieldtune.server.federation.fedex import fedex
from fieldtune.server.federation.fedex_candidates import Candidate, candidates_around
from fieldtune.server.federation.plausible import Asked, Bounds
from fieldtune.server.outcomes.trial import (
    Completed,
    Failed,
    Forecast,
    Learned,
    Outcome,
    Proposal,
    Stopped,
    objective_values,
)
from fieldtune.server.results.checkpoints import Checkpoint
from fieldtune.server.session.cpu_time import CpuTime
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.space import Configuration


def trial_seed(study: StudyConfig, trial: int) -> int:
    """The seed of everything random in one trial."""
    return int(np.random.SeedSequence([study.study.seed, trial]).generate_state(1)[0])


def candidates_of(
    study: StudyConfig,
    proposal: Proposal,
    forecast: Forecast,
    forecast_other: Callable[[Configuration], Forecast],
) -> list[Candidate]:
    """The configurations that share one training: the proposed one and, with FedEx, others.

    The first trial trains the study's defaults alone: they are the baseline that the recommendation
    is compared with.
    """
    proposed = Candidate(proposal.configuration, forecast)
    options = study.tuner.exploration
    if options is None or proposal.number == 0:
        return [proposed]
    return candidates_around(
        proposed,
        space=study.space,
        count=options.configurations,
        radius=options.radius,
        forecast=forecast_other,
        seed=trial_seed(study, proposal.number),
    )


def plan_of(
    study: StudyConfig,
    proposal: Proposal,
    artefact: Artefact,
    participants: Sequence[int],
    deadline_s: Mapping[int, float | None],
    rungs: Sequence[int],
    goes_on: GoesOn,
    on_clipped: Callable[[int, int, float], None],
) -> Plan:
    """The training of a proposal on these clients."""
    manifest = artefact.manifest
    return Plan(
        trial=proposal.number,
        configuration=proposal.configuration,
        artefact=manifest.artefact_sha256,
        hyperparameters=manifest.hyperparameters,
        initial_weights=artefact.initial_weights,
        participants=participants,
        classes=0 if study.task.reconstructs else manifest.classes,
        rounds=study.study.rounds,
        metric=study.task.metric,
        deadline_s={client: cap for client, cap in deadline_s.items() if cap is not None},
        seed=trial_seed(study, proposal.number),
        # A repetition is to measure the end result, so it is not stopped early.
        rungs=() if proposal.phase == "validate" else rungs,
        goes_on=goes_on,
        server=study.server,
        on_clipped=on_clipped,
    )


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

    Attributes:
        waiting_for: clients that have not answered the current exchange.
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
    ) -> None:
        self.proposal, self.plan, self.model = proposal, plan, model
        self.waiting_for: set[int] = set()
        self.outcome: Outcome | None = None
        self.weights: Weights | None = None
        self._objectives = study.study.objectives
        self._candidates, self._expected = candidates, expected
        self._observations = ObservationCollector(expected)
        self._usage = UsageMeter(expected, candidates[0].forecast)
        self._bounds, self._cpu_time = bounds, cpu_time
        self._asked: Asked | None = None
        """The current exchange."""
        self._answers: dict[int, Report] = {}
        self._checkpoint = checkpoint
        options, resumed = study.tuner.exploration, self._resumed()
        self._steps: Generator[Exchange, Answers, tuple[Weights, Learned]] = (
            federated_averaging(plan, resumed, self._keep)
            if options is None or len(candidates) == 1
            else fedex(plan, candidates, options, resumed, self._keep)
        )

    def begin(self) -> Exchange:
        """Start; the first requests by client, none where the training ends at once."""
        return self._advance(None)

    def accept(self, client: int, report: Report) -> Exchange:
        """Add a client's report; the next requests once all clients have answered, else none."""
        self.waiting_for.discard(client)
        self._answers[client] = report
        return {} if self.waiting_for else self._go_on()

    def _go_on(self) -> Exchange:
        """Judge the answers to the current exchange; the next requests."""
        assert self._asked is not None
        answers, self._answers = self._bounds.judge(self._asked, self._answers), {}
        for each in answers.values():
            kind = "train" if isinstance(each, TrainReport) else "evaluate"
            self._cpu_time.add(kind, each.host_cpu_s or 0.0)
        self._observations.take(answers)
        self._usage.take(answers)
        return self._advance(answers)

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
        algorithm: State = stored["algorithm"]
        return algorithm

    def _keep(self, state: State) -> None:
        self._checkpoint.save(
            {
                "training": self._identity(),
                "observations": self._observations.state(),
                "usage": self._usage.state(),
                "refused": self._bounds.refusals.in_trial(self.plan.trial),
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

    def _advance(self, answers: Answers | None) -> Exchange:
        """Run the federated algorithm to its next exchange, or to its end."""
        try:
            with self._cpu_time.on("aggregate"):
                exchange = self._steps.send(answers)  # type: ignore[arg-type]
        except StopIteration as end:
            self.weights, learned = end.value
            self.outcome = self._outcome(learned)
            return {}
        except NothingLearnedError as nothing:
            self.outcome = Failed(
                self.proposal, str(nothing), dict(nothing.failures), expense=self._usage.total(),
                refused=self._bounds.refusals.in_trial(self.plan.trial),
            )  # fmt: skip
            return {}
        self._asked = self._bounds.ask(exchange, self.plan.classes)
        self._answers = self._bounds.sitting_out(exchange)
        asked = {client: each for client, each in exchange.items() if client not in self._answers}
        self.waiting_for = set(asked)
        return asked or self._go_on()

    def _outcome(self, learned: Learned) -> Outcome:
        chosen = self._candidates[learned.choice.mode if learned.choice else 0]
        proposal = replace(self.proposal, configuration=chosen.configuration)
        objectives = objective_values(self._objectives, learned.measures, chosen.forecast)
        common = proposal, chosen.forecast, learned, objectives, self.plan.seed
        observed, expense = self._observations.observed(), self._usage.total()
        refused = self._bounds.refusals.in_trial(self.plan.trial)
        if learned.stopped:
            return Stopped(*common, learned.rounds, observed, expense, refused)
        for name, value in objectives.items():
            if not math.isfinite(value):
                reason = f"{name} is {value}: not a finite number"
                return Failed(proposal, reason, expense=expense, refused=refused)
        return Completed(*common, observed, expense, refused)
