"""One training: on pretended clients, each of its own speed, without a model; or on a fleet."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from fieldtune.client.contract.messages import (
    Description,
    EvaluateReport,
    TrainReport,
    TrainRequest,
)
from fieldtune.profiles.common.estimate import Estimate
from fieldtune.profiles.costmodel.cost import Cost
from fieldtune.profiles.costmodel.transfer import Link
from fieldtune.server.compiler.manifest import Artefact
from fieldtune.server.costs.calibration import Expected
from fieldtune.server.federation.availability import Availability
from fieldtune.server.federation.exchange import Report, Request
from fieldtune.server.federation.fedex_candidates import Candidate
from fieldtune.server.federation.fleet import Addressed, Fleet
from fieldtune.server.federation.plan import Plan, Target
from fieldtune.server.federation.plausible import Bounds
from fieldtune.server.federation.timeline import Timeline
from fieldtune.server.federation.virtual_timeline import VirtualTimeline
from fieldtune.server.outcomes.trial import Completed, DeviceForecast, Forecast, Outcome, Proposal
from fieldtune.server.results.checkpoints import Checkpoint, DiskTime, pack
from fieldtune.server.session.cpu_time import CpuTime
from fieldtune.server.session.training import Training
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.load import parse_study
from fieldtune.server.study.space import Configuration

WEIGHTS = np.zeros(4, np.float32)
LINK, PREDICTED_S = Link(1e-6, 2e-6, 0.01), 7.0
Client = Callable[[int, TrainRequest], TrainReport]

STUDY = """
[study]
name = "timed"
trials = 1
rounds = {rounds}
objectives = ["error"]
[task]
data = "digits"
model = "mlp"
[fleet]
clients = {clients}
devices = {{ "raspberry-pi-5" = 1.0 }}
{tables}
[space.client]
learning_rate = 0.1
"""


def moving(client: int, request: TrainRequest) -> TrainReport:
    """Moves the weights in a direction that depends on client, round and weights."""
    rng = np.random.default_rng([client, request.round])
    moved = rng.normal(size=request.weights.size) - 0.1 * request.weights
    return TrainReport(
        trial=request.trial, round=request.round, samples=client + 1, loss=1.0 + client,
        weights=(request.weights + moved).astype(np.float32), simulated=True,
    )  # fmt: skip


def conducted(training: Training, fleet: Fleet) -> list[tuple[int, Request]]:
    """Have a fleet do a training, to its end; what was asked of whom."""
    asked: list[tuple[int, Request]] = []
    requests = [*training.begin()]
    while training.outcome is None:
        asked += requests
        fleet.send([Addressed(client, each, training.model) for client, each in requests])
        requests = []
        for reply in fleet.receive(1.0):
            requests += training.accept(reply.client, reply.report)
        requests += training.look()
    return asked


class NotStored(Checkpoint):
    """Keeps nothing."""

    def __init__(self) -> None:
        super().__init__(Path("nowhere"), DiskTime())

    def load(self) -> None:
        return None

    def save(self, state: Mapping[str, Any]) -> None:
        pack(state)  # which it must be possible to do


@dataclass
class Scene:
    """A training; its fields may be changed before :meth:`run`.

    Attributes:
        tables: further tables of the study file.
        server: values of ``[space.server]``.
        seconds: client -> of one training on its device.
        order: seed of the order in which requests are answered; None: as they were sent.
        timeline: in place of a virtual one.
        artefact: that a real fleet trains; its clients are ``members``.
    """

    tables: str = ""
    server: Mapping[str, Any] = field(default_factory=lambda: {"clients_per_round": 3})
    clients: int = 10
    rounds: int = 4
    seed: int = 5
    seconds: Callable[[int], float] = lambda client: 1.0 + client / 8
    client: Client = moving
    order: int | None = None
    timeline: Timeline | None = None
    rungs: tuple[int, ...] = ()
    looks: tuple[int, ...] = ()
    target: Target | None = None
    most_s: float = float("inf")
    artefact_bytes: int = 1000
    folder: Path | None = None
    clock: Callable[[], float] | None = None
    artefact: Artefact | None = None
    members: Sequence[Description] = ()
    asked: list[tuple[int, Request]] = field(default_factory=list)

    def run(self, *, answers: float = float("inf")) -> Outcome | None:
        """Train; None where the plug is pulled after so many answers."""
        self.training = training = self.training_of()
        chooser = random.Random(self.order)
        waiting = [*training.begin()]
        self.asked += waiting
        while training.outcome is None:
            assert waiting, "it waits for nothing"
            if answers <= 0:
                return None
            answers -= 1
            place = 0 if self.order is None else chooser.randrange(len(waiting))
            client, request = waiting.pop(place)
            more = training.accept(client, self.answer(client, request))
            self.asked += more
            waiting += more
        return training.outcome

    def completed(self) -> Completed:
        outcome = self.run()
        assert isinstance(outcome, Completed), outcome
        return outcome

    @property
    def weights(self) -> list[float]:
        assert self.training.weights is not None
        return [float(each) for each in self.training.weights]

    def answer(self, client: int, request: Request) -> Report:
        if isinstance(request, TrainRequest):
            report = self.client(client, request)
            return report.model_copy(update={"wall_s": self.seconds(client)})
        return EvaluateReport(
            trial=request.trial, round=request.round, samples=4, loss_sum=2.0, simulated=True,
            hits=(2, 1), predicted=(3, 1), actual=(2, 2), wall_s=0.1,
        )  # fmt: skip

    def study(self) -> StudyConfig:
        text = STUDY.format(rounds=self.rounds, clients=self.clients, tables=self.tables)
        return parse_study(text, "x")

    def training_of(self) -> Training:
        study, clients = self.study(), tuple(range(self.clients))
        figure = Estimate(1.0, 1.0, 1.0)
        expected = {
            client: Expected("raspberry-pi-5", 1, figure, figure, figure, link=LINK,
                             round_s=self.seconds(client))
            for client in clients
        }  # fmt: skip
        configuration = Configuration({}, {"learning_rate": 0.1}, dict(self.server))
        timeline = self.timeline or VirtualTimeline(
            study.fleet,
            seed=self.seed,
            links=lambda client: LINK,
            artefact_bytes=self.artefact_bytes,
            availability=Availability(study.fleet.availability, self.seed, self.folder or Path()),
        )
        of = self.artefact
        plan = Plan(
            trial=1, configuration=configuration,
            artefact=of.manifest.artefact_sha256 if of else "a" * 64,
            hyperparameters=of.manifest.hyperparameters if of else ("learning_rate",),
            initial_weights=of.initial_weights if of else WEIGHTS, participants=clients,
            classes=of.manifest.classes if of else 2, rounds=self.rounds, metric="accuracy",
            deadline_s={}, seed=self.seed,
            rungs=self.rungs, looks=self.looks, target=self.target, server=study.server,
            situation=timeline, most_s=self.most_s,
            expected_s={client: self.seconds(client) for client in clients},
        )  # fmt: skip
        members = self.members or [
            Description(client=client, profile="raspberry-pi-5", train_samples=client + 1,
                        test_samples=4, input_shape=(8, 8, 1), classes=2, runtime="x")
            for client in clients
        ]  # fmt: skip
        predicted = SimpleNamespace(training_s=Estimate(PREDICTED_S, PREDICTED_S, PREDICTED_S))
        device = DeviceForecast(self.clients, self.clients, cast(Cost, predicted), {})
        forecast = Forecast({"raspberry-pi-5": device}, clients, {})
        return Training(
            study, Proposal(1, configuration), plan, [Candidate(configuration, forecast)],
            expected, of.model if of else b"model", self._bounds(members), CpuTime(),
            Checkpoint(self.folder / "checkpoint", DiskTime()) if self.folder else NotStored(),
            timeline,
        )  # fmt: skip

    def _bounds(self, members: Sequence[Description]) -> Bounds:
        if self.clock is None:
            return Bounds(members, lambda sentence: None)
        return Bounds(members, lambda sentence: None, self.clock)
