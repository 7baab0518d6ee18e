"""The ClientApp on a real artefact in the real runtime."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict

from fieldtune.client.contract.messages import (
    Description,
    EvaluateReport,
    EvaluateRequest,
    TrainReport,
    TrainRequest,
    VariantRequest,
)
from fieldtune.client.data.client_data import ClientData
from fieldtune.client.node.client_app import failed_reply, make_client_app
from fieldtune.client.node.fleet_api import identify_process, message_from_bytes, message_to_bytes
from fieldtune.client.training.measurement import WARM_UP
from fieldtune.client.training.meter import HostMeter
from fieldtune.client.training.runtime import Inference, Session
from fieldtune.client.training.trainer import evaluate_variant, train
from fieldtune.profiles.common.errors import DataError
from fieldtune.profiles.host.probe import probe
from fieldtune.server.compiler.manifest import Artefact, unflatten
from fieldtune.simulations.datasets import load_dataset


@pytest.fixture(scope="module")
def data() -> ClientData:
    digits = load_dataset("digits")
    return ClientData(digits.x[:13], digits.y[:13], digits.x[13:18], digits.y[13:18], classes=10)


def request(of: Artefact, **changes: Any) -> TrainRequest:
    values: dict[str, Any] = {
        "trial": 3,
        "round": 2,
        "artefact": of.manifest.artefact_sha256,
        "model": of.model,
        "weights": of.initial_weights,
        "seed": 7,
        "batch_size": 16,
        "local_epochs": 1,
        "hyperparameter_names": ("learning_rate", "momentum"),
        "hyperparameter_values": (0.5, 0.0),
    }
    return TrainRequest(**(values | changes))


def mlp_gradient_step(artefact: Artefact, data: ClientData, rate: float) -> np.ndarray:
    """One full-batch SGD step of the MLP, written out (Goodfellow et al. 2016, algorithm 6.4)."""
    w1, b1, w2, b2 = (
        weight.astype(np.float64)
        for weight in unflatten(artefact.manifest.weights, artefact.initial_weights)
    )
    x, y = data.train_x.reshape(len(data.train_y), -1), np.eye(10)[data.train_y]
    hidden = np.maximum(x @ w1 + b1, 0)
    logits = hidden @ w2 + b2
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    g2 = (p - y) / len(y)
    g1 = (g2 @ w2.T) * (hidden > 0)
    gradients = (x.T @ g1, g1.sum(axis=0), hidden.T @ g2, g2.sum(axis=0))
    stepped = (w - rate * g for w, g in zip((w1, b1, w2, b2), gradients, strict=True))
    return np.concatenate([w.ravel() for w in stepped])


def ask(
    app: Any,
    kind: str,
    message: TrainRequest | EvaluateRequest | VariantRequest | None,
    add: Callable[[RecordDict], None] = lambda _: None,
) -> Message:
    """Send a message, to which something may be added, the way it travels: as bytes."""
    identify_process(1, 1)
    content = RecordDict()
    if message is not None:
        content["message"] = ConfigRecord(message.scalars())
    if isinstance(message, (TrainRequest, EvaluateRequest)):
        content["weights"] = ArrayRecord({"all": Array(message.weights)})
    add(content)
    sent = message_from_bytes(message_to_bytes(Message(content, 1, kind)))
    context = Context(1, 1, {"partition-id": 5, "profile": "raspberry-pi-4b"}, RecordDict(), {})
    reply: Message = app(sent, context)
    return message_from_bytes(message_to_bytes(reply))


def report_of(reply: Message) -> TrainReport:
    weights = reply.content.array_records.get("weights")
    return TrainReport.parse(
        dict(reply.content.config_records["message"]), weights["all"].numpy() if weights else None
    )


def test_a_batch_larger_than_the_micro_batch_is_one_step_over_all_its_samples(
    mlp_artefact: Artefact, data: ClientData
) -> None:
    # 13 samples in micro-batches of 8: the second is padded with 3 that must not count.
    session = Session(mlp_artefact.model)
    trained = train(session, data, request(mlp_artefact))
    expected = mlp_gradient_step(mlp_artefact, data, rate=0.5)
    assert trained.steps == 2
    assert trained.samples == 13
    np.testing.assert_allclose(trained.weights, expected, atol=1e-6)


def test_training_depends_on_its_seed_and_nothing_that_went_before(
    mlp_artefact: Artefact, data: ClientData
) -> None:
    session = Session(mlp_artefact.model)
    wanted = request(mlp_artefact, batch_size=4, local_epochs=3, hyperparameter_values=(0.1, 0.9))
    first = train(session, data, wanted)
    again = train(session, data, wanted)
    other = train(session, data, wanted.model_copy(update={"seed": 8}))
    assert (first.weights == again.weights).all()
    assert (first.weights != other.weights).any()


def test_training_and_evaluation_travel_as_bytes_and_agree(
    mlp_artefact: Artefact, data: ClientData
) -> None:
    app = make_client_app(lambda _: data)
    trained = report_of(ask(app, "train", request(mlp_artefact, local_epochs=30)))
    assert trained.failure is None
    assert trained.loss is not None
    assert trained.loss < 1.0
    assert trained.wall_s is not None
    assert trained.wall_s > 0
    assert trained.weights is not None
    evaluate = EvaluateRequest(
        trial=3, round=5, artefact=mlp_artefact.manifest.artefact_sha256,
        weights=trained.weights, metric="auc",
    )  # fmt: skip
    reply = ask(app, "evaluate", evaluate)
    counted = EvaluateReport.parse(dict(reply.content.config_records["message"]))
    assert counted.samples == sum(counted.actual) == sum(counted.predicted) == 5
    assert sum(counted.hits) <= 5
    assert counted.value is not None


def test_a_device_says_who_it_is(data: ClientData) -> None:
    reply = ask(make_client_app(lambda _: data), "query.describe", None)
    said = Description.parse(dict(reply.content.config_records["message"]))
    assert (said.client, said.profile) == (5, "raspberry-pi-4b")
    assert (said.train_samples, said.test_samples) == (13, 5)
    assert said.input_shape == (8, 8, 1)
    assert (said.name, said.problem, said.board) == ("", "", None)


def test_a_real_device_says_what_board_it_is(data: ClientData, tmp_path: Path) -> None:
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_text("Raspberry Pi Zero 2 W Rev 1.0\0")
    (tmp_path / "proc/meminfo").write_text("MemTotal:  436224 kB\n")
    reply = ask(make_client_app(lambda _: data, board=probe(tmp_path)), "query.describe", None)
    said = Description.parse(dict(reply.content.config_records["message"]))
    assert (said.board, said.memory_mib) == ("Raspberry Pi Zero 2 W Rev 1.0", 426.0)


def test_a_device_whose_data_is_bad_says_so_and_gives_no_sizes() -> None:
    reply = ask(make_client_app(no_data), "query.describe", None)
    said = Description.parse(dict(reply.content.config_records["message"]))
    assert said.problem == "the folder is empty"
    assert (said.train_samples, said.input_shape, said.classes) == (0, (), 0)


def test_a_device_answers_for_what_it_could_not_do() -> None:
    identify_process(1, 1)
    for kind, report in (("train", TrainReport), ("evaluate.variant", EvaluateReport)):
        message = Message(RecordDict(), 1, kind)
        reply = failed_reply(message, 4, 2, "out_of_memory", "x" * 1000)
        said = report.parse(dict(reply.content.config_records["message"]))
        assert (said.trial, said.round, said.failure) == (4, 2, "out_of_memory")
        assert len(said.detail) == 500


def no_data(_: object) -> ClientData:
    raise DataError("the folder is empty")


def test_what_goes_wrong_on_a_device_is_a_report(mlp_artefact: Artefact, data: ClientData) -> None:
    app = make_client_app(lambda _: data)
    sha = hashlib.sha256(b"nothing").hexdigest()
    wide = ClientData(
        np.zeros((2, 4), np.float32), np.zeros(2, np.int32),
        np.zeros((1, 4), np.float32), np.zeros(1, np.int32), classes=10,
    )  # fmt: skip
    more_classes = replace(data, classes=11)
    for failure, chosen, changes in (
        ("artefact_missing", app, {"model": None}),
        ("bad_artefact", app, {"artefact": sha}),
        ("bad_artefact", app, {"artefact": sha, "model": b"nothing"}),
        ("bad_artefact", app, {"weights": np.zeros(3, np.float32)}),
        ("diverged", app, {"hyperparameter_values": (1e30, 0.0), "local_epochs": 5}),
        ("bad_data", make_client_app(lambda _: wide), {}),
        ("bad_data", make_client_app(lambda _: more_classes), {}),
        ("bad_data", make_client_app(no_data), {}),
    ):
        report = report_of(ask(chosen, "train", request(mlp_artefact, **changes)))
        assert report.failure == failure
        assert report.weights is None


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"train_y": np.array([0, 10], np.int32)}, "labels from 0 to 10 in a task of 10 classes"),
        ({"train_y": np.array([-1, 0], np.int32)}, "labels from -1 to 0"),
        ({"train_y": np.zeros(3, np.int32)}, "does not match y"),
        ({"train_x": np.zeros((2, 4), np.float64)}, "not float32"),
        ({"train_x": np.full((2, 4), np.nan, np.float32)}, "not finite"),
        (
            {"train_x": np.zeros((0, 4), np.float32), "train_y": np.zeros(0, np.int32)},
            "no training",
        ),
    ],
)
def test_data_that_does_not_fit_is_refused(changes: dict[str, np.ndarray], sentence: str) -> None:
    good = {
        "train_x": np.zeros((2, 4), np.float32), "train_y": np.zeros(2, np.int32),
        "test_x": np.zeros((1, 4), np.float32), "test_y": np.zeros(1, np.int32),
    }  # fmt: skip
    with pytest.raises(DataError, match=sentence):
        ClientData(**(good | changes), classes=10)


def test_a_report_tells_percentiles_heat_and_what_spoiled_it(
    mlp_artefact: Artefact, data: ClientData, tmp_path: Path
) -> None:
    for name, text in {
        "sys/class/thermal/thermal_zone0/temp": "83500\n",
        "sys/devices/platform/soc/soc:firmware/get_throttled": "4",
        "proc/self/status": "VmHWM: 51200 kB\nVmSwap: 0 kB\n",
        "proc/self/clear_refs": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    hot = make_client_app(lambda _: data, meter_of=lambda _: HostMeter(tmp_path))
    said = report_of(ask(hot, "train", request(mlp_artefact, batch_size=4, local_epochs=3)))
    assert said.failure is None
    assert (said.throttled, said.swapping) == (True, False)
    assert not said.is_sound
    assert said.temperature_before_c == said.temperature_after_c == pytest.approx(83.5)
    assert said.peak_memory_mib == 50.0
    assert said.energy_j is None
    assert said.call_p50_ms is not None
    assert said.call_p90_ms is not None
    assert said.call_p99_ms is not None
    assert 0 < said.call_p50_ms <= said.call_p90_ms <= said.call_p99_ms


def test_a_deployed_models_latency_is_its_median_call(data: ClientData) -> None:
    def infer(x: np.ndarray) -> np.ndarray:
        calls.append(len(calls))
        clock[0] += 1.0 if len(calls) <= WARM_UP else 0.002
        return np.zeros(10, np.float32)

    calls: list[int] = []
    clock = [0.0]
    inference = object.__new__(Inference)
    inference.infer = infer  # type: ignore[method-assign]
    meter = HostMeter(clock=lambda: clock[0])
    meter.start()
    asked = VariantRequest(trial=0, round=0, artefact="0" * 64, metric="accuracy", loss="x")
    counted = evaluate_variant(inference, data, asked, on_call=meter.mark)
    spent = meter.stop(inference, samples=counted.samples)
    assert spent.inference_ms == pytest.approx(2.0)
    assert spent.wall_s == pytest.approx(2.006)
