"""What malicious devices do to a training, by aggregation rule: ``python robustness.py``.

The digits on 100 clients with skewed labels (Dirichlet, alpha = 0.5), with the demo's defaults: 20
clients a round, 20 rounds. A fifth of the clients changes the updates that it trained. The table
has the test error over the honest clients in per cent, mean over the seeds, and the share of honest
updates that norm clipping scaled down.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

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
from fieldtune.server.federation.fedavg import (
    NothingLearnedError,
    Plan,
    Report,
    Request,
    federated_averaging,
)
from fieldtune.server.study.config import ServerSection
from fieldtune.server.study.space import Configuration
from fieldtune.simulations.datasets import load_dataset
from fieldtune.simulations.fleet.plan import FleetPlan
from fieldtune.simulations.partition.partition import partition

CLIENTS, PER_ROUND, ROUNDS, SEEDS = 100, 20, 20, 3
LEARNING_RATE, EPOCHS, BATCH = 0.1, 5, 8
SHARE = 0.2

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
    "plain averaging": ServerSection(clip=False),
    "mean, clipped": ServerSection(),
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

    def __post_init__(self) -> None:
        rng = np.random.default_rng([self.seed, 7, 7])
        self.session = Session(self.artefact.model)
        chosen = rng.choice(CLIENTS, int(SHARE * CLIENTS), replace=False)
        self.malicious = {int(client) for client in chosen}

    def error(self, rule: ServerSection, attack: Attack | None) -> tuple[float, int, int]:
        """Test error over the honest clients, their clipped updates, and all their updates."""
        rng, clipped, updates = np.random.default_rng(self.seed), Counter[bool](), 0
        malicious = self.malicious if attack else set[int]()

        def note(client: int, round: int, times: float) -> None:
            clipped[client in malicious] += 1

        steps = federated_averaging(self._plan(rule, note))
        answers: dict[int, Report] | None = None
        while True:
            try:
                exchange = steps.send(answers)  # type: ignore[arg-type]
            except NothingLearnedError:
                return 1.0, clipped[False], updates
            except StopIteration as end:
                weights, _ = end.value
                return self._tested(weights, malicious), clipped[False], updates
            answers = {client: self._answer(client, each) for client, each in exchange.items()}
            for client, report in list(answers.items()):
                if isinstance(report, TrainReport) and client not in malicious:
                    updates += 1
                elif isinstance(report, TrainReport) and attack and report.weights is not None:
                    start = exchange[client].weights  # type: ignore[union-attr]
                    forged = start + attack(report.weights.astype(np.float64) - start, rng)
                    report = report.model_copy(update={"weights": forged.astype(np.float32)})
                    answers[client] = report

    def _plan(self, rule: ServerSection, note: Callable[[int, int, float], None]) -> Plan:
        client = {"learning_rate": LEARNING_RATE, "local_epochs": EPOCHS, "batch_size": BATCH}
        manifest = self.artefact.manifest
        return Plan(
            trial=0,
            configuration=Configuration({}, client, {"clients_per_round": PER_ROUND}),
            artefact=manifest.artefact_sha256,
            hyperparameters=manifest.hyperparameters,
            initial_weights=self.artefact.initial_weights,
            participants=range(CLIENTS),
            classes=manifest.classes,
            rounds=ROUNDS,
            metric="accuracy",
            deadline_s={},
            seed=self.seed,
            server=rule,
            on_clipped=note,
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
            self._evaluated(client, request) for client in range(CLIENTS) if client not in malicious
        ]
        return 1 - sum(sum(each.hits) for each in found) / sum(each.samples for each in found)


def main() -> None:
    """Print the table."""
    spec = ModelSpec("mlp", {"width": 32, "depth": 2}, (8, 8, 1), 10)
    with CompileService(ArtefactCache()) as service:
        artefact = service.submit(spec).result()
    trainings = []
    for seed in range(SEEDS):
        plan = FleetPlan("digits", "dirichlet", 0.5, 0.2, CLIENTS, {"raspberry-pi-5": 1.0}, seed)
        trainings.append(Trainings(artefact, list(partition(load_dataset("digits"), plan)), seed))
    print(f"{'attack by 20 %':<14}" + "".join(f"{rule:>17}" for rule in RULES))
    clipped = updates = 0
    for name, attack in ATTACKS.items():
        cells = []
        for rule in RULES.values():
            found = [each.error(rule, attack) for each in trainings]
            cells.append(100 * float(np.mean([error for error, _, _ in found])))
            if rule.clip and attack is None:
                clipped += sum(count for _, count, _ in found)
                updates += sum(count for _, _, count in found)
        print(f"{name:<14}" + "".join(f"{cell:>15.1f} %" for cell in cells), flush=True)
    print(f"honest updates scaled down where nobody attacks: {clipped} of {updates}")


if __name__ == "__main__":
    main()
