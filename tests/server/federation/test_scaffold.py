"""SCAFFOLD's control variates follow the paper, and remove the drift between clients."""

from __future__ import annotations

import numpy as np
import pytest

from fieldtune.client.contract.messages import TrainReport
from fieldtune.server.federation.client_memory import ClientMemory
from fieldtune.server.federation.plan import Plan
from fieldtune.server.federation.scaffold import ControlVariates, LocalSteps
from fieldtune.server.results.checkpoints import pack, unpack
from fieldtune.server.study.space import Configuration

RATE, STEPS, SIZE = 0.05, 10, 4


class Quadratic:
    """Clients with the losses ``(w - centre) curvature (w - centre) / 2``."""

    def __init__(self, clients: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.curvature = rng.uniform(0.2, 3, (clients, SIZE))
        self.centre = rng.normal(size=(clients, SIZE))

    @property
    def optimum(self) -> np.ndarray:
        return (self.curvature * self.centre).sum(axis=0) / self.curvature.sum(axis=0)

    def train(self, client: int, weights: np.ndarray, correction: np.ndarray) -> np.ndarray:
        w = weights.astype(np.float64)
        for _ in range(STEPS):
            gradient = self.curvature[client] * (w - self.centre[client])
            w = w - RATE * gradient - RATE * correction  # as the client's trainer does
        return w.astype(np.float32)


def trained(problem: Quadratic, rounds: int, *, scaffold: bool) -> np.ndarray:
    clients = range(len(problem.centre))
    controls, weights = ControlVariates(len(clients), SIZE), np.zeros(SIZE, np.float32)
    for _ in range(rounds):
        given = {k: controls.correction(k, SIZE) if scaffold else np.zeros(SIZE) for k in clients}
        results = {k: problem.train(k, weights, given[k]) for k in clients}
        controls.learn(weights, {k: LocalSteps(w, STEPS, RATE) for k, w in results.items()})
        weights = np.mean(list(results.values()), axis=0).astype(np.float32)
    return weights


@pytest.mark.parametrize("seed", range(3))
def test_clients_that_differ_reach_the_common_optimum_that_averaging_misses(seed: int) -> None:
    problem = Quadratic(5, seed)
    drifted = np.abs(trained(problem, 150, scaffold=False) - problem.optimum).max()
    corrected = np.abs(trained(problem, 150, scaffold=True) - problem.optimum).max()
    assert corrected < 1e-4
    assert drifted > 0.01


def test_the_server_holds_the_mean_of_the_clients_when_all_take_part() -> None:
    problem, controls = Quadratic(3, 0), ControlVariates(3, SIZE)
    start, zeros = np.zeros(SIZE, np.float32), np.zeros(SIZE, np.float32)
    results = {k: LocalSteps(problem.train(k, start, zeros), STEPS, RATE) for k in range(3)}
    controls.learn(start, results)
    own = [(start - each.weights) / (STEPS * RATE) for each in results.values()]
    state = controls.state()
    np.testing.assert_allclose(state["server"], np.mean(own, axis=0), rtol=1e-5)
    for client in range(3):
        np.testing.assert_allclose(
            controls.correction(client, SIZE), state["server"] - own[client], rtol=1e-4, atol=1e-6
        )


def test_a_client_that_sits_out_keeps_its_control_variate() -> None:
    """Equation (5): with part of the clients, ``c`` moves by their share."""
    controls, start = ControlVariates(4, 1), np.zeros(1, np.float32)
    controls.learn(start, {0: LocalSteps(np.array([-1], np.float32), 1, 1.0)})
    assert controls.state()["server"] == pytest.approx([0.25])
    assert controls.correction(0, 1) == pytest.approx([0.25 - 1.0])
    assert controls.correction(3, 1) == pytest.approx([0.25])


def test_weights_that_are_not_trained_are_not_corrected() -> None:
    controls, start = ControlVariates(1, 2), np.zeros(4, np.float32)
    controls.learn(start, {0: LocalSteps(np.ones(4, np.float32), 2, 0.5)})
    assert controls.state()["server"].tolist() == [-1, -1, 0, 0]


@pytest.mark.parametrize(
    ("samples", "batch", "calls"),
    [(20, 8, 3 + 2), (20, 4, 5), (21, 4, 6), (16, 8, 4), (3, 8, 1)],
)
def test_the_steps_are_those_taken_however_many_samples_the_client_counts_as(
    samples: int, batch: int, calls: int
) -> None:
    """A device with far more samples than the others counts as fewer."""
    client = {"drift_correction": "scaffold", "batch_size": batch, "local_epochs": 2}
    configuration = Configuration({}, {**client, "learning_rate": 0.5}, {})
    plan = Plan(
        trial=0, configuration=configuration, artefact="a" * 64, hyperparameters=(),
        initial_weights=np.zeros(1, np.float32), participants=(0,), classes=2, rounds=1,
        metric="accuracy", deadline_s={}, seed=0, micro_batch=4,
    )  # fmt: skip
    memory = ClientMemory()
    report = TrainReport(
        trial=0, round=0, weights=-np.ones(1, np.float32), samples=1, steps=2 * calls
    )
    memory.learn(plan, plan.initial_weights, {0: report}, {0: configuration})
    steps = 2 * -(-samples // batch)
    assert memory.state()["controls"]["server"] == pytest.approx([1 / (steps * 0.5)])


def test_a_stored_state_continues_with_the_same_bits() -> None:
    problem, controls = Quadratic(3, 1), ControlVariates(3, SIZE)
    start, zeros = np.zeros(SIZE, np.float32), np.zeros(SIZE, np.float32)
    steps = {k: LocalSteps(problem.train(k, start, zeros), STEPS, RATE) for k in (0, 2)}
    controls.learn(start, steps)
    other = ControlVariates(3, SIZE)
    other.restore(unpack(pack(controls.state())))
    for each in (controls, other):
        each.learn(start, {1: LocalSteps(problem.train(1, start, zeros), STEPS, RATE)})
    for client in range(3):
        a, b = (each.correction(client, SIZE) for each in (controls, other))
        assert a.tobytes() == b.tobytes()
