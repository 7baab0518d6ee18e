"""The tuning loop, on a fleet whose devices are slower than their profiles say."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fieldtune.profiles.common.errors import FleetError
from fieldtune.profiles.costmodel.latency import call_ms
from fieldtune.profiles.costmodel.tflite_work import Work
from fieldtune.profiles.device.load import load_profile
from fieldtune.server.costs.calibration import corrections
from fieldtune.server.costs.usage import total_usage
from fieldtune.server.outcomes.trial import Completed, Failed, Infeasible, Outcome, Stopped
from fieldtune.server.results.schema import to_json
from fieldtune.server.results.summarize import summarise
from fieldtune.server.study.load import parse_study
from fieldtune.server.study.space import Configuration
from fieldtune.server.tuner import OptunaTuner
from support.artefacts import read
from support.slow_studies import (
    LARGE,
    PARALLEL,
    SMALL,
    Run,
    killed_again_and_again,
    slow_studies,
    study_text,
    width,
)
from support.slower_devices import FIVE, SLOWER, ZERO

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def run(recorded_artefacts: Path) -> Iterator[Run]:
    with slow_studies(recorded_artefacts) as run:
        yield run


@pytest.fixture(scope="module")
def finished(run: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Outcome], str]:
    return run(tmp_path_factory.mktemp("run") / "slow")


def test_what_devices_report_rules_out_what_was_allowed_before(
    finished: tuple[list[Outcome], str],
) -> None:
    trained = [o for o in finished[0] if isinstance(o, Completed)]
    ruled_out = [o for o in finished[0] if isinstance(o, Infeasible)]
    assert width(trained[0]) == LARGE
    assert {width(o) for o in trained[-3:]} == {SMALL}
    assert {width(o) for o in ruled_out} == {LARGE}
    assert all(o.forecast.devices[ZERO].slack["inference_ms"] > 0 for o in ruled_out)


def test_the_grey_box_does_not_propose_what_was_measured_to_be_too_slow(
    run: Run, tmp_path: Path
) -> None:
    outcomes, _ = run(tmp_path / "slow", tuner_name="grey")
    assert width(outcomes[0]) == LARGE
    assert {width(o) for o in outcomes[5:]} == {SMALL}
    assert all(isinstance(o, Completed) for o in outcomes)


def test_a_study_whose_defaults_turn_out_to_fit_no_device_ends_without_them(
    finished: tuple[list[Outcome], str],
) -> None:
    study = parse_study(study_text(1000, "tpe"), "s")
    told = [
        replace(o, forecast=replace(o.forecast, devices={ZERO: replace(seen, fitting=fitting)}))
        for o in finished[0]
        if isinstance(o, Completed)
        for seen in [o.forecast.devices[ZERO]]
        for fitting in [0 if width(o) == LARGE else seen.clients]
    ]
    summary = summarise(study, told, corrections(told), {})
    assert summary.defaults is None
    assert {point.configuration["width"] for point in summary.front} == {SMALL}
    assert {a.state for a in summary.attempts if a.configuration["width"] == LARGE} == {
        "infeasible"
    }
    assert to_json(summary)


def test_all_trials_are_compared_by_one_calibration(
    finished: tuple[list[Outcome], str],
) -> None:
    trained = [o for o in finished[0] if isinstance(o, Completed)]
    for size in (SMALL, LARGE):
        assert len({o.objectives["inference_ms"] for o in trained if width(o) == size}) == 1


def test_the_front_holds_only_what_fits_as_measured_and_costs_what_was_measured(
    finished: tuple[list[Outcome], str],
) -> None:
    summary = json.loads(finished[1].partition("\n}\n")[0] + "}")
    trained = {o.proposal.number: o for o in finished[0] if isinstance(o, Completed)}
    assert summary["front"]
    for point in summary["front"]:
        assert point["configuration"]["width"] == SMALL
        seen = trained[point["trial"]].forecast.devices[ZERO].cost.inference_ms
        assert point["devices"][ZERO]["costs"]["inference_ms"] == {
            "value": seen.value,
            "low": seen.low,
            "high": seen.high,
        }
        predicted = trained[point["trial"]].observed[ZERO].quantities["inference"].predicted
        assert seen.high / seen.value < predicted.high / predicted.value
    (training, inference) = summary["reported"][ZERO]  # no device tells its memory or power
    assert (training["quantity"], inference["quantity"]) == ("training", "inference")
    assert training["factor"]["value"] == pytest.approx(2, rel=0.05)
    assert training["trials"] == len(trained)
    assert not training["simulated"]
    assert summary["reported"][FIVE][0]["factor"]["value"] == pytest.approx(1, rel=0.05)


def test_a_trials_weights_are_on_the_disk_before_it_is_told(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A power cut loses what is not on the disk: a trial that the database holds has its weights.
    synced: list[Path] = []
    fsync, tell = os.fsync, OptunaTuner.tell
    told = []

    def noted(file: int) -> None:
        synced.append(Path(f"/proc/self/fd/{file}").readlink())
        fsync(file)

    def checked(tuner: OptunaTuner, outcome: Outcome, then: Configuration | None = None) -> None:
        if isinstance(outcome, Completed):
            weights = tmp_path / f"slow/models/trial-{outcome.proposal.number:04d}/weights.npy"
            assert weights.is_file()
            parts = [f for f in synced if f.parent == weights.parent and weights.name in f.name]
            assert parts
            assert synced.index(parts[0]) < synced.index(weights.parent)
            told.append(outcome)
        tell(tuner, outcome, then)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(OptunaTuner, "tell", checked)
    run(tmp_path / "slow", trials=3)
    assert len(told) == 3


def test_who_answers_first_changes_nothing(
    run: Run, finished: tuple[list[Outcome], str], tmp_path: Path
) -> None:
    assert run(tmp_path / "slow", newest_first=True)[1] == finished[1]


def test_a_study_of_which_nothing_can_ever_be_trained_ends_although_it_uses_no_budget(
    run: Run, tmp_path: Path
) -> None:
    never = "[fleet.faults]\nout_of_memory = 1.0"
    said = (
        r"^50 trials in a row failed and used none of the study's budget \(device_hours\), so it "
        r"would not end; the last one: .* \(6 x out_of_memory\); "
        r"change fleet\.faults\.out_of_memory$"
    )
    with pytest.raises(FleetError, match=said):
        run(tmp_path / "slow", budget="device_hours = 1", tuner_keys=never)


def test_a_study_that_is_all_repetitions_begins_with_its_defaults(run: Run, tmp_path: Path) -> None:
    keys = {"tuner_name": "random", "tuner_keys": "phases = { validate = 1.0 }"}
    outcomes, _ = run(tmp_path / "slow", trials=3, wider=100.0, **keys)
    assert width(outcomes[0]) == LARGE
    assert len(sent(outcomes)) == 3


def test_a_model_that_is_refused_fails_its_trial_in_a_study_that_goes_on_too(
    run: Run, tmp_path: Path
) -> None:
    together = {"refused": SMALL, "tuner_name": "random"}
    whole, _ = run(tmp_path / "whole", trials=6, **together)
    assert {type(o) for o in whole} >= {Completed, Failed}
    for trials in range(1, 7):
        parts, _ = run(tmp_path / "parts", trials=trials, **together)
    assert [type(o) for o in parts] == [type(o) for o in whole]


def test_a_study_killed_again_and_again_learns_the_same_of_its_devices(
    run: Run, finished: tuple[list[Outcome], str], tmp_path: Path
) -> None:
    assert killed_again_and_again(run, tmp_path / "slow") == finished[1]


def test_a_coordinator_that_restarts_more_often_than_a_trial_lasts_comes_to_the_end(
    run: Run, tmp_path: Path
) -> None:
    # Three trials in flight take 23 answers for 2.5 of their 6 rounds.
    keys = {"rounds": 6, "trials": 4}
    _, files = run(tmp_path / "once", **keys)
    assert killed_again_and_again(run, tmp_path / "slow", longer=0, **keys) == files
    assert not (tmp_path / "slow/checkpoints").exists()


@pytest.mark.parametrize("tuner_name", ["grey", "tpe"])
def test_a_study_killed_after_its_limits_were_changed_goes_on_as_if_it_had_not_been(
    run: Run, tmp_path: Path, tuner_name: str
) -> None:
    keys: dict[str, Any] = {"tuner_name": tuner_name}
    for folder in ("once", "killed"):
        before, _ = run(tmp_path / folder, trials=5, **keys)
    changed = {**keys, "wider": 100.0, "trials": 14}
    after, files = run(tmp_path / "once", **changed)
    for old, new in zip(before, after, strict=False):
        if isinstance(new, Completed):
            assert isinstance(old, Completed)
            limit = "inference_ms"
            assert new.forecast.constraints[limit] < old.forecast.constraints[limit]
    assert len(sent(after)) == 14
    assert killed_again_and_again(run, tmp_path / "killed", **changed) == files


RUNGS: dict[str, Any] = {
    "rounds": 4,
    "trials": 14,
    "tuner_name": "random",
    "tuner_keys": "rungs = [1, 2]",
}


@pytest.fixture(scope="module")
def with_rungs(run: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Outcome], str]:
    return run(tmp_path_factory.mktemp("rungs") / "slow", **RUNGS)


def sent(outcomes: Sequence[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if not isinstance(outcome, Infeasible)]


def test_rungs_stop_trials_which_are_in_no_front(
    with_rungs: tuple[list[Outcome], str],
) -> None:
    outcomes, files = with_rungs
    stopped = [outcome for outcome in outcomes if isinstance(outcome, Stopped)]
    assert len(sent(outcomes)) == 14
    assert 2 <= len(stopped) < 14
    assert {outcome.stopped_after for outcome in stopped} <= {1, 2}
    for outcome in sent(outcomes):
        assert isinstance(outcome, (Completed, Stopped))
        assert max(outcome.learned.curve) == min(outcome.learned.rounds, 2)
    summary = json.loads(files.partition("\n}\n")[0] + "}")
    numbers = {outcome.proposal.number for outcome in stopped}
    assert summary["stopped"] == len(stopped)
    assert not numbers & {point["trial"] for point in summary["front"]}
    states = {each["trial"]: (each["state"], each["rounds"]) for each in summary["attempts"]}
    for outcome in stopped:
        assert states[outcome.proposal.number] == ("stopped", outcome.stopped_after)
    took = {device: each["sent_bytes"] for device, each in summary["spent"].items()}
    assert sum(took.values()) == pytest.approx(total_usage(outcomes).sent_bytes)


def test_rungs_stop_the_same_trials_whoever_answers_first_and_after_kills(
    run: Run, with_rungs: tuple[list[Outcome], str], tmp_path: Path
) -> None:
    files = killed_again_and_again(run, tmp_path / "s", newest_first=True, **RUNGS)
    assert files == with_rungs[1]


def test_a_stopped_trial_costs_what_was_done(with_rungs: tuple[list[Outcome], str]) -> None:
    by_rounds: dict[int, list[float]] = {}
    for outcome in with_rungs[0]:
        if isinstance(outcome, (Completed, Stopped)) and width(outcome) == SMALL:
            expense = sum(each.sent_bytes for each in outcome.expense.values())
            by_rounds.setdefault(outcome.learned.rounds, []).append(expense)
    assert min(by_rounds) < 4
    assert max(by_rounds[min(by_rounds)]) < 0.75 * min(by_rounds[4])


def test_a_budget_ends_the_study_at_the_same_trial_whoever_answers_first_and_after_kills(
    run: Run, with_rungs: tuple[list[Outcome], str], tmp_path: Path
) -> None:
    whole = with_rungs[0]
    budget = 0.5 * total_usage(whole).sent_bytes
    keys = {**RUNGS, "study_keys": f"sent_bytes = {budget}"}
    outcomes, files = run(tmp_path / "once", **keys)
    assert PARALLEL < len(sent(outcomes)) < 14
    assert total_usage(sent(outcomes)[: 1 - PARALLEL]).sent_bytes >= budget
    assert total_usage(sent(outcomes)[:-PARALLEL]).sent_bytes < budget
    # So what is overdrawn is less than what as many trials take as may be in flight.
    summary = json.loads(files.partition("\n}\n")[0] + "}")
    (bytes_used,) = (each for each in summary["budget"] if each["budget"] == "sent_bytes")
    overdrawn = bytes_used["used"] - bytes_used["of"]
    assert 0 < overdrawn < total_usage(sent(outcomes)[-PARALLEL:]).sent_bytes
    same = whole[: len(outcomes)]  # but for what later trials have taught of costs
    assert [(o.proposal, o.learned) for o in outcomes if isinstance(o, Completed)] == [
        (o.proposal, o.learned) for o in same if isinstance(o, Completed)
    ]
    assert killed_again_and_again(run, tmp_path / "s", newest_first=True, **keys) == files
    keys["study_keys"] = ""  # with more to spend it goes on
    assert run(tmp_path / "once", **keys)[0] == whole


def test_phases_follow_each_other_and_finalists_are_run_again(run: Run, tmp_path: Path) -> None:
    keys = {
        "tuner_name": "grey",
        "trials": 16,
        "tuner_keys": "phases = { explore = 0.25, tune = 0.25, validate = 0.25 }\nrungs = [1]",
    }
    outcomes, files = run(tmp_path / "once", **keys)
    phases = [outcome.proposal.phase for outcome in sent(outcomes)]
    assert phases[:12] == ["explore"] * 4 + ["refine"] * 4 + ["tune"] * 4
    # What is left once nothing is in doubt is used as the phase before it.
    assert "validate" in set(phases[12:]) <= {"validate", "tune"}
    earlier = [outcome.proposal.configuration for outcome in sent(outcomes)[:12]]
    for outcome in sent(outcomes)[12:]:
        if outcome.proposal.phase != "validate":
            continue
        assert isinstance(outcome, Completed)  # a finalist is never stopped
        assert not outcome.learned.curve
        assert outcome.proposal.configuration in earlier
    seeds = [outcome.seed for outcome in outcomes if isinstance(outcome, Completed)]
    assert len(set(seeds)) == len(seeds)
    assert killed_again_and_again(run, tmp_path / "s", newest_first=True, **keys) == files


def test_ten_trials_pin_a_device_type_that_is_twice_as_slow_as_its_profile_says(
    run: Run, tmp_path: Path
) -> None:
    told, _ = run(tmp_path / "slow", wider=100.0, rounds=1)
    assert len(told) == 10
    for profile, slower in SLOWER.items():
        off, holds = [], []
        for outcome in told:
            cost = outcome.forecast.devices[profile].cost
            manifest = read(f"mlp-{width(outcome)}").manifest
            for kind, seen in (("infer", cost.inference_ms), ("train", cost.step_ms)):
                work, lasting = Work.from_json(manifest.work[kind]), kind == "train"
                stated = call_ms(load_profile(profile), work, lasting=lasting).value
                assert stated < 1.0 or width(outcome) == LARGE
                off.append(seen.value / (slower * stated))
                holds.append(seen.low <= slower * stated <= seen.high)
        assert np.median(off) == pytest.approx(1, abs=0.1)
        assert all(holds)
