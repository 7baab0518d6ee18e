"""One device that lies is left out, by name, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fieldtune.server.compiler.cache import ArtefactCache
from fieldtune.server.compiler.service import CompileService
from fieldtune.server.outcomes.trial import Completed
from fieldtune.server.report.notes import notes as explained
from support.forgeries import Forgery, all_right, fails, honest, huge_weights, says, trains_to
from support.malicious_devices import LIAR, NAMES, Ended, Kind, fleet_of, study_with

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
        untimed = [{**each.learned.measures, "time_h": 0} for each in (mine, other)]
        assert untimed[0] == untimed[1]  # the time of real devices is that of this machine
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
