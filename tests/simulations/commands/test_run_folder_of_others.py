"""A run folder is not written to by another study, or with other code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.commandline import Command
from support.studies import changed

pytestmark = pytest.mark.integration


METRIC = "def metric(y_true, logits):\n    return {}\n"


def test_a_run_whose_metric_has_changed_goes_on_only_if_that_is_accepted(
    fieldtune: Command, small_study: Path, tmp_path: Path
) -> None:
    file, run = changed(small_study, tmp_path, '"accuracy"', '"own:metric"'), tmp_path / "run"
    (tmp_path / "own.py").write_text(METRIC.format("0.5, 1"))
    begun = fieldtune("tune", file, "--out", run, "--trials", "1")
    assert begun.returncode == 0, begun.stderr
    (tmp_path / "own.py").write_text(METRIC.format("0.6, 1"))
    refused = fieldtune("tune", file, "--out", run, "--trials", "2")
    assert refused.returncode == 4
    assert "error: " + str(run) + " was begun with other input: source of task.metric (own): " in (
        refused.stderr
    )
    accepted = fieldtune("tune", file, "--out", run, "--trials", "2", "--accept-changes")
    assert accepted.returncode == 0, accepted.stderr
    (change,) = json.loads((run / "pareto.json").read_text())["changes"]
    assert change["trial"] == 1
    assert change["changes"][0]["key"] == "source of task.metric (own)"
    again = fieldtune("tune", file, "--out", run, "--trials", "2")
    assert again.returncode == 0, again.stderr
    assert "Study changed. Before trial 1: source of task.metric (own): " in again.stderr


def test_a_run_folder_of_another_study_is_left_alone(
    fieldtune: Command, small_study: Path, used_folder: Path, tmp_path: Path
) -> None:
    before = {file: file.read_bytes() for file in used_folder.rglob("*") if file.is_file()}
    other = changed(small_study, tmp_path, "rounds = 5", "rounds = 6")
    done = fieldtune("tune", other, "--out", used_folder)
    assert done.returncode == 4
    assert "belongs to another study: it differs in study.rounds (5 there, 6 here)" in done.stderr
    assert before == {file: file.read_bytes() for file in used_folder.rglob("*") if file.is_file()}


def test_a_run_folder_in_use_is_refused(
    fieldtune: Command, small_study: Path, tmp_path: Path
) -> None:
    import fcntl

    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = fieldtune("tune", small_study, "--out", tmp_path)
    assert done.returncode == 4
    assert "is in use by another fieldtune" in done.stderr


@pytest.mark.parametrize("command", ["report", "export"])
def test_a_folder_without_a_study_is_refused(
    command: str, fieldtune: Command, tmp_path: Path
) -> None:
    more = ["--device", "raspberry-pi-5", "--out", "x.tflite"] if command == "export" else []
    done = fieldtune(command, tmp_path, *more)
    assert done.returncode == 4
    assert "holds no pareto.json" in done.stderr
