"""One device that lies is left out, by name, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.client.contract.messages import (
    Description,
    EvaluateReport,
    EvaluateRequest,
    TrainReport,
    TrainRequest,
)
from fieldtune.server.compiler.cache import ArtefactCache
from fieldtune.server.compiler.service import CompileService
from fieldtune.server.federation.fedavg import Report, Request
from fieldtune.server.federation.fleet import Reply
from fieldtune.server.federation.plausible import Bounds
from fieldtune.server.outcomes.trial import Completed
from fieldtune.server.report.notes import notes as explained
from support.malicious_devices import (
    LIAR,
    NAMES,
    Ended,
    Forgery,
    Kind,
    all_right,
    fails,
    fleet_of,
    honest,
    huge_weights,
    says,
    study_with,
    trains_to,
)
from support.scripted_devices import Time

KINDS: tuple[Kind, ...] = ("simulated", "real")
LIES: dict[str, Forgery] = {
    "training samples": says("train", samples=10**9),
    "weights": huge_weights,
    "test samples": all_right("evaluate"),
    "seconds": says("train", wall_s=1e9),
    "joules": says("evaluate", energy_j=1e12),
}


@pytest.fixture(scope="module")
def service(artefact_cache: Path) -> Iterator[CompileService]:
    with CompileService(ArtefactCache(artefact_cache)) as service:
        yield service


@pytest.fixture(scope="module", params=KINDS)
def without(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    service: CompileService,
) -> tuple[Kind, dict[str, Ended]]:
    """Studies in which one device can never train, or never test."""
    kind: Kind = request.param
    folder = tmp_path_factory.mktemp("without")
    return kind, {
        asked: study_with(kind, fails(asked), folder / asked, service)
        for asked in ("train", "evaluate")
    }


@pytest.mark.integration
@pytest.mark.parametrize("number", LIES)
def test_a_study_with_one_liar_is_the_study_without_its_reports(
    without: tuple[Kind, dict[str, Ended]], number: str, tmp_path: Path, service: CompileService
) -> None:
    kind, by_message = without
    lied = study_with(kind, LIES[number], tmp_path / "study", service)
    expected = by_message["evaluate" if number in ("test samples", "joules") else "train"]
    assert lied.weights == expected.weights
    for mine, other in zip(lied.outcomes, expected.outcomes, strict=True):
        assert isinstance(mine, Completed)
        assert isinstance(other, Completed)
        assert mine.learned.measures == other.learned.measures
        if number != "weights":  # the time that such a training took is charged as measured
            assert mine.expense == other.expense
        assert mine.learned.failures == {"implausible": other.learned.failures["bad_data"]}
    total = sum(outcome.learned.failures["implausible"] for outcome in lied.outcomes)  # type: ignore[union-attr]
    assert lied.summary.failures == {"implausible": total}
    name = NAMES[LIAR] if kind == "real" else f"client {LIAR}"
    said = [note for note in lied.notes if "implausible" in note]
    assert [note.split(",")[0] for note in said] == [name]


@pytest.mark.integration
@pytest.mark.parametrize("times", [10.0, -100.0])
def test_an_update_of_any_size_counts_as_one_of_ordinary_size(
    times: float, tmp_path: Path, service: CompileService
) -> None:
    forge = trains_to(lambda sent, trained: sent + times * (trained - sent))
    plain, lied = (
        study_with("real", each, tmp_path / name, service, rounds=3)
        for name, each in (("plain", honest), ("lied", forge))
    )
    for mine, other in zip(lied.outcomes, plain.outcomes, strict=True):
        assert isinstance(mine, Completed)
        assert isinstance(other, Completed)
        error = mine.learned.measures["error"]
        assert error == pytest.approx(other.learned.measures["error"], abs=0.1)
    (said,) = [note for note in lied.notes if "scaled down" in note]
    assert said.startswith(f"{NAMES[LIAR]}, trial ")
    assert "update scaled down (said once): it is " in said
    assert lied.summary.refused == {NAMES[LIAR]: {"clipped": 6}}
    assert f"{NAMES[LIAR]}: clipped (6)" in explained(lied.summary)["Reports refused"]
    assert plain.summary.refused == {}


@pytest.mark.integration
def test_a_device_that_is_refused_again_and_again_sits_out(
    tmp_path: Path, service: CompileService
) -> None:
    lied = study_with("real", LIES["seconds"], tmp_path / "study", service, rounds=4)
    failures = lied.summary.failures
    assert failures["implausible"] >= 3
    assert failures["sits_out"] > failures["implausible"]
    assert [note for note in lied.notes if "sits out until" in note]


@pytest.mark.integration
def test_who_lies_of_a_deployable_model_does_not_count_in_what_it_is_worth(
    tmp_path: Path, service: CompileService
) -> None:
    asked = "evaluate.variant"
    lied, without = (
        study_with("simulated", forge, tmp_path / name, service)
        for name, forge in (("lied", all_right(asked)), ("without", fails(asked)))
    )
    assert lied.summary == without.summary
    assert [note.split(",")[0] for note in lied.notes] == [f"client {LIAR}"]


@pytest.mark.integration
@pytest.mark.parametrize("kind", KINDS)
def test_of_honest_devices_nothing_is_refused(
    kind: Kind, tmp_path: Path, service: CompileService
) -> None:
    ended = study_with(kind, honest, tmp_path / "study", service)
    assert not [note for note in ended.notes if "implausible" in note]
    assert ended.summary.failures == {}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"train_samples": 10**12}, "it describes itself with 1000000000000 training samples"),
        ({"test_samples": 10**12}, "it describes itself with 1000000000000 test samples"),
        ({"memory_mib": 1e12}, "it describes itself with 1000000000000 MiB of memory"),
    ],
)
def test_a_device_that_cannot_be_what_it_describes_takes_no_part(
    kind: Kind, changes: dict[str, object], sentence: str
) -> None:
    notes: list[str] = []
    fleet = fleet_of(kind, says("query.describe", **changes), notes.append)
    assert [member.client for member in fleet.members()] == [0, 1, 2, 3, 4, 5, 6, 8, 9]
    name = NAMES[LIAR] if kind == "real" else f"client {LIAR}"
    assert [note for note in notes if note.startswith(f"{name} cannot take part: {sentence}")]
    fleet.close()


def member(client: int, **changes: Any) -> Description:
    told: dict[str, Any] = {
        "client": client, "profile": "raspberry-pi-5", "train_samples": 50, "test_samples": 20,
        "runtime": "x 1", "memory_mib": 8000.0,
    }  # fmt: skip
    return Description(**(told | changes))


def train_request(**changes: Any) -> TrainRequest:
    told: dict[str, Any] = {
        "trial": 3, "round": 2, "artefact": "a" * 64, "weights": np.ones(4, np.float32), "seed": 0,
        "batch_size": 8, "local_epochs": 2, "hyperparameter_names": ("learning_rate",),
        "hyperparameter_values": (0.1,),
    }  # fmt: skip
    return TrainRequest(**(told | changes))


def trained(**changes: Any) -> TrainReport:
    told: dict[str, Any] = {
        "trial": 3, "round": 2, "samples": 50, "steps": 100, "loss": 0.5, "wall_s": 2.0,
        "peak_memory_mib": 200.0, "energy_j": 12.0, "call_p50_ms": 15.0, "host_cpu_s": 2.0,
        "weights": np.full(4, 1.5, np.float32),
    }  # fmt: skip
    return TrainReport(**(told | changes))


def evaluated(**changes: Any) -> EvaluateReport:
    told: dict[str, Any] = {
        "trial": 3, "round": 2, "samples": 20, "loss_sum": 30.0, "hits": (9, 8),
        "predicted": (10, 10), "actual": (10, 10), "wall_s": 0.2, "inference_ms": 10.0,
    }  # fmt: skip
    return EvaluateReport(**(told | changes))


def judged(
    report: Report, *, metric: str = "accuracy", after_s: float = 10.0, **changes: Any
) -> tuple[Report, list[str]]:
    """What becomes of one device's report so long after it was asked, and what is said."""
    notes, time = [], Time()  # type: tuple[list[str], Time]
    bounds = Bounds([member(7, **changes)], notes.append, time.clock)
    request: Request = train_request()
    if isinstance(report, EvaluateReport):
        request = EvaluateRequest(
            trial=3, round=2, artefact="a" * 64, weights=np.ones(4, np.float32), metric=metric
        )
    asked = bounds.ask({7: request}, classes=2)
    time.sleep(after_s)
    return bounds.judge(asked, {7: report})[7], notes


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
        ({"samples": 21}, "accuracy", "it reports 21 test samples and described 20"),
        ({"loss_sum": -1.0}, "accuracy", "loss_sum = -1, and no loss is negative"),
        ({"value": 1.5, "weight": 20.0}, "auc", "auc = 1.5, which is not within 0..1"),
        ({"value": -1.0}, "accuracy", "accuracy = -1, which is not within 0..1"),
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


def sizes_judged(
    sizes: list[float | None], of: list[float] | None = None, sent: float = 1.0
) -> list[str | None]:
    """What becomes of trainings with these largest weights; None: it diverged.

    ``of`` are the learning rates with which they trained, ``sent`` the largest weight sent out.
    """
    bounds = Bounds([member(client) for client in range(len(sizes))], lambda _: None)
    rates = of or [0.1] * len(sizes)
    asked = bounds.ask(
        {
            client: train_request(
                weights=np.full(2, sent, np.float32), hyperparameter_values=(rate,)
            )
            for client, rate in enumerate(rates)
        }
    )
    answers = {
        client: trained(failure="diverged", weights=None)
        if size is None
        else trained(weights=np.array([0.0, -size], np.float32))
        for client, size in enumerate(sizes)
    }
    return [report.failure for report in bounds.judge(asked, answers).values()]


NO = "implausible"


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([1, 2, 1e20], [None, None, NO]),
        ([1, 1e20], [None, NO]),
        ([0, 1e20], [None, NO]),  # where others do nothing, too
        ([1, 2, 3, 1e20, None], [None, None, None, NO, "diverged"]),
        ([1, 2, 9e5], [None] * 3),
        ([1, 2, 1e20, 1e20, 3], [None, None, NO, NO, None]),
        ([1e20], [None]),  # nobody to compare it with
        # Most trainings diverge: whatever is finite stays, as wide as it may be spread.
        ([1e20, 1e12, 1e8, 1e5], [None] * 4),
        ([1e37, 2e3, 2e3], [None] * 3),
        ([1e20, None, None, 1], [None, "diverged", "diverged", None]),
        ([1e20, None, 1], [None, "diverged", None]),
    ],
)
def test_weights_are_refused_where_one_training_alone_runs_away(
    sizes: list[float | None], expected: list[str | None]
) -> None:
    assert sizes_judged(sizes) == expected


def test_what_a_training_with_refused_weights_took_is_charged_all_the_same() -> None:
    bounds = Bounds([member(0), member(1)], lambda _: None)
    runaway = trained(weights=np.full(4, 1e20, np.float32))
    asked = bounds.ask(dict.fromkeys((0, 1), train_request()))
    refused = bounds.judge(asked, {0: runaway, 1: trained()})[0]
    assert refused == runaway.model_copy(
        update={"failure": "implausible", "detail": refused.detail}
    )


def test_what_counts_as_huge_grows_with_the_weights_sent_out() -> None:
    assert sizes_judged([1e9, 1e9, 1e14], sent=1e9) == [None] * 3
    assert sizes_judged([1e9, 1e9, 1e16], sent=1e9) == [None, None, NO]


def test_a_configuration_that_diverges_alone_is_compared_with_no_other() -> None:
    assert sizes_judged([1, 1, 1e20], of=[0.1, 0.1, 9.0]) == [None] * 3
    assert sizes_judged([1, 1e20, 1e20], of=[0.1, 0.1, 9.0]) == [None, NO, None]


@given(
    st.lists(st.one_of(st.none(), st.floats(1e4, 1e38)), min_size=1, max_size=9),
    st.lists(st.floats(0, 1e38), max_size=8),
    st.randoms(use_true_random=False),
)
def test_a_round_that_diverges_for_most_is_left_as_it_is(
    huge: list[float | None], others: list[float], random: Any
) -> None:
    sizes = [*huge, *others[: len(huge) - 1]]
    random.shuffle(sizes)
    assert NO not in sizes_judged(sizes)


def test_a_device_is_named_for_large_updates_only_if_most_of_its_updates_are() -> None:
    notes: list[str] = []
    bounds = Bounds([member(0, name="attic"), member(1, name="shed")], notes.append)
    for round in range(10):
        asked = bounds.ask(dict.fromkeys((0, 1), train_request(round=round)))
        bounds.judge(asked, dict.fromkeys((0, 1), trained(round=round)))
        bounds.clipped(3)(0, round, 9.0)
        if round % 2:
            bounds.clipped(3)(1, round, 9.0)
    assert [note.split(",")[0] for note in notes] == ["attic"]
    assert bounds.refusals.in_trial(3) == {"attic": {"clipped": 10}}
