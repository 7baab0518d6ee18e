"""What smaller updates and personal steps gain and cost: ``python updates.py [SEEDS]``.

The digits on clients with skewed labels, 20 rounds, 5 local epochs; personal steps also on 30
people's phones (``hapt``). Differences are paired by seed
(data split, clients of each round, order of samples), with their 95 % interval (Student's t). Bytes
are those of the encodings that were sent, and with the protocol's share and the 4,000 bytes of a
message, as they are billed.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats

from fieldtune.client.contract.messages import TrainReport
from fieldtune.client.data.client_data import ClientData
from fieldtune.client.training.answer import Client, answer
from fieldtune.client.training.runtime import Sessions
from fieldtune.profiles.costmodel.cost import MESSAGE_BYTES, PROTOCOL_FACTOR
from fieldtune.profiles.device.load import load_profile
from fieldtune.server.compiler.cache import ArtefactCache
from fieldtune.server.compiler.manifest import Artefact, ModelSpec
from fieldtune.server.compiler.service import CompileService
from fieldtune.server.federation.exchange import Report
from fieldtune.server.federation.fedavg import federated_averaging
from fieldtune.server.federation.plan import Plan
from fieldtune.server.federation.report_checks import decoded
from fieldtune.server.study.space import Configuration
from fieldtune.simulations.datasets import load_dataset
from fieldtune.simulations.fleet.plan import FleetPlan
from fieldtune.simulations.fleet.profile_meter import DeviceCosts, ProfileMeter
from fieldtune.simulations.partition.partition import partition

ROUNDS = 20
CLIENT = {"learning_rate": 0.1, "local_epochs": 5, "batch_size": 8}
UPDATES: dict[str, dict[str, Any]] = {
    "float32": {},
    "float16": {"update": "float16"},
    "float16, and down": {"update": "float16", "download": "float16"},
    "int8": {"update": "int8"},
    "int8, float16 down": {"update": "int8", "download": "float16"},
    "topk 0.1": {"update": "topk", "topk_share": 0.1},
    "topk 0.02": {"update": "topk", "topk_share": 0.02},
}
PERSONAL = (0, 5, 20)


@dataclass(frozen=True)
class Setting:
    """Clients, how many of them train in a round, and the skew of their labels."""

    clients: int = 100
    per_round: int = 20
    alpha: float | None = 0.5
    """None: a client is a person."""
    data: str = "digits"
    client: Mapping[str, Any] = field(default_factory=dict)
    """In place of :data:`CLIENT`'s."""

    def deal(self, seed: int) -> list[ClientData]:
        """Each client's samples."""
        devices, kind = {"raspberry-pi-4b": 1.0}, "dirichlet" if self.alpha else "natural"
        plan = FleetPlan(self.data, kind, self.alpha or 0.5, 0.25, self.clients, devices, seed)
        return list(partition(load_dataset(self.data), plan))


HAPT = Setting(30, 10, None, "hapt", {"learning_rate": 0.05, "local_epochs": 1, "batch_size": 16})


@dataclass(frozen=True)
class Result:
    """Of one training."""

    error: float
    worst_error: float
    payload_bytes: float
    """Of a client's update."""
    joules: float
    """Of all clients, computing."""


def train(artefact: Artefact, setting: Setting, seed: int, client: Mapping[str, Any]) -> Result:
    """One federated training, with these settings of the client."""
    data = setting.deal(seed)
    manifest, sessions = artefact.manifest, Sessions()
    meter = ProfileMeter(DeviceCosts(load_profile("raspberry-pi-4b")), 1.0)
    clients = [Client(lambda own=own: own, lambda: meter) for own in data]  # type: ignore[misc]
    plan = Plan(
        trial=0,
        configuration=Configuration(
            {},
            {**CLIENT, **setting.client, **client},
            {"clients_per_round": setting.per_round},
        ),
        artefact=manifest.artefact_sha256,
        hyperparameters=manifest.hyperparameters,
        initial_weights=artefact.initial_weights,
        participants=range(setting.clients),
        classes=manifest.classes,
        rounds=ROUNDS,
        metric="accuracy",
        deadline_s={},
        seed=seed,
    )
    steps, answers = federated_averaging(plan), None
    payload, updates, joules = 0, 0, 0.0
    while True:
        try:
            exchange = steps.send(answers)  # type: ignore[arg-type]
        except StopIteration as end:
            measures = end.value[1].measures
            return Result(measures["error"], measures["worst_error"], payload / updates, joules)
        answers = dict[int, Report]()
        for number, request in exchange.items():
            sent = request.model_copy(update={"model": artefact.model})
            report, _ = decoded(answer(sent, clients[number], sessions), request)
            joules += report.energy_j or 0.0
            if isinstance(report, TrainReport) and report.weights is not None:
                encoded = report.encoded
                payload += report.weights.nbytes if encoded is None else len(encoded)
                updates += 1
            answers[number] = report


def compile_all(specs: Mapping[Any, ModelSpec]) -> dict[Any, Artefact]:
    """Each model's artefact."""
    with CompileService(ArtefactCache()) as service:
        waiting = {name: service.submit(spec) for name, spec in specs.items()}
        return {name: each.result() for name, each in waiting.items()}


def difference(rows: Sequence[float], base: Sequence[float]) -> str:
    """The mean paired difference in points, and its 95 % interval."""
    gaps = 100 * (np.array(rows) - base)
    half = stats.t.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / len(gaps) ** 0.5
    return f"{gaps.mean():+6.2f} ({gaps.mean() - half:+.2f} to {gaps.mean() + half:+.2f})"


def billed(payload_bytes: float) -> float:
    """Bytes of a message with this payload, as the cost model has them."""
    return payload_bytes * PROTOCOL_FACTOR.value + MESSAGE_BYTES.value


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("seeds", nargs="?", type=int, default=12, help="two at least")
    seeds = range(parser.parse_args().seeds)
    widths = (32, 128)
    artefacts = compile_all(
        {
            **{w: ModelSpec("mlp", {"width": w, "depth": 2}, (8, 8, 1), 10) for w in widths},
            "hapt": ModelSpec("cnn1d", {"width": 8, "depth": 2}, (128, 6), 6),
        }
    )

    def trained(model: int | str, setting: Setting, **client: Any) -> list[Result]:
        return [train(artefacts[model], setting, seed, client) for seed in seeds]

    for width in widths:
        count = artefacts[width].manifest.parameters
        print(f"\nSmaller updates: MLP of {count} weights, 100 clients, {len(seeds)} seeds")
        print(f"{'update':<20}{'payload':>9}{'billed':>8}{'error %':>9}   difference, points")
        base: list[Result] = []
        for name, client in UPDATES.items():
            found = trained(width, Setting(), **client)
            base = base or found
            full, own = base[0].payload_bytes, found[0].payload_bytes
            errors = [each.error for each in found]
            print(
                f"{name:<20}{own / full:>8.3f}x{billed(own) / billed(full):>7.3f}x"
                f"{100 * np.mean(errors):>9.2f}   "
                + difference(errors, [each.error for each in base]),
                flush=True,
            )

    for setting in (Setting(20, 10, 0.1), Setting(20, 10), Setting(100, 20, 0.1), Setting(), HAPT):
        print(f"\nPersonal steps: {setting.data}, {setting.clients} clients, alpha {setting.alpha}")
        print(f"{'steps':<7}{'error %':>9}{'worst tenth %':>15}{'energy':>9}   their differences")
        base = []
        for steps in PERSONAL:
            found = trained("hapt" if setting is HAPT else 32, setting, personal_steps=steps)
            base = base or found
            energy = np.mean([each.joules for each in found]) / np.mean([e.joules for e in base])
            columns = [
                ([getattr(each, name) for each in found], [getattr(each, name) for each in base])
                for name in ("error", "worst_error")
            ]
            error, worst = (100 * np.mean(own) for own, _ in columns)
            print(
                f"{steps:<7}{error:>9.2f}{worst:>15.2f}{energy:>8.3f}x   "
                + "   ".join(difference(*each) for each in columns),
                flush=True,
            )


if __name__ == "__main__":
    main()
