"""What the benchmark of the simulation engine trains: clients, samples and initial weights.

The data functions are imported by the workers of the simulator too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fieldtune.server.compiler.manifest import Artefact, ModelSpec, unflatten
from fieldtune.simulations.datasets import load_dataset
from fieldtune.simulations.fleet.clients import SimulatedClients
from fieldtune.simulations.fleet.plan import FleetPlan

CLIENTS, TRAINED, TESTED, BATCH = 18, 80, 10, 8
LEARNING_RATE, MOMENTUM = 0.1, 0.9
HERE = str(Path(__file__).parent)
Data = tuple[NDArray[Any], NDArray[np.int32], NDArray[np.int_] | None]
Layers = list[NDArray[np.float32]]


def digits() -> Data:
    """18 clients with 90 digits each, 80 of them to train on: ten batches of 8."""
    data, samples = load_dataset("digits"), CLIENTS * (TRAINED + TESTED)
    return data.x[:samples], data.y[:samples], np.arange(samples) % CLIENTS


def images() -> Data:
    """As many random images of Fashion-MNIST's shape: what they show does not change the time."""
    rng, samples = np.random.default_rng(0), CLIENTS * (TRAINED + TESTED)
    x = rng.random((samples, 28, 28, 1), np.float32)
    return x, rng.integers(0, 10, samples).astype(np.int32), np.arange(samples) % CLIENTS


def _many(clients: int) -> Data:
    data = load_dataset("digits")
    chosen = np.random.default_rng(0).integers(0, len(data.y), 4 * clients)
    return data.x[chosen], data.y[chosen], None


def many_1000() -> Data:
    """Four digits for each of 1,000 clients."""
    return _many(1000)


def many_10000() -> Data:
    """Likewise for 10,000."""
    return _many(10_000)


def many_100000() -> Data:
    """Likewise for 100,000."""
    return _many(100_000)


MODELS = {
    "mlp": ("engine_tasks:digits", ModelSpec("mlp", {"width": 32}, (8, 8, 1), 10)),
    "cnn": ("engine_tasks:images", ModelSpec("cnn", {}, (28, 28, 1), 10)),
}


@dataclass(frozen=True)
class Task:
    """Rounds in which all clients train for an epoch, and are averaged."""

    name: str
    plan: FleetPlan
    artefact: Artefact
    x: NDArray[np.float32]
    """``[clients, samples, ...]``."""
    y: NDArray[np.int32]

    @classmethod
    def of(cls, name: str, artefact: Artefact) -> Task:
        """The task of a model."""
        tested = TESTED / (TRAINED + TESTED)
        plan = FleetPlan(
            MODELS[name][0], "natural", 0.5, tested, CLIENTS, {"raspberry-pi-5": 1.0}, 0
        )
        data = [SimulatedClients(plan)[client].data() for client in range(CLIENTS)]
        x, y = np.stack([d.train_x for d in data]), np.stack([d.train_y for d in data])
        assert y.shape == (CLIENTS, TRAINED)
        return cls(name, plan, artefact, x, y)

    @property
    def layers(self) -> Layers:
        """The initial weights."""
        return list(unflatten(self.artefact.manifest.weights, self.artefact.initial_weights))

    def order(self, client: int, number: int) -> NDArray[np.int_]:
        """In which a client takes its samples in a round."""
        return np.random.default_rng(self.seed(client, number)).permutation(TRAINED)

    @staticmethod
    def seed(client: int, number: int) -> int:
        """Of a client's training in a round."""
        return 1000 * number + client


def mean(layers: Sequence[Layers]) -> Layers:
    """Federated averaging of clients with equally many samples."""
    return [np.mean(each, axis=0, dtype=np.float32) for each in zip(*layers, strict=True)]


class Peer(Protocol):
    """One way to train the rounds of a task."""

    name: str

    def round(self, layers: Any, number: int) -> Any:
        """The average of the clients' weights after a round; ours are one vector, not layers."""
