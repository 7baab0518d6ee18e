"""An application uses what is deployed, and the next model as soon as it is there."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from fieldtune.client import deployed
from fieldtune.client.deployed.package import Package
from fieldtune.client.deployed.slots import Slots
from fieldtune.client.training.runtime import Inference
from fieldtune.profiles.common.errors import DataError, FleetError
from support.deployed import GOOD, WORSE, digits_data, old_model, order

NAMES = tuple("abcdefghij")


@pytest.fixture
def slots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slots:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    found = Slots(tmp_path / "fieldtune/kitchen")
    found.switch(Package(order(1, labels=NAMES, scale=16.0), old_model(GOOD)))
    return found


def test_raw_values_are_scaled_and_the_class_is_named(slots: Slots) -> None:
    sample = digits_data().test_x[0]
    expected = Inference(old_model(GOOD)).infer(sample)
    model = deployed.load()
    for raw in (sample * 16, (sample * 16)[..., 0], (sample * 16).ravel().tolist()):
        answer = model.predict(raw)
        np.testing.assert_allclose(answer.output, expected, atol=1e-6)
        assert answer.label == NAMES[answer.index] == NAMES[int(expected.argmax())]
        softmax = np.exp(expected) / np.exp(expected).sum()
        assert answer.probability == pytest.approx(softmax.max(), rel=1e-5)


def test_a_new_model_is_used_from_the_next_sample_on(slots: Slots) -> None:
    model = deployed.load("kitchen")
    assert model.card.trial == GOOD
    slots.switch(Package(order(2, WORSE), old_model(WORSE)))
    answer = model.predict(digits_data().test_x[0])
    assert (model.card.trial, answer.label) == (WORSE, str(answer.index))
    slots.file.write_bytes(b"damaged")
    model.predict(digits_data().test_x[0])
    assert model.card.trial == WORSE


def test_classes_without_a_name_are_called_by_their_number(slots: Slots) -> None:
    slots.switch(Package(order(2, labels=("zero", "one")), old_model(GOOD)))
    assert deployed.load().labels == ("zero", "one", *"23456789")


def test_a_model_that_the_runtime_cannot_load_is_one_sentence(slots: Slots) -> None:
    junk = b"no model"
    sha256 = hashlib.sha256(junk).hexdigest()
    slots.switch(Package(order(2, artefact=sha256, size=len(junk)), junk))
    with pytest.raises(FleetError, match=r"current\.tflite cannot be used: "):
        deployed.load()


def test_what_is_no_sample_is_one_sentence(slots: Slots) -> None:
    model = deployed.load()
    for wrong, why in (
        (np.zeros(5), r"shape \[5\], the model takes \[8, 8, 1\]"),
        (np.zeros((4, 16)), r"shape \[4, 16\]"),
        (["a"] * 64, "not a number"),
        (np.full(64, np.nan), "not finite"),
    ):
        with pytest.raises(DataError, match=why):
            model.predict(wrong)


def test_which_model_is_said_where_it_is_not_clear(
    slots: Slots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FleetError, match=r"'kichen' \(did you mean 'kitchen'\?\); there are"):
        deployed.load("kichen")
    Slots(tmp_path / "fieldtune/garage").switch(Package(order(1), old_model(GOOD)))
    with pytest.raises(FleetError, match="name one of garage, kitchen"):
        deployed.load()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "nothing"))
    with pytest.raises(FleetError, match="no model is deployed on this machine"):
        deployed.load()
