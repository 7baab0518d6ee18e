"""What malicious devices do to a training, by aggregation rule: ``python robustness.py``.

The digits on 100 clients with skewed labels (Dirichlet, alpha = 0.5), with the demo's defaults: 20
clients a round, 20 rounds. A fifth of the clients changes the updates that it trained. The table
has the test error over the honest clients in per cent, mean over the seeds.

Then honest clients alone: configurations from anywhere in the spaces of the studies of
``simulations/studies``, and how many honest updates the default scales down or leaves out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fieldtune.client.contract.messages import (
    EvaluateReport,
    EvaluateRequest,
    TrainReport,
    TrainRequest,
    Weights,
)
from fieldtune.client.data.client_data import ClientData
from fieldtune.client.training.runtime import Session
from fieldtune.client.training.trainer import evaluate, train
from fieldtune.server.compiler.cache import ArtefactCache
from fieldtune.server.compiler.manifest import Artefact, ModelSpec
from fieldtune.server.compiler.service import CompileService
from fieldtune.server.federation.exchange import Report, Request
from fieldtune.server.federation.fedavg import federated_averaging
from fieldtune.server.federation.plan import Plan
from fieldtune.server.federation.tally import NothingLearnedError
from fieldtune.server.study.artefacts import Artefacts
from fieldtune.server.study.load import parse_study
from fieldtune.server.study.server_options import ServerSection
from fieldtune.server.study.space import Configuration
from fieldtune.simulations.datasets import load_dataset
from fieldtune.simulations.fleet.plan import FleetPlan
from fieldtune.simulations.partition.partition import partition

CLIENTS, ROUNDS, SEEDS = 100, 20, 3
DEMO = Configuration(
    {},
    {"learning_rate": 0.1, "local_epochs": 5, "batch_size": 8},
    {"clients_per_round": 20},
)
SHARE = 0.2
STUDIES = {"digits": 40, "spoken-digits": 30, "har": 30}
"""Studies of honest clients, and how many configurations of each are trained."""
ALPHAS = {"digits": (0.5, 0.1)}

Attack = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""Changes an update: the trained weights minus those sent out."""


def _noise(update: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    random = rng.normal(size=update.size)
    return np.asarray(random * np.linalg.norm(update) / np.linalg.norm(random))


ATTACKS: dict[str, Attack | None] = {
    "none": None,
    "x10": lambda update, _: 10 * update,
    "x100": lambda update, _: 100 * update,
    "sign flipped": lambda update, _: -update,
    "flipped x3": lambda update, _: -3 * update,
    "flipped x10": lambda update, _: -10 * update,
    "flipped x100": lambda update, _: -100 * update,
    "noise": _noise,
    "noise x10": lambda update, rng: 10 * _noise(update, rng),
}
RULES = {
    "plain averaging": ServerSection(clip=False, check_direction=False),
    "mean": ServerSection(),
    "trimmed_mean": ServerSection(aggregation="trimmed_mean"),
    "median": ServerSection(aggregation="median"),
    "krum": ServerSection(aggregation="krum"),
    "multi_krum": ServerSection(aggregation="multi_krum"),
}


@dataclass
class Trainings:
    """Trains on a fleet of which some clients attack."""

    artefact: Artefact
    data: list[ClientData]
    seed: int
    configuration: Configuration = DEMO

    def __post_init__(self) -> None:
        rng, clients = np.random.default_rng([self.seed, 7, 7]), len(self.data)
        self.session = Session(self.artefact.model)
        chosen = rng.choice(clients, int(SHARE * clients), replace=False)
        self.malicious = {int(client) for client in chosen}
        self.counts = Counter[str]()
        """Of honest clients: ``updates``, ``scaled down`` and ``left out``."""

    def error(self, rule: ServerSection, attack: Attack | None) -> float:
        """Test error over the honest clients."""
        rng = np.random.default_rng(self.seed)
        malicious = self.malicious if attack else set[int]()
        steps = federated_averaging(self._plan(rule, malicious))
        answers: dict[int, Report] | None = None
        while True:
            try:
                exchange = steps.send(answers)  # type: ignore[arg-type]
            except NothingLearnedError:
                return 1.0
            except StopIteration as end:
                weights, _ = end.value
                return self._tested(weights, malicious)
            answers = {client: self._answer(client, each) for client, each in exchange.items()}
            for client, report in list(answers.items()):
                if isinstance(report, TrainReport) and client not in malicious:
                    self.counts["updates"] += 1
                elif isinstance(report, TrainReport) and attack and report.weights is not None:
                    start = exchange[client].weights  # type: ignore[union-attr]
                    forged = start + attack(report.weights.astype(np.float64) - start, rng)
                    report = report.model_copy(update={"weights": forged.astype(np.float32)})
                    answers[client] = report

    def _plan(self, rule: ServerSection, malicious: set[int]) -> Plan:
        def counting(what: str) -> Callable[[int, int, float], None]:
            def note(client: int, round: int, figure: float) -> None:
                self.counts[what] += client not in malicious

            return note

        manifest = self.artefact.manifest
        return Plan(
            trial=0,
            configuration=self.configuration,
            artefact=manifest.artefact_sha256,
            hyperparameters=manifest.hyperparameters,
            initial_weights=self.artefact.initial_weights,
            participants=range(len(self.data)),
            classes=manifest.classes,
            rounds=ROUNDS,
            metric="accuracy",
            deadline_s={},
            seed=self.seed,
            server=rule,
            on_clipped=counting("scaled down"),
            on_opposed=counting("left out"),
        )

    def _answer(self, client: int, request: Request) -> Report:
        about = {"trial": request.trial, "round": request.round}
        if isinstance(request, TrainRequest):
            made = train(self.session, self.data[client], request)
            return TrainReport(**about, weights=made.weights, samples=made.samples)
        assert isinstance(request, EvaluateRequest)
        if client:  # one suffices to end the training: the error is counted in _tested
            return EvaluateReport(**about, failure="bad_data")
        return self._evaluated(client, request)

    def _evaluated(self, client: int, request: EvaluateRequest) -> EvaluateReport:
        found = evaluate(self.session, self.data[client], request)
        return EvaluateReport(
            trial=0, round=0, samples=found.samples, loss_sum=found.loss_sum,
            hits=tuple(found.hits.tolist()), predicted=tuple(found.predicted.tolist()),
            actual=tuple(found.actual.tolist()),
        )  # fmt: skip

    def _tested(self, weights: Weights, malicious: set[int]) -> float:
        request = EvaluateRequest(
            trial=0, round=0, artefact="0" * 64, weights=weights, metric="accuracy"
        )
        found = [
            self._evaluated(client, request)
            for client in range(len(self.data))
            if client not in malicious
        ]
        return 1 - sum(sum(each.hits) for each in found) / sum(each.samples for each in found)


def under_attack(service: CompileService) -> None:
    """Print the error under each attack, by aggregation rule."""
    spec = ModelSpec("mlp", {"width": 32, "depth": 2}, (8, 8, 1), 10)
    artefact = service.submit(spec).result()
    trainings = []
    for seed in range(SEEDS):
        plan = FleetPlan("digits", "dirichlet", 0.5, 0.2, CLIENTS, {"raspberry-pi-5": 1.0}, seed)
        trainings.append(Trainings(artefact, list(partition(load_dataset("digits"), plan)), seed))
    print(f"{'attack by 20 %':<14}" + "".join(f"{rule:>17}" for rule in RULES))
    for name, attack in ATTACKS.items():
        errors = [np.mean([each.error(rule, attack) for each in trainings])
                  for rule in RULES.values()]  # fmt: skip
        print(f"{name:<14}" + "".join(f"{100 * each:>15.1f} %" for each in errors), flush=True)


def honest_alone(service: CompileService) -> None:
    """Print how many honest updates the default scales down or leaves out, by study."""
    for name, count in STUDIES.items():
        text = (Path(__file__).parents[1] / "studies" / f"{name}.toml").read_text(encoding="utf-8")
        study = parse_study(text, name)
        for alpha in ALPHAS.get(name, (0.5,)):
            plan = replace(FleetPlan.of(study), alpha=alpha)
            data = list(partition(load_dataset(plan.data), plan))
            artefacts = Artefacts(study, data[0].input_shape, data[0].classes, service)
            counts = Counter[str]()
            for seed, configuration in enumerate(study.full_space.sample(count, 0)):
                artefact = artefacts.of(configuration).result()
                training = Trainings(artefact, data, seed, configuration)
                training.error(ServerSection(), None)
                counts += training.counts
            print(f"{name}, alpha {alpha}: {dict(counts)}", flush=True)


def main() -> None:
    """Print both."""
    with CompileService(ArtefactCache()) as service:
        under_attack(service)
        honest_alone(service)


if __name__ == "__main__":
    main()
