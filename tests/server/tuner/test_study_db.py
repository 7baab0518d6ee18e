"""What stands in ``study.db``: the figures of the report by name, in few commits."""

from __future__ import annotations

import csv
import math
import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import fields, replace
from itertools import count, takewhile
from operator import itemgetter
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, Engine, event

from fieldtune.profiles.common.estimate import Estimate
from fieldtune.profiles.costmodel.cost import Cost
from fieldtune.server.bo import Known
from fieldtune.server.outcomes.figures import figures, is_figure
from fieldtune.server.outcomes.trial import (
    Completed,
    DeviceForecast,
    Failed,
    Forecast,
    Infeasible,
    Learned,
    Outcome,
    Proposal,
    Stopped,
)
from fieldtune.server.results.summarize import summarise
from fieldtune.server.results.trials_csv import trials_csv
from fieldtune.server.study.load import parse_study
from fieldtune.server.tuner import OptunaTuner, study_storage
from fieldtune.server.tuner.study_db import trials_after
from fieldtune.server.tuner.study_storage import StudyStorage
from support.killed import killed_before_write

pytestmark = pytest.mark.integration

ZERO, FIVE = "raspberry-pi-zero-2w", "raspberry-pi-5"
STUDY = parse_study(
    """
    [study]
    name = "s"
    trials = 40
    rounds = 4
    objectives = ["error", "inference_ms", "sent_bytes"]
    [task]
    data = "digits"
    model = "mlp"
    [fleet]
    clients = 4
    devices = { "raspberry-pi-zero-2w" = 0.5, "raspberry-pi-5" = 0.5 }
    [space.model]
    width = { choices = [8, 16, 32] }
    [space.client]
    learning_rate = { low = 0.01, high = 1.0, log = true }
    local_epochs = { low = 1, high = 9 }
    """,
    "s",
)
NAMES = [each.name for each in STUDY.study.objectives]


def tuner(folder: Path, sampler: str = "grey") -> OptunaTuner:
    folder.mkdir(exist_ok=True)
    return OptunaTuner(
        folder / "study.db", name="s", identity="s", space=STUDY.full_space,
        objectives=STUDY.study.objectives, seed=0, rounds=4, sampler=sampler,
    )  # fmt: skip


def forecast(proposal: Proposal, *, factor: float = 1.0, cap: float = 30.0) -> Forecast:
    """Costs follow the width; ``factor`` of what they were thought to be, and limited to a cap."""
    configuration = proposal.configuration
    ms = factor * float(configuration.model["width"])

    def cost(share: float) -> Cost:
        own = dict.fromkeys([each.name for each in fields(Cost)], Estimate(share * ms, 0.0, 99.0))
        energy = {"energy_j": None} if share < 1 else {}
        return Cost(**{**own, **energy})  # type: ignore[arg-type]

    gaps = {"inference_ms": ms / cap - 1}
    devices = {
        device: DeviceForecast(2, 2 if share * ms <= cap else 0, cost(share), gaps)
        for device, share in ((FIVE, 0.3), (ZERO, 1.0))
    }
    fitting = [each.cost.inference_ms.value for each in devices.values() if each.fitting]
    measures = {
        "inference_ms": max(fitting, default=math.inf),
        "sent_bytes": sum(fitting) / len(fitting) if fitting else math.inf,
    }
    constraints = {**gaps, "coverage": gaps["inference_ms"]}
    return Forecast(devices, (0, 1, 2, 3), constraints, measures)


def costs(predicted: Forecast) -> dict[str, float]:
    return dict(predicted.measures)


def became(proposal: Proposal, **of: float) -> Outcome:
    """What comes of a proposal: mostly it is trained."""
    predicted, number = forecast(proposal, **of), proposal.number
    rate = float(proposal.configuration.client["learning_rate"])
    if number % 7 == 4:
        return Failed(proposal, "no reason")
    if not predicted.feasible:
        return Infeasible(proposal, predicted)
    measures = {"error": 0.1 + abs(rate - 0.3), "accuracy": 0.9 - abs(rate - 0.3)}
    objectives = {"error": measures["error"], **costs(predicted)}
    stopped = number % 5 == 3
    learned = Learned(
        measures, 20, 1.0, {}, simulated=True, rounds=2, curve={2: measures}, stopped=stopped
    )
    about = proposal, predicted, learned, objectives, number
    return Stopped(*about, 2) if stopped else Completed(*about)


def rescored(outcome: Outcome, **of: float) -> Outcome:
    """The outcome by another forecast."""
    if isinstance(outcome, Failed):
        return outcome
    now = forecast(outcome.proposal, **of)
    if isinstance(outcome, Infeasible):
        return replace(outcome, forecast=now)
    return replace(outcome, forecast=now, objectives={**outcome.objectives, **costs(now)})


def known(values: Mapping[str, Any]) -> Known:
    """What the widest has come to exceed."""
    ms = float(values["width"])
    return Known({1: ms, 2: ms}, {"coverage": ms / 30 - 1, "inference_ms": ms / 30 - 1})


def lost(values: Mapping[str, Any]) -> Known:
    """Limits have become tighter: what is wide fits no device any more, and so has no cost."""
    if values["width"] < 16:
        return known(values)
    return Known({1: float("inf"), 2: float("inf")}, {"coverage": 0.5, "inference_ms": 0.5})


def go_on(study: OptunaTuner, trials: int, formulas: Any = None) -> list[Proposal]:
    asked = []
    for number in range(trials):
        proposal = study.ask(formulas=None if number else formulas)
        study.tell(became(proposal))
        asked.append(proposal)
    return asked


def stored(folder: Path) -> list[FrozenTrial]:
    return optuna.load_study(study_name="s", storage=f"sqlite:///{folder / 'study.db'}").trials


def shown(trial: FrozenTrial) -> dict[str, float]:
    return {name: value for name, value in trial.user_attrs.items() if is_figure(name)}


def agree(outcomes: Sequence[Outcome], folder: Path) -> None:
    """``study.db``, ``trials.csv`` and ``pareto.json`` have the same number for the same thing."""
    lines = csv.DictReader(trials_csv(STUDY, outcomes).splitlines())
    attempts = summarise(STUDY, outcomes, {}, {}).attempts
    for trial, line, attempt in zip(stored(folder), lines, attempts, strict=True):
        written = {name: float(text) for name, text in line.items() if is_figure(name) and text}
        assert shown(trial) == written
        constraints = {
            name: value for name, value in trial.constraints.items() if not name.isdecimal()
        }
        assert constraints == attempt.constraints
        assert attempt.constraints == {
            name.removeprefix("constraint:"): value
            for name, value in written.items()
            if name.startswith("constraint:")
        }
        if attempt.state == "completed":
            values = dict(zip(NAMES, trial.values, strict=True))
            assert values == attempt.objectives
            assert values == {name: written[f"objective:{name}"] for name in NAMES}
        else:
            assert trial.values is None or attempt.state == "infeasible"


def test_the_database_shows_what_the_files_show_as_told_and_after_it_was_revised(
    tmp_path: Path,
) -> None:
    study = tuner(tmp_path)
    go_on(study, 20)
    told = study.history()
    assert {type(each) for each in told} == {Completed, Stopped, Infeasible, Failed}
    agree(told, tmp_path)
    now = [rescored(outcome, factor=1.7, cap=40.0) for outcome in told]
    study.revise(now)
    agree(now, tmp_path)
    assert [figures(each) for each in now] != [figures(each) for each in told]
    assert study.history() == told
    assert tuner(tmp_path).history() == told


def test_what_a_revised_outcome_has_no_more_is_gone(tmp_path: Path) -> None:
    study = tuner(tmp_path)
    go_on(study, 1)
    (told,) = study.history()
    assert isinstance(told, Completed)
    was = stored(tmp_path)[0]
    assert was.constraints.keys() == {"0", "1", "inference_ms", "coverage"}
    now = replace(told.forecast, devices={}, constraints={"coverage": 0.5})
    objectives = {**told.objectives, "inference_ms": float("inf")}
    study.revise([replace(told, forecast=now, objectives=objectives)])
    trial = stored(tmp_path)[0]
    assert shown(trial) == {
        "objective:error": told.objectives["error"],
        "objective:sent_bytes": told.objectives["sent_bytes"],
        "constraint:coverage": 0.5,
    }
    assert trial.constraints == {"0": 0.5, "coverage": 0.5}
    assert trial.values == was.values  # Optuna takes no trial that lacks one
    assert trial.user_attrs["fieldtune:outcome"] == was.user_attrs["fieldtune:outcome"]


@pytest.mark.parametrize(
    ("sampler", "formulas"), [("grey", known), ("grey", None), ("tpe", lost), ("nsga2", None)]
)
def test_a_revision_changes_no_proposal(sampler: str, formulas: Any, tmp_path: Path) -> None:
    proposals = []
    for name in ("told", "revised"):
        study = tuner(tmp_path / name, sampler)
        go_on(study, 12, formulas)
        if name == "revised":
            study.revise([rescored(each, factor=3.0, cap=20.0) for each in study.history()])
        asked = go_on(study, 1)
        asked += go_on(tuner(tmp_path / name, sampler), 1, formulas)
        proposals.append(asked)
    assert stored(tmp_path / "told")[0].values != stored(tmp_path / "revised")[0].values
    assert proposals[0] == proposals[1]


@pytest.mark.parametrize("sampler", ["grey", "tpe", "nsga2", "random"])
def test_a_trial_takes_few_commits_however_many_figures_it_has(
    sampler: str, tmp_path: Path
) -> None:
    study = tuner(tmp_path, sampler)
    wrote, commits = False, 0

    def seen(connection: object, cursor: object, statement: str, *rest: object) -> None:
        nonlocal wrote
        wrote = wrote or statement.split(maxsplit=1)[0] in ("INSERT", "UPDATE", "DELETE")

    def committed(connection: object) -> None:
        nonlocal wrote, commits
        wrote, commits = False, commits + wrote

    event.listen(Engine, "before_cursor_execute", seen)
    event.listen(Engine, "commit", committed)
    try:
        for _ in range(14):
            commits = 0
            proposal = study.ask()
            # Made or queued and taken up, what the sampler keeps with it, and its parameters.
            assert commits <= 4
            commits = 0
            study.tell(became(proposal))
            assert commits == 2  # all that there is to say of it, and its state
        commits = 0
        study.revise([rescored(each, factor=2.0) for each in study.history()])
        assert commits == 1
    finally:
        event.remove(Engine, "before_cursor_execute", seen)
        event.remove(Engine, "commit", committed)


@pytest.mark.usefixtures("durable_storage")
def test_a_commit_is_on_the_disk_and_waits_for_it_once(tmp_path: Path) -> None:
    study = tuner(tmp_path)
    go_on(study, 1)
    assert (tmp_path / "study.db-wal").stat().st_size > 0
    with closing(sqlite3.connect(tmp_path / "study.db")) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    with study._storage.engine.connect() as connection:
        full = 2
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == full


@pytest.mark.usefixtures("durable_storage")
@pytest.mark.parametrize("sampler", ["grey", "tpe"])
def test_a_trial_waits_for_the_disk_once_when_all_that_it_became_is_stored(
    sampler: str, tmp_path: Path
) -> None:
    study = tuner(tmp_path, sampler)
    levels: list[int] = []

    def committed(connection: Connection) -> None:
        raw = connection.connection.dbapi_connection
        assert isinstance(raw, sqlite3.Connection)
        if raw.in_transaction:
            levels.append(raw.execute("PRAGMA synchronous").fetchone()[0])

    event.listen(study._storage.engine, "commit", committed)
    normal, full = 1, 2
    for _ in range(3):
        levels.clear()
        proposal = study.ask()
        assert levels
        assert set(levels) == {normal}
        levels.clear()
        study.tell(became(proposal), STUDY.full_space.sample(1, 5)[0])
        assert set(levels[:-1]) == {normal}
        assert levels[-1] == full
    levels.clear()
    study.revise([rescored(each, factor=2.0) for each in study.history()])
    assert levels == [full]


@pytest.mark.usefixtures("durable_storage")
def test_without_a_log_each_commit_waits_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_storage, "_write_ahead", lambda path: None)  # as on some file systems
    study = tuner(tmp_path)
    with study._commits.without_waiting(), study._storage.engine.connect() as connection:
        full = 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "delete"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == full


def test_a_trial_at_which_the_sampler_fails_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tuner(tmp_path, "tpe")
    proposal = study.ask()

    def failing(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(optuna.samplers.TPESampler, "after_trial", failing)
    with pytest.raises(ZeroDivisionError):
        study.tell(became(proposal))
    assert [each.proposal for each in tuner(tmp_path, "tpe").history()] == [proposal]


def test_a_tell_killed_before_any_of_its_writes_is_told_anew(tmp_path: Path) -> None:
    begun = tuner(tmp_path / "begun")
    go_on(begun, 5)
    proposal, then = begun.ask(), STUDY.full_space.sample(1, 5)[0]

    def told(writes: int | None) -> object:
        """What the database holds in the end; None where there are no more writes to a tell."""
        folder = tmp_path / f"killed after {writes}"
        shutil.copytree(tmp_path / "begun", folder)
        study = tuner(folder)
        assert study.ask() == proposal
        if writes is not None:
            with killed_before_write(writes) as killed:
                # Devices may have reported more by the time it is told anew.
                study.tell(became(proposal, factor=1.1), then)
            if not killed:
                return None
            study = tuner(folder)
            assert study.resumes
            assert study.ask() == proposal
        study.tell(became(proposal), then)
        after = go_on(study, 2)
        assert (after[0].number, after[0].configuration) == (proposal.number + 1, then)
        return after, [(t.values, t.user_attrs, t.system_attrs, t.params) for t in stored(folder)]

    cut_short = list(takewhile(bool, map(told, count())))
    assert len(cut_short) >= 4
    whole = told(None)
    assert all(each == whole for each in cut_short)


@pytest.mark.parametrize(
    ("sampler", "finished"), [("grey", 12), ("tpe", 1), ("tpe", 12), ("nsga2", 12)]
)
def test_an_ask_killed_before_any_of_its_writes_is_asked_anew(
    sampler: str, finished: int, tmp_path: Path
) -> None:
    go_on(tuner(tmp_path / "begun", sampler), finished)

    def asked(writes: int) -> tuple[bool, list[Proposal]]:
        folder = tmp_path / f"killed after {writes}"
        shutil.copytree(tmp_path / "begun", folder)
        study = tuner(folder, sampler)
        with killed_before_write(writes) as killed:
            proposal = study.ask()
        if killed:
            study = tuner(folder, sampler)
            proposal = study.ask()
        study.tell(became(proposal))
        return bool(killed), [proposal, *go_on(study, 1)]

    cut_short = [each for killed, each in takewhile(itemgetter(0), map(asked, count()))]
    _, whole = asked(99)
    assert len(cut_short) >= 2
    assert whole[0].number == finished
    assert all(each == whole for each in cut_short)


def test_latest_trials_are_read_as_optuna_reads_them(tmp_path: Path) -> None:
    study = tuner(tmp_path, "random")
    go_on(study, 9)
    study.ask()
    optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path / 'study.db'}").enqueue_trial(
        {"width": 8}, user_attrs={"by": "another program"}
    )
    other = StudyStorage(tmp_path / "study.db").open("s")
    other_study = other.create_new_study(study._study.directions, "another")
    other.create_new_trial(other_study)
    expected = stored(tmp_path)
    assert {each.state for each in expected} == set(TrialState)
    for first in range(3):
        after = expected[first]._trial_id
        found = trials_after(study._storage, study._study._study_id, after)
        assert [vars(each) for each in found] == [vars(each) for each in expected[first + 1 :]]
