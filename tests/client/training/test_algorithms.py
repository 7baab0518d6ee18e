"""What the federated algorithm asks of a client, on a real artefact in the real runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fieldtune.client.contract.encoding import decode, encoded_bytes
from fieldtune.client.contract.messages import (
    EvaluateReport,
    EvaluateRequest,
    PersonalSteps,
    TrainReport,
    TrainRequest,
)
from fieldtune.client.data.client_data import ClientData
from fieldtune.client.data.privacy import Privacy
from fieldtune.client.training.answer import Client, answer
from fieldtune.client.training.residuals import Residuals
from fieldtune.client.training.runtime import Session, Sessions
from fieldtune.client.training.trainer import evaluate, fine_tune, mean_loss, train
from fieldtune.profiles.device.load import load_profile
from fieldtune.server.compiler.manifest import Artefact
from fieldtune.simulations.datasets import load_dataset
from fieldtune.simulations.fleet.profile_meter import DeviceCosts, ProfileMeter

RATE = 0.5


@pytest.fixture(scope="module")
def data() -> ClientData:
    digits = load_dataset("digits")
    return ClientData(digits.x[:13], digits.y[:13], digits.x[13:18], digits.y[13:18], classes=10)


@pytest.fixture(scope="module")
def session(mlp_artefact: Artefact) -> Session:
    return Session(mlp_artefact.model)


def train_request(of: Artefact, **changes: Any) -> TrainRequest:
    values: dict[str, Any] = {
        "trial": 3, "round": 2, "artefact": of.manifest.artefact_sha256, "model": of.model,
        "weights": of.initial_weights, "seed": 7, "batch_size": 16, "local_epochs": 1,
        "hyperparameter_names": ("learning_rate", "momentum"),
        "hyperparameter_values": (RATE, 0.0),
    }  # fmt: skip
    return TrainRequest(**(values | changes))


def evaluate_request(of: Artefact, **changes: Any) -> EvaluateRequest:
    values: dict[str, Any] = {
        "trial": 3, "round": 2, "artefact": of.manifest.artefact_sha256, "model": of.model,
        "weights": of.initial_weights, "metric": "accuracy", "seed": 7, "batch_size": 4,
        "hyperparameter_names": ("learning_rate", "momentum"),
        "hyperparameter_values": (RATE, 0.0),
    }  # fmt: skip
    return EvaluateRequest(**(values | changes))


def client(data: ClientData, **changes: Any) -> Client:
    meter = ProfileMeter(DeviceCosts(load_profile("raspberry-pi-4b")), 1.0)
    return Client(lambda: data, lambda: meter, **changes)


def test_a_correction_is_subtracted_after_each_step_times_the_learning_rate(
    mlp_artefact: Artefact, data: ClientData, session: Session
) -> None:
    vector = np.random.default_rng(0).normal(0, 0.1, mlp_artefact.initial_weights.size)
    correction = vector.astype(np.float32)
    asked = train_request(mlp_artefact, local_epochs=3)
    corrected = train(session, data, asked.model_copy(update={"correction": correction}))
    assert (corrected.steps, corrected.corrections) == (6, 3)  # of 16 samples in two calls of 8
    weights = mlp_artefact.initial_weights
    for _ in range(3):  # one step over all samples each, whatever their order
        once = train_request(mlp_artefact, weights=weights)
        weights = train(session, data, once).weights - np.float32(RATE) * correction
    np.testing.assert_allclose(corrected.weights, weights, atol=1e-5)


def test_a_correction_of_zeros_changes_nothing(
    mlp_artefact: Artefact, data: ClientData, session: Session
) -> None:
    asked = train_request(mlp_artefact, local_epochs=2, batch_size=4)
    zeros = np.zeros_like(mlp_artefact.initial_weights)
    plain = train(session, data, asked)
    corrected = train(session, data, asked.model_copy(update={"correction": zeros}))
    np.testing.assert_array_equal(plain.weights, corrected.weights)


def test_personal_steps_are_those_of_a_training(
    mlp_artefact: Artefact, data: ClientData, session: Session
) -> None:
    """Two epochs of four batches each are eight steps."""
    asked = train_request(mlp_artefact, batch_size=4, local_epochs=2)
    trained = train(session, data, asked)
    personal = PersonalSteps(8, asked.seed, 4, asked.hyperparameters)
    tuned, calls = fine_tune(session, data, mlp_artefact.initial_weights, personal)
    np.testing.assert_array_equal(tuned, trained.weights)
    assert calls == trained.steps == 8
    fewer, calls = fine_tune(
        session, data, mlp_artefact.initial_weights, PersonalSteps(5, 7, 4, asked.hyperparameters)
    )
    assert calls == 5
    assert not np.array_equal(fewer, tuned)


def test_a_device_keeps_the_given_weights_where_its_own_diverge(
    mlp_artefact: Artefact, data: ClientData, session: Session
) -> None:
    wild = PersonalSteps(20, 0, 4, {"learning_rate": 1e30, "momentum": 0.0})
    tuned, _ = fine_tune(session, data, mlp_artefact.initial_weights, wild)
    np.testing.assert_array_equal(tuned, mlp_artefact.initial_weights)


def test_the_loss_before_a_training_is_that_of_the_given_weights(
    mlp_artefact: Artefact, data: ClientData, session: Session
) -> None:
    asked = train_request(mlp_artefact, measure_loss=True)
    report = answer(asked, client(data), Sessions())
    on_training = ClientData(data.train_x, data.train_y, data.train_x, data.train_y, classes=10)
    expected = evaluate(session, on_training, evaluate_request(mlp_artefact)).loss_sum / 13
    assert report.start_loss == pytest.approx(expected)
    assert mean_loss(session, data, asked.weights) == report.start_loss
    plain = answer(train_request(mlp_artefact), client(data), Sessions())
    assert plain.start_loss is None
    assert (report.wall_s or 0) > (plain.wall_s or 0)  # its time is billed
    # A call of train still takes what it takes.
    assert report.call_p50_ms == pytest.approx(1e3 * (plain.wall_s or 0) / plain.steps)


@pytest.mark.parametrize("update", ["float16", "int8", "topk"])
def test_an_update_is_encoded_and_what_it_leaves_out_comes_with_the_next(
    mlp_artefact: Artefact, data: ClientData, update: Any
) -> None:
    size = mlp_artefact.initial_weights.size
    asked = train_request(mlp_artefact, update=update, topk_share=0.1)
    trained = answer(train_request(mlp_artefact), client(data), Sessions())
    assert isinstance(trained, TrainReport)
    report = answer(asked, client(data), Sessions())
    assert report.weights is None
    assert report.encoded is not None
    assert len(report.encoded) == encoded_bytes(update, size, 0.1)
    change = trained.weights - asked.weights
    sent = decode(report.encoded, update, size, 0.1)
    assert report.residual is not None
    np.testing.assert_allclose(sent + report.residual, change, atol=1e-6)
    later = answer(asked.model_copy(update={"residual": report.residual}), client(data), Sessions())
    assert later.encoded is not None
    again = decode(later.encoded, update, size, 0.1)
    np.testing.assert_allclose(again + later.residual, change + report.residual, atol=1e-6)


def test_a_device_keeps_what_its_updates_leave_out(
    mlp_artefact: Artefact, data: ClientData
) -> None:
    """A real device sends what a simulated one sends, and no residual."""
    device = client(data, residuals=Residuals())
    residual, sessions = None, Sessions()
    for number in (2, 5, 9):
        asked = train_request(mlp_artefact, update="topk", topk_share=0.1, round=number)
        real = answer(asked, device, sessions)
        simulated = answer(asked.model_copy(update={"residual": residual}), client(data), sessions)
        assert real.encoded == simulated.encoded
        assert real.residual is None
        residual = simulated.residual
    begun_again = train_request(mlp_artefact, update="topk", topk_share=0.1, round=9)
    fresh = answer(begun_again, client(data), sessions)
    assert answer(begun_again, device, sessions).encoded == fresh.encoded


def test_personal_steps_are_billed_and_bounded_by_the_owner(
    mlp_artefact: Artefact, data: ClientData
) -> None:
    plain = answer(evaluate_request(mlp_artefact), client(data), Sessions())
    tuned = answer(evaluate_request(mlp_artefact, personal_steps=40), client(data), Sessions())
    assert isinstance(tuned, EvaluateReport)
    assert (plain.steps, tuned.steps) == (None, 40)
    assert tuned.loss_sum != plain.loss_sum
    assert (tuned.wall_s or 0) > 10 * (plain.wall_s or 0)
    assert (tuned.energy_j or 0) > 10 * (plain.energy_j or 0)
    assert tuned.inference_ms == plain.inference_ms
    owned = client(data, privacy=lambda: Privacy(max_epochs=2))
    refused = answer(evaluate_request(mlp_artefact, personal_steps=9), owned, Sessions())
    assert refused.failure == "error"
    assert "9 personal steps, privacy.max_epochs = 2 are 8 of them" in refused.detail
    allowed = answer(evaluate_request(mlp_artefact, personal_steps=8), owned, Sessions())
    assert allowed.failure is None


def test_personal_steps_without_their_settings_are_no_request(mlp_artefact: Artefact) -> None:
    with pytest.raises(ValueError, match="personal steps without seed"):
        evaluate_request(mlp_artefact, personal_steps=3, batch_size=None)
