"""A device switches to a model that does what its card says, and keeps the old one otherwise."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fieldtune.client.contract.deployment import RollbackOrder
from fieldtune.client.data.client_data import Scaling
from fieldtune.client.data.privacy import Privacy
from fieldtune.client.deployed.score import Score, surely_worse
from fieldtune.client.deployed.slots import CURRENT, Slots
from fieldtune.client.training.runtime import BadArtefactError
from support.deployed import GOOD, WORSE, candidates, digits_data, old_model, order
from support.full_disk import filled


def runs(slots: Slots) -> int | None:
    current = slots.current()
    return current.card.trial if current else None


def test_the_first_model_is_tried_timed_and_switched_to(tmp_path: Path) -> None:
    device = candidates(tmp_path)
    report = device.deploy(order(7), old_model(GOOD))
    assert (report.outcome, report.why, report.number) == ("switched", "", 7)
    assert report.runs == order(7).card.artefact
    assert report.samples == 200
    assert report.error == pytest.approx(0.59, abs=0.1)
    assert report.inference_ms is not None
    assert (report.error_before, runs(device.slots)) == (None, GOOD)


def test_an_order_that_is_sent_again_is_followed_once(tmp_path: Path) -> None:
    device = candidates(tmp_path)
    device.deploy(order(1, WORSE), old_model(WORSE))
    for _ in range(2):
        report = device.deploy(order(2), old_model(GOOD))
        assert (report.outcome, report.runs) == ("switched", order(2).card.artefact)
    previous = device.slots.previous()
    assert previous is not None
    assert previous.card.trial == WORSE


def test_a_better_model_replaces_another_and_a_worse_one_does_not(tmp_path: Path) -> None:
    device = candidates(tmp_path)
    device.deploy(order(1, WORSE), old_model(WORSE))
    assert device.deploy(order(2), old_model(GOOD)).outcome == "switched"
    report = device.deploy(order(3, WORSE), old_model(WORSE))
    assert report.outcome == "kept"
    assert report.why.startswith("it is worse than what runs now: error ")
    assert report.error is not None
    assert report.error_before is not None
    assert report.error > report.error_before
    assert (runs(device.slots), report.runs) == (GOOD, order(2).card.artefact)
    assert device.deploy(order(4, WORSE, force=True), old_model(WORSE)).outcome == "switched"


def test_a_model_far_beyond_its_cards_interval_is_kept_out(tmp_path: Path) -> None:
    device = candidates(tmp_path)
    report = device.deploy(order(1, error_high=0.2), old_model(GOOD))
    assert (report.outcome, report.runs) == ("kept", None)
    assert "and its card says at most 20 %" in report.why
    assert not (tmp_path / CURRENT).exists()
    # A device whose data are harder than the fleet's still takes what is better than it has.
    device.deploy(order(2, WORSE), old_model(WORSE))
    assert device.deploy(order(3, error_high=0.2), old_model(GOOD)).outcome == "switched"


@pytest.mark.parametrize(
    ("card", "why"),
    [
        ({"device": "garage"}, "the order is for garage"),
        ({"artefact": "0" * 64}, "its card says 000000"),
        ({"size": 5}, "the model has SHA-256"),
        ({"labels": ("b", "a")}, "its classes have other names, or another order"),
        ({"scale": 16.0}, "it takes (value - 0) / 16, the data here are (value - 0) / 1"),
        ({"inference_limit_ms": 1e-9}, "limits.inference_ms is 1e-09"),
        ({"metric": "auc"}, ""),
    ],
)
def test_what_does_not_fit_the_device_is_kept_out(
    tmp_path: Path, card: dict[str, Any], why: str
) -> None:
    device = candidates(tmp_path, digits_data(labels=("a", "b")))
    report = device.deploy(order(1, **card), old_model(GOOD))
    assert why in report.why
    assert report.outcome == ("kept" if why else "switched")


def test_data_of_another_shape_or_with_more_classes_keep_a_model_out(tmp_path: Path) -> None:
    x, y = np.zeros((3, 4), np.float32), np.zeros(3, np.int32)
    flat = digits_data(train_x=x, train_y=y, test_x=x, test_y=y)
    more = digits_data(classes=11)
    for data, why in ((flat, "samples of shape [8, 8, 1]"), (more, "tells 10 classes")):
        assert why in candidates(tmp_path, data).deploy(order(1), old_model(GOOD)).why


def test_the_owners_limits_hold_for_deployment_too(tmp_path: Path) -> None:
    privacy = Privacy(max_model_mib=0.001)
    report = candidates(tmp_path, privacy=privacy).deploy(order(1), old_model(GOOD))
    assert report.why == (
        "the owner does not allow a model of 0.0 MiB, privacy.max_model_mib = 0.001"
    )


def test_an_error_leaves_the_device_only_if_the_owner_allows_it(tmp_path: Path) -> None:
    device = candidates(tmp_path, privacy=Privacy(metrics=("auc",)))
    report = device.deploy(order(1), old_model(GOOD))
    assert (report.outcome, report.error, report.samples) == ("switched", None, 200)
    worse = device.deploy(order(2, WORSE), old_model(WORSE))
    assert (worse.outcome, worse.error, worse.error_before) == ("kept", None, None)
    assert "%" not in worse.why


def test_a_model_that_crashes_its_first_run_is_kept_out(tmp_path: Path) -> None:
    def crash(run: object) -> object:
        raise BadArtefactError("the model crashes the runtime (signal 11)")

    device = candidates(tmp_path)
    object.__setattr__(device, "try_first", crash)
    report = device.deploy(order(1), old_model(GOOD))
    assert (report.outcome, report.why) == ("kept", "the model crashes the runtime (signal 11)")


def test_an_older_order_is_not_followed(tmp_path: Path) -> None:
    device = candidates(tmp_path)
    device.deploy(order(5), old_model(GOOD))
    report = device.deploy(order(4, WORSE, force=True), old_model(WORSE))
    assert report.why == "the order has the number 4, and 5 was followed"
    leave = order(5).card.artefact
    old = device.roll_back(RollbackOrder(number=3, device="kitchen", leave=leave))
    assert (old.outcome, runs(device.slots)) == ("kept", GOOD)


def test_a_rollback_goes_back_once_however_often_it_is_sent(tmp_path: Path) -> None:
    device = candidates(tmp_path)
    device.deploy(order(1, WORSE), old_model(WORSE))
    device.deploy(order(2), old_model(GOOD))
    back = RollbackOrder(number=3, device="kitchen", leave=order(2).card.artefact)
    assert [device.roll_back(back).outcome for _ in range(2)] == ["switched", "unchanged"]
    assert runs(device.slots) == WORSE
    again = RollbackOrder(number=4, device="kitchen", leave=order(1, WORSE).card.artefact)
    assert device.roll_back(again).why == "there is no model before it"
    assert device.deploy(order(5), old_model(GOOD)).outcome == "switched"


def test_a_full_disk_keeps_the_old_model(tmp_path: Path) -> None:
    device = candidates(tmp_path / "disk")
    with filled(tmp_path / "disk") as disk:
        report = device.deploy(order(1), old_model(GOOD))
        assert report.outcome == "kept"
        assert report.why == (f"{disk} cannot be written: No space left on device: free some space")
        (disk / "filler").unlink()
        assert device.deploy(order(1), old_model(GOOD)).outcome == "switched"
        with suppress(OSError), (disk / "more").open("wb", 0) as more:
            while True:
                more.write(bytes(4096))
        report = device.deploy(order(2, WORSE, force=True), old_model(WORSE))
        assert (report.outcome, runs(device.slots)) == ("kept", GOOD)
        assert sorted(each.name for each in disk.iterdir() if "part" in each.name) == []


def score(*wrong: int) -> Score:
    return Score(np.array(wrong, np.float64), None, is_classifier=True)


def test_a_difference_is_sure_when_chance_gives_it_once_in_twenty_times() -> None:
    assert not surely_worse(score(1, 1, 1, 1, 0), score(0, 0, 0, 0, 0)), "1 / 16"
    assert surely_worse(score(1, 1, 1, 1, 1), score(0, 0, 0, 0, 0)), "1 / 32"
    assert not surely_worse(score(1, 1, 1, 1, 1, 0), score(0, 0, 0, 0, 0, 1)), "7 / 64"
    assert not surely_worse(score(1, 1), score(1, 1))


def test_scaling_is_applied_to_raw_values() -> None:
    raw = np.array([0, 8, 16])
    assert Scaling(8, 4).apply(raw).tolist() == [-2, 0, 2]
    assert Scaling().apply(raw).dtype == np.float32
