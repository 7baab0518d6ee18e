"""What a device's owner does not allow is not done, whatever the coordinator asks for."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import RecordDict
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from client.node.test_app import ask, data, report_of, request
from fieldtune.client.contract.messages import (
    EvaluateReport,
    EvaluateRequest,
    TrainReport,
    VariantRequest,
)
from fieldtune.client.data.client_data import ClientData
from fieldtune.client.data.files import DeviceData
from fieldtune.client.data.privacy import Privacy
from fieldtune.client.node.client_app import make_client_app
from fieldtune.client.node.signatures import Signer
from fieldtune.client.training import trainer
from fieldtune.client.training.privacy_budget import PrivacyBudget
from fieldtune.client.training.runtime import BadArtefactError, Session, Sessions
from fieldtune.client.training.trainer import Trained
from fieldtune.client.training.trial_run import try_first
from fieldtune.profiles.common.errors import DataError
from fieldtune.server.compiler.manifest import Artefact
from fieldtune.server.deployment.certificates import Pair, make_authority
from fieldtune.server.federation.evaluation import inconsistent

__all__ = ["data"]


def answer(
    privacy: Privacy, data: ClientData, message: Any, kind: str = "train", **options: Any
) -> TrainReport:
    app = make_client_app(lambda _: data, privacy_of=lambda _: privacy, **options)
    return report_of(ask(app, kind, message))


@pytest.mark.parametrize(
    ("privacy", "what"),
    [
        (Privacy(min_samples=14), "fewer training samples than privacy.min_samples = 14"),
        (Privacy(min_samples=6), "fewer test samples than privacy.min_samples = 6"),
        (Privacy(max_model_mib=0.01), "MiB, privacy.max_model_mib = 0.01"),
        (Privacy(max_epochs=2), "3 local epochs, privacy.max_epochs = 2"),
    ],
)
def test_a_training_beyond_what_the_owner_allows_is_refused(
    privacy: Privacy, what: str, mlp_artefact: Artefact, data: ClientData
) -> None:
    report = answer(privacy, data, request(mlp_artefact, local_epochs=3))
    assert (report.failure, report.weights) == ("error", None)
    assert report.detail.startswith("the device's owner does not allow ")
    assert report.detail.endswith(what)


@pytest.mark.parametrize(
    ("metrics", "metric", "allowed"),
    [
        (None, "accuracy", True),
        (None, "auc", True),
        (None, "os.path:exists", False),
        (("accuracy",), "auc", False),
        ((), "accuracy", False),
    ],
)
def test_a_metrics_module_is_imported_only_if_the_owner_allows_it(
    metrics: tuple[str, ...] | None,
    metric: str,
    allowed: bool,
    mlp_artefact: Artefact,
    data: ClientData,
) -> None:
    message = EvaluateRequest(
        trial=0, round=0, artefact=mlp_artefact.manifest.artefact_sha256,
        model=mlp_artefact.model, weights=mlp_artefact.initial_weights, metric=metric,
    )  # fmt: skip
    app = make_client_app(lambda _: data, privacy_of=lambda _: Privacy(metrics=metrics))
    told = dict(ask(app, "evaluate", message).content.config_records["message"])
    assert ("failure" not in told) == allowed
    assert allowed or f"the metric {metric!r}" in str(told["detail"])


def test_a_request_that_takes_too_long_is_ended(mlp_artefact: Artefact, data: ClientData) -> None:
    began = time.monotonic()
    report = answer(Privacy(max_request_s=0.2), data, request(mlp_artefact, local_epochs=10**9))
    assert report.failure == "deadline"
    assert report.detail == "it took longer than 0.2 s"
    assert time.monotonic() - began < 60


def test_without_limits_the_result_is_that_of_a_simulated_client(
    mlp_artefact: Artefact, data: ClientData
) -> None:
    allowed = answer(Privacy(), data, request(mlp_artefact))
    simulated = report_of(ask(make_client_app(lambda _: data), "train", request(mlp_artefact)))
    assert allowed.weights is not None
    assert simulated.weights is not None
    assert (allowed.weights == simulated.weights).all()


def test_an_update_leaves_the_device_clipped_and_with_noise(
    mlp_artefact: Artefact, data: ClientData
) -> None:
    message = request(mlp_artefact)
    clipped = answer(Privacy(clip_norm=0.01), data, message).weights
    assert clipped is not None
    assert np.linalg.norm(clipped - message.weights) == pytest.approx(0.01, rel=1e-3)
    noisy = [answer(Privacy(clip_norm=0.01, noise=2.0), data, message).weights for _ in range(2)]
    assert noisy[0] is not None
    assert noisy[1] is not None
    assert (noisy[0] != noisy[1]).any(), "the noise follows from what the coordinator knows"
    spread = np.std(noisy[0].astype(float) - clipped)
    assert spread == pytest.approx(2.0 * 0.01, rel=0.15)


def test_what_an_update_spends_is_counted_before_it_leaves(
    mlp_artefact: Artefact, data: ClientData, tmp_path: Path
) -> None:
    budget = PrivacyBudget(tmp_path / "privacy.json")
    privacy = Privacy(clip_norm=1.0, noise=10.0, max_epsilon=1.5)
    app = make_client_app(lambda _: data, privacy_of=lambda _: privacy, budget=budget)
    spent = []
    for _ in range(3):
        report = report_of(ask(app, "train", request(mlp_artefact)))
        spent.append(budget.spent())
    assert spent == pytest.approx([0.02, 0.04, 0.04])
    assert report.failure == "error"
    assert "privacy.max_epsilon = 1.5" in report.detail


@given(arrays(np.float32, 6, elements=st.floats(-(2.0**60), 2.0**60, width=32)),
       st.floats(1e-6, 1e6))  # fmt: skip
def test_no_update_is_longer_than_the_owner_allows(trained: np.ndarray, most: float) -> None:
    released = Privacy(clip_norm=most).released(np.zeros(6, np.float32), trained)
    assert np.linalg.norm(released.astype(float)) <= most * (1 + 1e-5)


def test_a_malicious_model_returns_noise_instead_of_samples(
    mlp_artefact: Artefact, data: ClientData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The "weights" of a crafted model are the samples themselves."""
    message = request(mlp_artefact)
    samples = np.resize(data.train_x.ravel(), message.weights.size)
    crafted = Trained(weights=samples, samples=len(data.train_y), steps=1, loss=0.0)
    monkeypatch.setattr(trainer, "train", lambda *_, **__: crafted)

    def stolen(privacy: Privacy) -> float:
        weights = answer(privacy, data, message).weights
        assert weights is not None
        return float(abs(np.corrcoef(weights - message.weights, samples)[0, 1]))

    assert stolen(Privacy()) > 0.9
    assert stolen(Privacy(clip_norm=1.0, noise=1.0)) < 0.2


def test_the_owners_table_stands_beside_the_data(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 2), np.float32), y=np.array([0, 1, 0, 1]))
    assert DeviceData(str(tmp_path)).privacy() == Privacy()
    file = tmp_path / "data.toml"
    file.write_text("[privacy]\nclip_norm = 1.0\nnoise = 0.5\nmetrics = ['accuracy', 'my:f']\n")
    found = DeviceData(str(tmp_path)).privacy()
    assert found == Privacy(clip_norm=1.0, noise=0.5, metrics=("accuracy", "my:f"))
    file.write_text("[privacy]\nnoise = 0.5\n")
    with pytest.raises(DataError, match="noise without clip_norm"):
        DeviceData(str(tmp_path)).privacy()


def test_a_model_that_crashes_or_hangs_does_so_in_a_child_process() -> None:
    with pytest.raises(BadArtefactError, match=r"crashes the runtime \(signal 11"):
        try_first(lambda: os.kill(os.getpid(), signal.SIGSEGV))
    with pytest.raises(BadArtefactError, match=r"took more than 0\.2 s"):
        try_first(lambda: time.sleep(3600), longest_s=0.2)
    with pytest.raises(MemoryError):
        try_first(lambda: os.kill(os.getpid(), signal.SIGKILL))
    try_first(lambda: 1 / 0)  # an ordinary error is raised again when the model is loaded


@pytest.mark.integration
def test_mutated_models_never_end_the_process(mlp_artefact: Artefact) -> None:
    rng, refused = np.random.default_rng(0), 0
    sessions = Sessions(1, try_first=try_first)
    for _ in range(60):
        mutated = bytearray(mlp_artefact.model)
        for at in rng.integers(0, len(mutated), 8):
            mutated[at] = int(rng.integers(256))
        try:
            sessions.get(hashlib.sha256(mutated).hexdigest(), bytes(mutated), Session)
        except BadArtefactError:
            refused += 1
    assert refused > 5


def test_an_artefact_that_the_coordinator_has_not_signed_is_refused(
    mlp_artefact: Artefact, data: ClientData
) -> None:
    ours, theirs = make_authority("ours"), make_authority("theirs")
    app = make_client_app(lambda _: data, ca_certificate=ours.certificate)
    message, sha = request(mlp_artefact), mlp_artefact.manifest.artefact_sha256

    def answer(authority: Pair | None, signed: str = sha) -> TrainReport:
        def sign(content: RecordDict) -> None:
            if authority:
                Signer(authority.private_key)(content, signed)

        return report_of(ask(app, "train", message, sign))

    for refused in (answer(None), answer(theirs), answer(ours, "0" * 64)):
        assert refused.failure == "bad_artefact"
        assert refused.detail == "the coordinator has not signed it"
    assert answer(ours).failure is None
    again = report_of(ask(app, "train", request(mlp_artefact, model=None)))
    assert again.failure is None  # it holds the artefact: no signature is sent again


class AlwaysZero:
    """A file to deploy that answers class 0."""

    input_shape, classes, micro_batch = (8, 8, 1), 10, 1

    def __init__(self, model: bytes) -> None:
        self.model = model

    def try_once(self) -> None: ...

    def infer(self, x: np.ndarray) -> np.ndarray:
        return np.eye(1, self.classes, dtype=np.float32)[0]


@pytest.mark.parametrize("allowed", [True, False])
def test_a_confusion_matrix_is_reported_unless_the_owner_forbids_it(
    allowed: bool, data: ClientData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fieldtune.client.training.answer.Inference", AlwaysZero)
    asked = VariantRequest(
        trial=0, round=0, artefact=hashlib.sha256(b"x").hexdigest(), model=b"x",
        metric="accuracy", loss="sparse_categorical_crossentropy",
    )  # fmt: skip
    app = make_client_app(lambda _: data, privacy_of=lambda _: Privacy(confusion=allowed))
    reply = ask(app, "evaluate.variant", asked)
    said = EvaluateReport.parse(dict(reply.content.config_records["message"]))
    assert said.failure is None, said.detail
    if not allowed:
        assert said.confusion is None
        return
    matrix = np.reshape(said.confusion, (10, 10))
    assert tuple(matrix.sum(axis=1)) == said.actual == tuple(np.bincount(data.test_y, None, 10))
    assert tuple(matrix[:, 0]) == said.actual
    assert inconsistent(said, 10) is None
