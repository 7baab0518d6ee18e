"""Numbers that a device cannot have measured, or updates that were not asked for, are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fieldtune.client.contract.encoding import encode
from fieldtune.client.contract.messages import TrainReport
from fieldtune.server.federation.evaluation import inconsistent
from fieldtune.server.federation.exchange import Report
from fieldtune.server.federation.fleet import Reply
from fieldtune.server.federation.plausible import Bounds
from support.reports import evaluated, judged, member, train_request, trained

PERSONAL = {
    "personal_steps": 3, "seed": 0, "batch_size": 8, "hyperparameter_names": ("learning_rate",),
    "hyperparameter_values": (0.1,),
}  # fmt: skip
UPDATE = encode(np.array([0.5, 0, 0, -1], np.float32), "int8", 0)


def test_an_encoded_update_is_added_to_the_weights_that_were_sent() -> None:
    found, notes = judged(trained(weights=None, encoded=UPDATE), asks={"update": "int8"})
    assert not notes
    assert isinstance(found, TrainReport)
    assert found.weights is not None
    assert found.weights.tolist() == pytest.approx([1.5, 1, 1, 0], abs=0.01)


@pytest.mark.parametrize(
    ("changes", "asks", "sentence"),
    [
        ({"encoded": UPDATE[:-1]}, "int8", "7 bytes are no int8 update of 4 weights: 8"),
        ({"encoded": UPDATE * 10**6}, "int8", "8000000 bytes are no int8 update of 4 weights"),
        ({"encoded": np.float32(-1).tobytes() + bytes(4)}, "int8", "a scale of an int8 update"),
        ({"encoded": UPDATE}, None, "not encoded as float32, which was asked for"),
        ({}, "topk", "not encoded as topk, which was asked for"),
        ({"weights": np.ones(4, np.float32), "encoded": UPDATE}, "int8", "not encoded as int8"),
    ],
)
def test_an_update_that_is_not_what_was_asked_for_is_refused(
    changes: dict[str, Any], asks: Any, sentence: str
) -> None:
    found, (note,) = judged(trained(**{"weights": None, **changes}), asks={"update": asks})
    assert found.failure == "implausible"
    assert found.wall_s == 2.0  # its other numbers count as usage
    assert sentence in found.detail
    assert sentence in note


def test_an_update_that_is_not_finite_has_diverged() -> None:
    infinite = {
        "float16": np.full(4, np.inf, "<f2").tobytes(),
        "int8": np.float32(np.inf).tobytes() + bytes([0, 1, 2, 3]),  # also zero times infinity
    }
    for encoding, encoded in infinite.items():
        found, _ = judged(trained(weights=None, encoded=encoded), asks={"update": encoding})
        assert found.failure == "diverged"


def test_calls_before_an_evaluation_are_bounded_by_what_was_asked_for() -> None:
    found, _ = judged(evaluated(steps=24), asks=PERSONAL)
    assert found.failure is None
    for steps, asks in ((25, PERSONAL), (1, {})):
        found, (note,) = judged(evaluated(steps=steps), asks=asks)
        assert found.failure == "implausible"
        assert f"it reports steps = {steps}, and at most {24 if asks else 0} calls" in note


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"weights": np.ones(3, np.float32)}, "weights of shape (3,), and (4,) were asked for"),
        ({"weights": None}, "it reports weights of shape None"),
        ({"samples": 0}, "it reports that it trained on 0 samples"),
        ({"failure": "implausible", "detail": "not a report: 7"}, "not a report: 7"),
        ({"samples": 51}, "it reports 51 training samples and described 50"),
        ({"steps": 101}, "it reports steps = 101, and at most 100 calls"),
        ({"wall_s": 17.0}, "it reports wall_s = 17, and at most 16 seconds of work"),
        ({"energy_j": 7401.0}, "it reports energy_j = 7401, and at most 7400 J in that time"),
        ({"wall_s": None, "energy_j": 6e4}, "it reports energy_j = 60000, and at most 59200 J"),
        ({"peak_memory_mib": 8801.0}, "it reports peak_memory_mib = 8801, and at most 8800 MiB"),
        ({"host_cpu_s": 2e4}, "it reports host_cpu_s = 20000, and at most 16384 CPU seconds"),
        ({"call_p50_ms": 2201.0}, "it reports call_ms = 2201, and at most 2200 ms for one call"),
        ({"call_p99_ms": 2201.0}, "it reports call_ms = 2201, and at most 2200 ms for one call"),
    ],
)
def test_a_training_beyond_what_the_device_can_have_measured_is_refused(
    changes: dict[str, Any], sentence: str
) -> None:
    found, notes = judged(trained(**changes))
    assert isinstance(found, TrainReport)
    assert found.failure == "implausible"
    if "weights" not in changes:  # then its other numbers count as usage
        assert (found.weights, found.wall_s) == (None, None)
    assert sentence in found.detail
    begin = "client 7, trial 3 round 2: report rejected as implausible (said once): "
    (note,) = notes
    assert note.startswith(begin)
    assert sentence in note


@pytest.mark.parametrize(
    ("changes", "metric", "sentence"),
    [
        ({"hits": (11, 8)}, "accuracy", "its counts do not add up"),
        ({"samples": 19}, "accuracy", "its counts do not add up"),
        ({"confusion": (9, 1, 2, 9)}, "accuracy", "its counts do not add up"),
        ({"confusion": (9, 1, 2, 8, 0)}, "accuracy", "its counts do not add up"),
        ({"confusion": ()}, "accuracy", "its counts do not add up"),
        ({"confusion": (9, 1 - 2**63, 2, 8)}, "accuracy", "its counts do not add up"),
        ({"samples": 21}, "accuracy", "it reports 21 test samples and described 20"),
        ({"loss_sum": -1.0}, "accuracy", "loss_sum = -1, and no loss is negative"),
        ({"value": 1.5, "weight": 20.0}, "auc", "auc = 1.5, which is not within 0..1"),
        ({"value": -1.0}, "auc", "auc = -1, which is not within 0..1"),
        ({"value": 1.0, "weight": 1e9}, "auc", "weight = 1e+09, and at most 20 test samples"),
        ({"inference_ms": 221.0}, "accuracy", "call_ms = 221, and at most 220 ms"),
    ],
)
def test_an_evaluation_beyond_what_is_possible_is_refused(
    changes: dict[str, Any], metric: str, sentence: str
) -> None:
    found, _ = judged(evaluated(**changes), metric=metric)
    assert found.failure == "implausible"
    assert sentence in found.detail


def test_weights_that_are_not_finite_count_as_diverged_and_are_named() -> None:
    found, notes = judged(trained(weights=np.full(4, np.nan, np.float32)))
    assert (found.failure, found.wall_s) == ("diverged", 2.0)
    assert "it reports weights that are not finite" in notes[0]


@pytest.mark.parametrize(
    "report",
    [
        trained(),
        trained(samples=50, steps=100, wall_s=16.0, energy_j=59200.0, peak_memory_mib=8800.0),
        trained(loss=float("inf"), temperature_after_c=65261.0),
        trained(failure="out_of_memory", weights=None),
        evaluated(),
        evaluated(loss_sum=float("nan")),
        evaluated(loss_sum=1e38),
        evaluated(value=float("nan"), weight=20.0),
    ],
)
def test_a_report_within_the_bounds_is_taken_as_it_is(report: Report) -> None:
    found, notes = judged(report, metric="auc")
    assert found is report
    assert notes == []


@pytest.mark.parametrize("value", [1.0, -0.0, float("nan")])
def test_a_metric_that_follows_from_counts_has_no_value_of_its_own(value: float) -> None:
    found, (note,) = judged(evaluated(value=value, weight=20.0), metric="accuracy")
    assert found.failure == "implausible"
    assert "it reports a value of accuracy, which follows from its counts" in note


def test_a_metric_of_ones_own_is_no_share() -> None:
    report = evaluated(value=-40.0, weight=1e3)
    assert judged(report, metric="mine:metric")[0] is report


def test_simulated_seconds_are_not_held_against_the_clock_unless_the_device_is_real() -> None:
    report = trained(simulated=True, wall_s=5000.0)
    assert judged(report)[0] is report
    assert judged(trained(simulated=True, wall_s=1e7))[0].failure == "implausible"
    assert judged(report, name="pi-a")[0].failure == "implausible"


def test_a_failure_may_not_be_charged_beyond_the_bounds_either() -> None:
    assert judged(trained(failure="error", wall_s=1e9))[0].failure == "implausible"


def test_a_device_is_named_once_for_each_number_that_it_gets_wrong() -> None:
    notes: list[str] = []
    bounds = Bounds([member(0, name="attic"), member(1, name="shed")], notes.append)
    wrong = (trained(samples=999), trained(samples=999), trained(energy_j=1e9))
    for report in wrong:
        asked = bounds.ask(dict.fromkeys((0, 1), train_request()))
        found = bounds.judge(asked, {0: report, 1: report})
        assert {each.failure for each in found.values()} == {"implausible"}
    assert [note.split(",")[0] for note in notes if "said once" in note] == ["attic", "shed"] * 2
    assert len([note for note in notes if "sits out" in note]) == 2


def test_a_device_that_came_back_with_more_data_may_report_it() -> None:
    bounds = Bounds([member(7)], print)
    more, less = (member(7, train_samples=n, memory_mib=None) for n in (60, 40))
    report = trained(samples=60, peak_memory_mib=9000.0)
    for described, failure in ((None, "implausible"), (more, None), (less, None)):
        bounds.hear(Reply(7, report, described))
        found = bounds.judge(bounds.ask({7: train_request()}), {7: report})
        assert found[7].failure == failure


def test_a_confusion_matrix_is_taken_where_it_agrees_with_the_counts() -> None:
    told = {"hits": (9, 8), "predicted": (11, 9), "actual": (10, 10), "confusion": (9, 1, 2, 8)}
    assert judged(evaluated(**told))[0].failure is None
    few, many = counts_of(50), counts_of(51)
    assert inconsistent(evaluated(**few), 50) is None
    assert inconsistent(evaluated(**many), 51) == "its counts do not add up"


def counts_of(classes: int) -> dict[str, Any]:
    """Twenty samples of class 0, all of them found."""
    counts = (20, *[0] * (classes - 1))
    confusion = (20, *[0] * (classes**2 - 1))
    return {"hits": counts, "predicted": counts, "actual": counts, "confusion": confusion}
