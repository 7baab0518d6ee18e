"""A real study by FedEx, from the command line: digits on thirty simulated devices of two types."""

from __future__ import annotations

import csv
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import optuna
import pytest

from support.commandline import Command

pytestmark = pytest.mark.integration

TRIALS = 5
STUDY = f"""
[study]
name = "fedex"
trials = {TRIALS}
rounds = 5
objectives = ["error", "energy_j"]
[task]
data = "digits"
model = "mlp"
variants = ["fp32"]
[fleet]
clients = 30
devices = {{ "raspberry-pi-zero-2w" = 0.5, "raspberry-pi-5" = 0.5 }}
[space.model]
width = {{ choices = [16, 32] }}
[space.client]
learning_rate = {{ choices = [0.00001, 0.3] }}
local_epochs = {{ choices = [3] }}
[space.server]
clients_per_round = {{ low = 10, high = 20 }}
[tuner]
name = "fedex"
fedex = {{ configurations = 2 }}
"""

Finished = tuple[Path, subprocess.CompletedProcess[str]]


def run(fieldtune: Command, study: Path, out: Path, workers: int) -> Finished:
    done = fieldtune("tune", study, "--out", out, "--workers", str(workers))
    assert done.returncode == 0, done.stderr
    return out, done


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("study") / "study.toml"
    file.write_text(STUDY)
    return file


@pytest.fixture(scope="module")
def finished(fieldtune: Command, study: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return run(fieldtune, study, tmp_path_factory.mktemp("run") / "two", workers=2)


def trials(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "trials.csv").read_text().splitlines()))


def test_each_training_comes_to_the_learning_rate_with_which_models_learn(
    finished: Finished,
) -> None:
    lines = trials(finished[0])
    assert [line["state"] for line in lines] == ["completed"] * TRIALS
    # The defaults (the middle of the choices) are trained alone, and do not learn.
    assert (lines[0]["learning_rate"], lines[0]["reason"]) == ("1e-05", "")
    assert float(lines[0]["objective:error"]) > 0.7
    for line in lines[1:]:
        assert line["learning_rate"] == "0.3"
        said = re.fullmatch(r"(\d+) % for this of 2 configurations, entropy .*", line["reason"])
        assert said
        assert int(said.group(1)) > 70
        assert float(line["objective:error"]) < 0.5
    assert len({line["width"] for line in lines}) == 2  # what the server decides is drawn


def test_progress_says_how_sure_each_trial_is(finished: Finished) -> None:
    assert finished[1].stderr.count("% for this of 2 configurations") == TRIALS - 1


def test_what_it_deploys_is_the_configuration_that_won(finished: Finished) -> None:
    summary: dict[str, Any] = json.loads((finished[0] / "pareto.json").read_text())
    assert {point["configuration"]["learning_rate"] for point in summary["front"]} == {0.3}
    assert summary["defaults"]["configuration"]["learning_rate"] == 1e-05
    exported = [point for point in summary["front"] if point["variants"]]
    assert exported
    for point in exported:
        claimed = point["measures"]["accuracy"]
        samples = point["test_samples"]
        measured = point["variants"]["fp32"]["measures"]["accuracy"]
        assert measured == pytest.approx(claimed, abs=2 / samples)


def test_the_storage_holds_what_was_asked_for(finished: Finished) -> None:
    stored = optuna.load_study(
        study_name="fedex", storage=f"sqlite:///{finished[0] / 'study.db'}"
    ).get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    for trial, line in zip(stored, trials(finished[0]), strict=True):
        assert str(trial.params["width"]) == line["width"]
        assert trial.values[0] == float(line["objective:error"])


def test_one_worker_gives_the_same_bytes_as_two(
    finished: Finished, fieldtune: Command, study: Path, tmp_path: Path
) -> None:
    folder, _ = run(fieldtune, study, tmp_path / "one", workers=1)
    for name in ("pareto.json", "trials.csv"):
        assert (folder / name).read_bytes() == (finished[0] / name).read_bytes()


def test_it_takes_no_earlier_runs(finished: Finished, fieldtune: Command, tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text(STUDY)
    done = fieldtune("tune", file, "--out", tmp_path / "run", "--warm-start", finished[0])
    assert done.returncode == 2
    assert "has no effect with tuner.name = 'fedex'" in done.stderr
