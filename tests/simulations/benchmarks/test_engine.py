"""The engine's benchmark compares the same training: its peers end at the client's weights."""

from __future__ import annotations

import numpy as np
from engine_frameworks import FlowerInProcess
from engine_peers import NumpyBatched, NumpyLoop
from engine_tasks import BATCH, CLIENTS, LEARNING_RATE, MOMENTUM, TRAINED, Task, mean

from fieldtune.client.contract.messages import TrainRequest
from fieldtune.client.data.client_data import ClientData
from fieldtune.client.training.runtime import Session
from fieldtune.client.training.trainer import train
from fieldtune.server.compiler.manifest import unflatten
from fieldtune.simulations.fleet.plan import FleetPlan
from support.artefacts import MLP, read


def test_peers_train_to_the_weights_that_the_client_trains_to() -> None:
    rng = np.random.default_rng(0)
    plan = FleetPlan("none", "natural", 0.5, 0.1, CLIENTS, {"raspberry-pi-5": 1.0}, 0)
    x = rng.random((CLIENTS, TRAINED, 8, 8, 1), np.float32)
    y = rng.integers(0, 10, (CLIENTS, TRAINED)).astype(np.int32)
    task = Task("mlp", plan, read(MLP), x, y)
    artefact, session = task.artefact, Session(task.artefact.model)
    trained = []
    for client in range(CLIENTS):
        request = TrainRequest(
            trial=0, round=4, artefact=artefact.manifest.artefact_sha256,
            weights=artefact.initial_weights, seed=task.seed(client, 4), batch_size=BATCH,
            local_epochs=1, hyperparameter_names=("learning_rate", "momentum"),
            hyperparameter_values=(LEARNING_RATE, MOMENTUM),
        )  # fmt: skip
        data = ClientData(x[client], y[client], x[client, :1], y[client, :1], classes=10)
        weights = train(session, data, request).weights
        trained.append(list(unflatten(artefact.manifest.weights, weights)))
    expected = mean(trained)
    for peer in (NumpyLoop(task), NumpyBatched(task), FlowerInProcess(task, NumpyLoop, "NumPy")):
        for ours, theirs in zip(expected, peer.round(task.layers, 4), strict=True):
            np.testing.assert_allclose(theirs, ours, atol=1e-5, err_msg=peer.name)
