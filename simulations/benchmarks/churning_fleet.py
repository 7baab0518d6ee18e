"""The problems of ``churn.py``: data sets on a fleet whose clients come and go, on its clock."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from fieldtune.client.contract.messages import (
    EvaluateReport,
    EvaluateRequest,
    TrainReport,
    TrainRequest,
)
from fieldtune.client.data.client_data import ClientData
from fieldtune.client.training.runtime import Session
from fieldtune.client.training.trainer import evaluate, train
from fieldtune.profiles.costmodel.transfer import Link
from fieldtune.profiles.device.load import load_profile
from fieldtune.server.compiler.manifest import Artefact, ModelSpec
from fieldtune.server.compiler.service import CompileService
from fieldtune.server.federation.availability import Availability
from fieldtune.server.federation.exchange import Collect, Report
from fieldtune.server.federation.fedavg import federated_averaging
from fieldtune.server.federation.plan import Plan
from fieldtune.server.federation.tally import NothingLearnedError
from fieldtune.server.federation.virtual_timeline import VirtualTimeline
from fieldtune.server.study.fleet_options import AvailabilitySection, FaultsSection, FleetSection
from fieldtune.server.study.server_options import Mode, ServerSection
from fieldtune.server.study.space import Configuration, Value
from fieldtune.simulations.datasets import load_dataset
from fieldtune.simulations.fleet.plan import FleetPlan
from fieldtune.simulations.fleet.profile_meter import DeviceCosts
from fieldtune.simulations.partition.partition import partition

CLIENTS, UPDATES = 100, 1500
PROFILE, SLOWEST, TYPICAL_S = "raspberry-pi-4b", 10.0, 60.0
FLEET = FleetSection(
    clients=CLIENTS,
    devices={PROFILE: 1.0},
    availability=AvailabilitySection(kind="probability", available=0.7),
    faults=FaultsSection(lost_upload=0.05),
)
MLP = {"width": 32, "depth": 1}
PROBLEMS: dict[str, tuple[str, str, Mapping[str, Value]]] = {
    "digits": ("digits", "mlp", MLP),
    "spoken": ("fsdd", "mlp", MLP),
    "har": ("hapt", "cnn1d", {"width": 8, "depth": 1}),
    "fashion": ("fashion-mnist", "mlp", MLP),
}
FEWER = {"fashion": 3000}
"""Samples of a problem that has many more than the others: as many as ``spoken`` has."""
_TESTED = 1000
"""Test samples, of all clients together."""


@dataclass
class Problem:
    """A data set on the churning fleet."""

    artefact: Artefact
    data: list[ClientData]
    tested: ClientData

    def __post_init__(self) -> None:
        self.session, profile = Session(self.artefact.model), load_profile(PROFILE)
        self.step_s = DeviceCosts(profile).call_ms(self.artefact.model, train=True) / 1e3
        speeds = np.random.default_rng(1).uniform(0, 1, len(self.data))
        self.slower = [float(SLOWEST**each) for each in speeds]
        scale = TYPICAL_S / self._typical_s(Link.of(profile))
        self.slower = [scale * each for each in self.slower]
        self.links = [_slower(Link.of(profile), each) for each in self.slower]

    def _typical_s(self, link: Link) -> float:
        """Seconds of the median client's training of one epoch, transfers included."""
        size = self.artefact.initial_weights.nbytes
        transfer_s = link.download_s(size) + link.upload_s(size)
        return median(
            slower * (self.step_s * len(data.train_y) / 8 + transfer_s)
            for slower, data in zip(self.slower, self.data, strict=True)
        )

    @classmethod
    def of(
        cls, name: str, service: CompileService, clients: int = CLIENTS, samples: int | None = None
    ) -> Problem:
        """A problem of the table, of all its samples or of so many, drawn with seed 0."""
        source, model, knobs = PROBLEMS[name]
        dataset = load_dataset(source)
        if samples:
            some = np.random.default_rng(0).permutation(len(dataset.y))[:samples]
            dataset = replace(dataset, x=dataset.x[some], y=dataset.y[some])
        plan = FleetPlan(source, "dirichlet", 0.5, 0.2, clients, {PROFILE: 1.0}, 0)
        data = list(partition(dataset, plan))
        x = np.concatenate([each.test_x for each in data])
        y = np.concatenate([each.test_y for each in data])
        some = np.random.default_rng(0).permutation(len(y))[:_TESTED]
        classes = int(max(each.classes for each in data))
        tested = ClientData(data[0].train_x, data[0].train_y, x[some], y[some], classes)
        spec = ModelSpec(model, dict(knobs), data[0].input_shape, classes)
        return cls(service.submit(spec).result(), data, tested)

    def curve(
        self,
        mode: Mode,
        knobs: Mapping[str, Value],
        seed: int,
        target: float = 0.0,
        rounds: int | None = None,
        most_s: float = math.inf,
    ) -> list[tuple[float, float]]:
        """Seconds and error after each round, until the error is at the target or time is up."""
        found: list[tuple[float, float]] = []
        client = {n: knobs[n] for n in ("learning_rate", "local_epochs")}
        server = {n: value for n, value in knobs.items() if n not in client}

        def goes_on(rounds: int, measures: Mapping[str, float]) -> bool:
            found.append((3600 * measures["time_h"], measures["error"]))
            return measures["error"] > target

        rounds = rounds or UPDATES // int(server["clients_per_round"])
        plan = replace(self.plan(mode, client, server, seed, rounds, goes_on), most_s=most_s)
        try:
            measures = self.converse(plan)
            found.append((3600 * measures["time_h"], measures["error"]))
        except NothingLearnedError:
            return found
        return found

    def plan(
        self, mode: Mode, client: Mapping[str, Value], server: Mapping[str, Value], seed: int,
        rounds: int, goes_on: Callable[[int, Mapping[str, float]], bool],
    ) -> Plan:  # fmt: skip
        """A training on its virtual clock."""
        manifest = self.artefact.manifest
        timeline = VirtualTimeline(
            FLEET, seed=seed, availability=Availability(FLEET.availability, seed),
            links=lambda c: self.links[c], artefact_bytes=manifest.artefact_bytes,
        )  # fmt: skip
        return Plan(
            trial=0, configuration=Configuration({}, {**client, "batch_size": 8}, dict(server)),
            artefact=manifest.artefact_sha256, hyperparameters=manifest.hyperparameters,
            initial_weights=self.artefact.initial_weights, participants=range(len(self.data)),
            classes=manifest.classes, rounds=rounds, metric="accuracy", deadline_s={}, seed=seed,
            rungs=range(1, rounds), goes_on=goes_on,
            server=ServerSection(mode=mode, selection="available"), situation=timeline,
        )  # fmt: skip

    def converse(self, plan: Plan) -> Mapping[str, float]:
        """Answer for the clients; the measures at the end."""
        timeline = plan.situation
        assert isinstance(timeline, VirtualTimeline)
        steps = federated_averaging(plan)
        answers: dict[int, Report] | None = None
        while True:
            try:
                exchange = steps.send(answers)  # type: ignore[arg-type]
            except StopIteration as end:
                measures: Mapping[str, float] = end.value[1].measures
                return measures
            if not isinstance(exchange, Collect):
                request = next(iter(exchange.values()))
                assert isinstance(request, EvaluateRequest)
                answers = {0: self.evaluated(request)}
                continue
            for client, asked in timeline.begin(exchange).items():
                timeline.put(client, self.trained(client, asked))
            arrivals = timeline.arrived()
            assert arrivals is not None
            answers = {}
            for each in arrivals:
                assert each.report is not None
                late = TrainReport(trial=0, round=each.request.round, failure="late")
                if each.in_time or each.given_up:
                    report = each.fate.received(each.fate.worked(each.report))
                    answers[each.client] = late if each.given_up else report

    def trained(self, client: int, request: TrainRequest) -> TrainReport:
        """A client's training, as long as its device would take."""
        made = train(self.session, self.data[client], request)
        return TrainReport(
            trial=0, round=request.round, weights=made.weights, samples=made.samples,
            steps=made.steps, loss=made.loss, simulated=True,
            wall_s=self.slower[client] * self.step_s * made.steps,
        )  # fmt: skip

    def evaluated(self, request: EvaluateRequest) -> EvaluateReport:
        """The weights on the test samples of all clients."""
        found = evaluate(self.session, self.tested, request)
        return EvaluateReport(
            trial=0, round=request.round, samples=found.samples, loss_sum=found.loss_sum,
            hits=tuple(found.hits.tolist()), predicted=tuple(found.predicted.tolist()),
            actual=tuple(found.actual.tolist()),
        )  # fmt: skip


def _slower(link: Link, times: float) -> Link:
    """A link over which everything takes so many times as long."""
    return Link(
        *(times * each for each in (
            link.download_s_per_byte, link.upload_s_per_byte, link.latency_s))
    )  # fmt: skip
