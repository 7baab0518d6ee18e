"""From a feasible proposal to its training: what is trained, on which clients, by which clock."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fieldtune.client.contract.messages import Description
from fieldtune.profiles.costmodel.transfer import Link
from fieldtune.server.compiler.manifest import Artefact
from fieldtune.server.costs.calibration import Expected
from fieldtune.server.costs.cost_model import CostModel
from fieldtune.server.federation.availability import Availability
from fieldtune.server.federation.exchange import GoesOn, Situation
from fieldtune.server.federation.fedex_candidates import Candidate, candidates_around, who_may_train
from fieldtune.server.federation.fleet import Fleet
from fieldtune.server.federation.plan import Plan, Target
from fieldtune.server.federation.plausible import Bounds
from fieldtune.server.federation.timeline import RealTimeline, Timeline
from fieldtune.server.federation.virtual_timeline import VirtualTimeline
from fieldtune.server.outcomes.trial import Forecast, Proposal
from fieldtune.server.results.run_folder import RunFolder
from fieldtune.server.session.cpu_time import CpuTime
from fieldtune.server.session.knowledge import Knowledge
from fieldtune.server.session.training import Training
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.space import Configuration
from fieldtune.server.tuner.early_stopping import Rungs

_UNREACHED = 2.0
"""A training that does not reach the target error counts with this multiple of ``limits.time_h``:
the penalised average runtime PAR2 of algorithm configuration (Hutter et al. 2009)."""


def trial_seed(study: StudyConfig, trial: int) -> int:
    """The seed of everything random in one trial."""
    return int(np.random.SeedSequence([study.study.seed, trial]).generate_state(1)[0])


def target_of(study: StudyConfig) -> Target | None:
    """The error, the time to which is measured, with the penalty for not reaching it."""
    error, limit_h = study.study.target_error, study.limits.time_h
    if error is None or limit_h is None:
        return None
    return Target(error, _UNREACHED * limit_h)


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
    bounds: Bounds,
    situation: Situation,
    expected: Mapping[int, Expected],
    *,
    secret: bool,
) -> Plan:
    """The training of a proposal on these clients; ``secret`` as in :class:`Plan`."""
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
        secret=secret,
        micro_batch=manifest.micro_batch,
        trainable=sum(each.size for each in manifest.weights if each.trainable),
        on_clipped=bounds.clipped(proposal.number),
        on_opposed=bounds.opposed(proposal.number),
        situation=situation,
        expected_s={client: expected[client].round_s for client in participants},
        target=target_of(study),
        study_seed=study.study.seed,
        looks=range(study.study.evaluate_every, study.study.rounds, study.study.evaluate_every)
        if study.study.evaluate_every
        else (),
        most_s=math.inf if study.limits.time_h is None else 3600 * study.limits.time_h,
    )


class Trainings:
    """Makes the trainings of one study.

    Args:
        folder: the run folder, with the study.
        members: the fleet's clients.
        fleet: is asked which clients are connected.
        costs: predicts costs and deadlines.
        knowledge: what is known to a trial.
        rungs: of early stopping.
        bounds: check the clients' reports for plausibility.
        cpu_time: adds up busy seconds by phase.
        in_flight: numbers of the trials that are being trained.
    """

    def __init__(
        self,
        folder: RunFolder,
        members: Sequence[Description],
        fleet: Fleet,
        costs: CostModel,
        knowledge: Knowledge,
        rungs: Rungs,
        bounds: Bounds,
        cpu_time: CpuTime,
        in_flight: Callable[[], Sequence[int]],
    ) -> None:
        self._folder, self._study, self._fleet = folder, folder.study, fleet
        self._profile_of = {member.client: member.profile for member in members}
        self._on_devices = any(member.name for member in members)
        self._costs, self._knowledge, self._rungs = costs, knowledge, rungs
        self._bounds, self._cpu_time, self._in_flight = bounds, cpu_time, in_flight

    def of(self, proposal: Proposal, forecast: Forecast, artefact: Artefact) -> Training:
        """The training of a proposal, which has not begun."""
        calibration = self._knowledge.calibration(proposal.number, self._in_flight())
        candidates = candidates_of(
            self._study, proposal, forecast, lambda other: self._costs.forecast(other, calibration)
        )
        participants = tuple(who_may_train(candidates))

        def goes_on(rounds: int, measures: Mapping[str, float]) -> bool:
            others = self._knowledge.rescored_before(proposal.number, self._in_flight())
            return self._rungs.goes_on(rounds, forecast, measures, others)

        expected = self._costs.expected(proposal.configuration)
        timeline = self._timeline(proposal, expected, artefact)
        plan = plan_of(
            self._study, proposal, artefact, participants,
            {client: self._costs.deadline_s(self._profile_of[client]) for client in participants},
            self._rungs.rounds, goes_on, self._bounds, timeline, expected, secret=self._on_devices,
        )  # fmt: skip
        return Training(
            self._study, proposal, plan, candidates, expected, artefact.model,
            self._bounds, self._cpu_time, self._folder.checkpoint(proposal.number), timeline,
        )  # fmt: skip

    def _timeline(
        self, proposal: Proposal, expected: Mapping[int, Expected], artefact: Artefact
    ) -> Timeline:
        """The clock of a training: that of this machine, or a virtual one where all is simulated.

        Only real devices have names.
        """
        if self._on_devices:
            return RealTimeline(self._fleet.connected)
        seed = trial_seed(self._study, proposal.number)
        return VirtualTimeline(
            self._study.fleet,
            seed=seed,
            availability=Availability(
                self._study.fleet.availability, seed, self._folder.study_folder
            ),
            links=lambda client: expected[client].link or Link(),
            artefact_bytes=len(artefact.model),
        )
