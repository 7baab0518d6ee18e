"""Every sampler that a study may name, behind ask and tell."""

from __future__ import annotations

import importlib.util
import sqlite3
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from fieldtune.profiles.common.errors import StudyError
from fieldtune.server.outcomes.trial import Completed, Failed, Forecast, Learned, Proposal, Stopped
from fieldtune.server.study.objectives import MEASURES
from fieldtune.server.study.space import Parameter, Space
from fieldtune.server.study.tuner_options import SAMPLERS
from fieldtune.server.tuner import OptunaTuner

pytestmark = pytest.mark.integration  # runs studies

SPACE = Space(client={"x": Parameter(low=0.0, high=1.0), "y": Parameter(choices=(1, 2, 3))})


def tuner(folder: Path, sampler: str, *, rounds: int = 1) -> OptunaTuner:
    return OptunaTuner(
        folder / "study.db", name="s", identity="s", space=SPACE,
        objectives=(MEASURES["error"],), seed=0, rounds=rounds, sampler=sampler,
        import_path=[str(folder)],
    )  # fmt: skip


def completed(proposal: Proposal, error: float) -> Completed:
    learned = Learned({"error": error}, 10, 0, {}, True)
    return Completed(proposal, Forecast({}, (), {}), learned, {"error": error}, 0)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "gp"])
def test_it_asks_and_tells_and_an_interrupted_study_goes_on_alike(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole, halves = tuner(tmp_path / "a", name), tuner(tmp_path / "b", name)
    for number in range(4):
        if number == 2:
            halves = tuner(tmp_path / "b", name)
        ours, theirs = whole.ask(), halves.ask()
        assert ours == theirs
        assert ours.number == number
        for each, proposal in ((whole, ours), (halves, theirs)):
            each.tell(Failed(proposal, "no reason"))
    assert [outcome.proposal.number for outcome in whole.history()] == [0, 1, 2, 3]


def test_an_outcome_of_an_earlier_version_is_read_although_it_says_more(tmp_path: Path) -> None:
    told = tuner(tmp_path, "random")
    outcome = completed(told.ask(), 0.5)
    told.tell(outcome)
    with closing(sqlite3.connect(tmp_path / "study.db")) as database, database:
        changed = database.execute(
            "UPDATE trial_user_attributes SET value_json = replace(value_json, "
            """'\\"device_s\\":0.0,', '\\"device_s\\":0.0,\\"elapsed_s\\":1.5,')"""
            """ WHERE value_json LIKE '%device_s%'"""
        )
        assert changed.rowcount == 1
        stored = database.execute("SELECT value_json FROM trial_user_attributes").fetchall()
    assert any("elapsed_s" in value for (value,) in stored)
    assert tuner(tmp_path, "random").history() == [outcome]


@pytest.mark.usefixtures("durable_storage")
def test_what_is_told_outlasts_a_power_cut(tmp_path: Path) -> None:
    with tuner(tmp_path, "random")._storage.engine.connect() as database:
        synchronous = database.exec_driver_sql("PRAGMA synchronous").scalar()
    assert synchronous == 2  # FULL: each commit waits for the disk


def test_a_sampler_of_ones_own_is_found_beside_the_study(tmp_path: Path) -> None:
    (tmp_path / "mine_for_names.py").write_text(
        "import optuna\n"
        "def make(*, seed, known):\n"
        "    return optuna.samplers.RandomSampler(seed=seed)\n"
        "def wrong(*, seed, known):\n"
        "    return 3\n"
    )
    mine = tuner(tmp_path, "mine_for_names:make")
    mine.tell(Failed(mine.ask(), "the defaults"))
    assert 0 <= float(mine.ask().configuration.client["x"]) <= 1
    with pytest.raises(StudyError, match="must return an optuna"):
        tuner(tmp_path, "mine_for_names:wrong").ask()


@pytest.mark.parametrize("name", ["nowhere:make", "optuna:nothing", "optuna:__version__"])
def test_a_sampler_that_cannot_be_had_is_a_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def preload() -> None:
        raise AssertionError("a study that is refused waits for no import")

    monkeypatch.setattr("fieldtune.server.tuner.samplers.preload", preload)
    with pytest.raises(StudyError, match=r"tuner\.name"):
        tuner(tmp_path, name)


def test_gp_without_torch_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *_: None if name == "torch" else find(name)
    )
    with pytest.raises(StudyError, match="which needs torch: pip install torch, or choose 'grey'"):
        tuner(tmp_path, "gp")


@pytest.mark.parametrize(("code", "told"), [
    ("def make(", r"cannot be imported: syntax error in .*\.py, line 1: "),
    ("1 / 0", "cannot be imported: importing it raised ZeroDivisionError: division by zero"),
    ("def make(): pass", "raised TypeError: .*unexpected keyword argument"),
    ("def make(seed, known): raise KeyError('rate')", "raised KeyError: 'rate'"),
])  # fmt: skip
def test_a_sampler_of_ones_own_that_fails_is_a_sentence(
    code: str, told: str, tmp_path: Path
) -> None:
    module = f"fails_{abs(hash(code))}"
    (tmp_path / f"{module}.py").write_text(code + "\n")
    with pytest.raises(StudyError, match=rf"^tuner\.name = '{module}:make' {told}"):
        tuner(tmp_path, f"{module}:make").ask()


def test_a_stopped_trial_is_pruned_with_what_it_had_come_to(tmp_path: Path) -> None:
    asked = tuner(tmp_path, "grey", rounds=4)
    curve = {1: {"error": 0.5}, 2: {"error": float("inf")}}
    for stopped in (False, True):
        learned = Learned(
            {"error": 0.2}, 10, 0, {}, simulated=True, rounds=2, curve=curve, stopped=stopped
        )
        about = asked.ask(), Forecast({}, (), {}), learned, {"error": 0.2}, 0
        asked.tell(Stopped(*about, 2) if stopped else Completed(*about))
    whole, part = optuna.load_study(
        study_name="s", storage=f"sqlite:///{tmp_path / 'study.db'}"
    ).trials
    rungs = [{"share": 0.25, "values": [0.5]}, {"share": 0.5, "values": [None]}]
    assert (whole.state, whole.user_attrs["fieldtune:curve"]) == (TrialState.COMPLETE, rungs)
    assert (part.state, part.user_attrs["fieldtune:partial"]) == (TrialState.PRUNED, rungs[1])
    assert [type(each) for each in tuner(tmp_path, "grey", rounds=4).history()] == [
        Completed,
        Stopped,
    ]


def test_a_configuration_is_run_again_once_though_the_process_ended_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tuner(tmp_path, "grey")
    first = asked.ask()
    asked.tell(completed(first, 0.5))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(optuna.samplers.BaseSampler, "before_trial", killed)
        with pytest.raises(KeyboardInterrupt):
            asked.ask("validate", first.configuration)
    later = tuner(tmp_path, "grey")
    again = later.ask("validate", first.configuration)
    assert (again.number, again.configuration, again.phase) == (1, first.configuration, "validate")
    assert later.ask().configuration != first.configuration


@pytest.mark.parametrize("name", ["tpe", "nsga2"])
def test_samplers_of_optuna_go_on_after_trials_that_were_stopped(name: str, tmp_path: Path) -> None:
    asked = tuner(tmp_path, name, rounds=2)
    for number in range(14):
        proposal = asked.ask()
        error = abs(float(proposal.configuration.client["x"]) - 0.3)
        if number % 2:
            learned = Learned(
                {"error": error}, 10, 0, {}, simulated=True, rounds=1,
                curve={1: {"error": error}}, stopped=True,
            )  # fmt: skip
            about = proposal, Forecast({}, (), {}), learned, {"error": error}, 0
            asked.tell(Stopped(*about, stopped_after=1))
        else:
            asked.tell(completed(proposal, error))
    assert len(asked.history()) == 14
