"""The tuning loop, on a fleet whose devices are slower than their profiles say."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fieldtune.profiles.catalogue import load_profile
from fieldtune.profiles.cost import MESSAGE_BYTES, call_ms
from fieldtune.profiles.errors import CompileError
from fieldtune.profiles.work import Work
from fieldtune.server.artefacts import Artefacts
from fieldtune.server.compiler.cache import ArtefactCache
from fieldtune.server.compiler.manifest import Artefact
from fieldtune.server.compiler.service import CompileService
from fieldtune.server.coordinator import Coordinator
from fieldtune.server.expense import altogether
from fieldtune.server.forecast import Forecaster
from fieldtune.server.pareto import to_json
from fieldtune.server.rejudge import rejudged
from fieldtune.server.runfolder import RunFolder, trials_csv
from fieldtune.server.space import Configuration
from fieldtune.server.spending import Spending
from fieldtune.server.steering import last_limits
from fieldtune.server.studyfile import parse_study
from fieldtune.server.summary import summarise
from fieldtune.server.trials import Completed, Failed, Infeasible, Outcome, Stopped
from fieldtune.server.tune import make_artefacts, make_formulas, open_tuner
from slower_devices import FIVE, MEMBERS, SLOWER, ZERO, PulledPlugError, SlowFleet

SMALL, LARGE = 8, 1024
PARALLEL = 3
STUDY = """
[study]
name = "slow"
trials = 10
rounds = ROUNDS
STUDY_KEYS
objectives = ["error", "inference_ms"]
parallel = 3
[task]
data = "digits"
model = "mlp"
[fleet]
clients = 4
devices = { "raspberry-pi-zero-2w" = 0.5, "raspberry-pi-5" = 0.5 }
[limits."raspberry-pi-zero-2w"]
inference_ms = LIMIT
[space.model]
width = { choices = [8, 1024], default = 1024 }
[space.client]
learning_rate = { low = 0.01, high = 1.0, log = true }
[space.server]
clients_per_round = { choices = [3] }
[tuner]
name = "TUNER"
TUNER_KEYS
"""


def study_text(
    limit: float, tuner_name: str, *, rounds: int = 2, study_keys: str = "", tuner_keys: str = ""
) -> str:
    text = STUDY.replace("LIMIT", f"{limit}").replace("ROUNDS", str(rounds))
    text = text.replace("STUDY_KEYS", study_keys).replace("TUNER_KEYS", tuner_keys)
    return text.replace("TUNER", tuner_name)


class Refusing:
    """Artefacts, but for models that are refused."""

    def __init__(self, artefacts: Artefacts, width: int | None) -> None:
        self._artefacts, self._width, self.key = artefacts, width, artefacts.key

    def of(self, configuration: Configuration) -> Future[Artefact]:
        if configuration.model["width"] != self._width:
            return self._artefacts.of(configuration)
        refused: Future[Artefact] = Future()
        refused.set_exception(CompileError("too wide"))
        return refused


class Silent:
    def round_started(self, trial: int, number: int) -> None: ...
    def told(self, outcome: Outcome) -> None: ...


Run = Callable[..., tuple[list[Outcome], str]]


@pytest.fixture(scope="module")
def run(artefact_cache: Path) -> Run:
    """Run, or go on with, the study in a folder: its outcomes, and as the files say them."""
    with CompileService(ArtefactCache(artefact_cache)) as service:
        study = parse_study(study_text(1.0, "tpe"), "s")
        artefacts = make_artefacts(study, MEMBERS, service)

        def inference_ms(width: int) -> float:
            configuration = Configuration(model={"width": width}, client={}, server={})
            manifest = artefacts.of(configuration).result().manifest
            return call_ms(load_profile(ZERO), Work.from_json(manifest.work["infer"])).value

        # The large one fits as predicted; as measured only the small one does.
        limit = SLOWER[ZERO] * (inference_ms(SMALL) * inference_ms(LARGE)) ** 0.5
        assert inference_ms(LARGE) < limit

        def run(
            path: Path,
            *,
            answers: float = float("inf"),
            newest_first: bool = False,
            tuner_name: str = "tpe",
            refused: int | None = None,
            trials: int | None = None,
            wider: float = 1.0,
            **keys: Any,
        ) -> tuple[list[Outcome], str]:
            text = study_text(limit * wider, tuner_name, **keys)
            with RunFolder(path, text, trials=trials) as folder:
                tuner = open_tuner(folder)
                profiles = {name: load_profile(name) for name in SLOWER}
                forecaster = Forecaster(folder.study, MEMBERS, profiles)
                artefacts: Any = Refusing(make_artefacts(folder.study, MEMBERS, service), refused)
                if limits := last_limits(tuner.changes):
                    judged = rejudged(folder.study, tuner.history(), forecaster, artefacts, limits)
                    tuner.revise(judged)
                Coordinator(
                    folder,
                    tuner,
                    SlowFleet(answers, newest_first=newest_first),
                    MEMBERS,
                    forecaster,
                    artefacts,
                    make_formulas(folder.study, forecaster, artefacts, tuner.history()),
                    Silent(),
                    Spending(),
                ).run()
                told = tuner.history()
                files = to_json(summarise(folder.study, told)) + trials_csv(folder.study, told)
                return told, files

        yield run


@pytest.fixture(scope="module")
def finished(run: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Outcome], str]:
    return run(tmp_path_factory.mktemp("run") / "slow")


def width(outcome: Outcome) -> object:
    return outcome.proposal.configuration.model["width"]


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
    summary = summarise(study, told)
    assert summary.defaults is None
    assert {point.configuration["width"] for point in summary.front} == {SMALL}
    assert {a.state for a in summary.attempts if a.configuration["width"] == LARGE} == {
        "infeasible"
    }
    assert to_json(summary)


def test_costs_that_the_optimizer_is_told_stay_comparable(
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
        predicted = trained[point["trial"]].forecast.devices[ZERO].cost.inference_ms
        seen = point["devices"][ZERO]["costs"]["inference_ms"]
        assert seen["value"] == pytest.approx(2 * predicted.value, rel=0.05)
        assert seen["high"] / seen["value"] < predicted.high / predicted.value
    (training, inference) = summary["reported"][ZERO]  # no device tells its memory or power
    assert (training["quantity"], inference["quantity"]) == ("training", "inference")
    assert training["factor"]["value"] == pytest.approx(2, rel=0.05)
    assert training["trials"] == len(trained)
    assert not training["simulated"]
    assert summary["reported"][FIVE][0]["factor"]["value"] == pytest.approx(1, rel=0.05)


def test_who_answers_first_changes_nothing(
    run: Run, finished: tuple[list[Outcome], str], tmp_path: Path
) -> None:
    assert run(tmp_path / "slow", newest_first=True)[1] == finished[1]


def test_a_model_that_is_refused_fails_its_trial_in_a_study_that_goes_on_too(
    run: Run, tmp_path: Path
) -> None:
    together = {"refused": SMALL, "tuner_name": "random"}
    whole, _ = run(tmp_path / "whole", trials=6, **together)
    assert {type(o) for o in whole} >= {Completed, Failed}
    for trials in range(1, 7):
        parts, _ = run(tmp_path / "parts", trials=trials, **together)
    assert [type(o) for o in parts] == [type(o) for o in whole]


def killed_again_and_again(run: Run, path: Path, **keys: Any) -> str:
    """What the files say in the end."""
    kills = 0
    while True:
        try:
            _, files = run(path, answers=23 + 10 * kills, **keys)
        except PulledPlugError:
            kills += 1
        else:
            break
    assert kills > 1
    return files


def test_a_study_killed_again_and_again_learns_the_same_of_its_devices(
    run: Run, finished: tuple[list[Outcome], str], tmp_path: Path
) -> None:
    assert killed_again_and_again(run, tmp_path / "slow") == finished[1]


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
    assert sum(took.values()) == pytest.approx(altogether(outcomes).sent_bytes)


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
    budget = 0.5 * altogether(whole).sent_bytes
    keys = {**RUNGS, "study_keys": f"sent_bytes = {budget}"}
    outcomes, files = run(tmp_path / "once", **keys)
    assert PARALLEL < len(sent(outcomes)) < 14
    assert altogether(sent(outcomes)[: 1 - PARALLEL]).sent_bytes >= budget
    assert altogether(sent(outcomes)[:-PARALLEL]).sent_bytes < budget
    # So what is overdrawn is less than what as many trials take as may be in flight.
    summary = json.loads(files.partition("\n}\n")[0] + "}")
    (bytes_used,) = (each for each in summary["budget"] if each["budget"] == "sent_bytes")
    overdrawn = bytes_used["used"] - bytes_used["of"]
    assert 0 < overdrawn < altogether(sent(outcomes)[-PARALLEL:]).sent_bytes
    assert outcomes == whole[: len(outcomes)]
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
    assert set(phases[12:]) == {"validate"}
    earlier = [outcome.proposal.configuration for outcome in sent(outcomes)[:12]]
    for outcome in sent(outcomes)[12:]:
        assert isinstance(outcome, Completed)  # a finalist is never stopped
        assert not outcome.learned.curve
        assert outcome.proposal.configuration in earlier
    seeds = [outcome.seed for outcome in outcomes if isinstance(outcome, Completed)]
    assert len(set(seeds)) == len(seeds)
    assert killed_again_and_again(run, tmp_path / "s", newest_first=True, **keys) == files


FEDEX: dict[str, Any] = {"rounds": 3, "tuner_name": "fedex"}


@pytest.fixture(scope="module")
def explored(run: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Outcome], str]:
    return run(tmp_path_factory.mktemp("fedex") / "slow", **FEDEX)


def test_a_trial_of_fedex_is_that_of_the_configuration_which_it_came_to(
    explored: tuple[list[Outcome], str],
) -> None:
    trained = [outcome for outcome in explored[0] if isinstance(outcome, Completed)]
    assert trained[0].proposal.number == 0  # the defaults, which are trained alone
    assert trained[0].learned.choice is None
    moved = 0
    for outcome in trained[1:]:
        choice = outcome.learned.choice
        assert choice is not None
        assert len(choice.configurations) == 4
        assert outcome.proposal.configuration.client == choice.configurations[choice.mode]
        assert sum(choice.probabilities) == pytest.approx(1)
        assert choice.probabilities[choice.mode] > 1 / 4
        moved += choice.mode > 0
    assert moved
    assert "of 4 configurations" in explored[1]


def test_a_trial_of_fedex_is_charged_for_what_its_clients_evaluate_too(
    run: Run, explored: tuple[list[Outcome], str], tmp_path: Path
) -> None:
    def messages(outcome: Outcome) -> float:
        assert isinstance(outcome, Completed)
        return sum(each.sent_bytes for each in outcome.expense.values())

    plain = run(tmp_path / "plain", rounds=3, tuner_name="random")[0]
    pairs = [
        (ours, theirs)
        for ours, theirs in zip(explored[0], plain, strict=False)
        if isinstance(ours, Completed)
        and isinstance(theirs, Completed)
        and width(ours) == width(theirs)
        and ours.learned.choice
    ]
    assert pairs
    for ours, theirs in pairs:
        # Three clients in each of three rounds answer once more, without weights.
        assert messages(ours) - messages(theirs) == pytest.approx(9 * MESSAGE_BYTES.value)
        assert ours.learned.device_s > theirs.learned.device_s


def test_a_study_by_fedex_is_the_same_whoever_answers_first_and_after_kills(
    run: Run, explored: tuple[list[Outcome], str], tmp_path: Path
) -> None:
    assert killed_again_and_again(run, tmp_path / "s", newest_first=True, **FEDEX) == explored[1]
