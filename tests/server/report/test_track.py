"""``fieldtune log``: what the trackers' own readers find in their stores."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from fieldtune.profiles.common.errors import MissingExtraError
from fieldtune.server.report.track import log_run, tracked
from fieldtune.server.results.schema import Summary, to_json
from server.report.conftest import MakeSummary
from support.commandline import COMMAND, Command

CURVE = {5: {"error": 0.4}, 20: {"error": 0.25}}


@pytest.fixture
def logged(make_summary: MakeSummary) -> Summary:
    """Twelve trials, of which one has a rung and one has failed."""
    summary = make_summary(attempts=12, study="digits", with_files=True)
    first = summary.attempts[0]
    assert summary.attempts[11].state == "failed"
    attempts = [first.model_copy(update={"curve": CURVE}), *summary.attempts[1:]]
    return summary.model_copy(update={"attempts": attempts})


@pytest.fixture
def folder(logged: Summary, tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    models = folder / f"models/trial-{logged.front[0].trial:04d}"
    models.mkdir(parents=True)
    (folder / "pareto.json").write_text(to_json(logged))
    (folder / "trials.csv").write_text("number\n0\n")
    (models / "fp32.tflite").write_bytes(b"TFL3")
    (models / "card.md").write_text("# A card\n")
    return folder


def test_a_trial_that_has_files_brings_them_and_others_none(folder: Path, logged: Summary) -> None:
    run = tracked(folder)
    assert [file.name for file in run.files] == ["pareto.json", "trials.csv"]
    brought = {trial.number: [file.name for file in trial.files] for trial in run.trials}
    first = logged.front[0].trial
    assert brought.pop(first) == ["card.md", "fp32.tflite"]
    assert not any(brought.values())
    for device, chosen in logged.recommended.items():
        point = logged.point(chosen.trial)
        for name in ("error", "energy_j"):
            value = (point.devices[device].costs.get(name) or point.objectives[name]).value
            assert run.metrics[f"recommended.{device}.{name}"] == value


def test_a_tracker_that_is_not_installed_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.delitem(sys.modules, "fieldtune.server.report.track_wandb", raising=False)
    with pytest.raises(MissingExtraError, match=r"pip install 'fieldtune\[track\]'"):
        log_run(folder, "wandb", None)


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore:.*noload")  # MLflow's own use of SQLAlchemy
def test_mlflow_has_a_run_of_the_study_and_one_nested_in_it_for_each_trial(
    folder: Path, logged: Summary, tmp_path: Path, fieldtune: Command
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs the extra track")
    store = tmp_path / "store"
    done = fieldtune("log", folder, "--to", "mlflow", "--store", store)
    assert done.returncode == 0, done.stderr
    client = mlflow.tracking.MlflowClient(tracking_uri=f"sqlite:///{store / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "digits"]
    runs = client.search_runs([experiment.experiment_id], max_results=100)
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    nested = {run.info.run_name: run for run in runs if run is not parent}
    assert {run.data.tags["mlflow.parentRunId"] for run in nested.values()} == {parent.info.run_id}
    assert set(nested) == {f"trial-{a.trial:04d}" for a in logged.attempts}
    for attempt in logged.attempts:
        run = nested[f"trial-{attempt.trial:04d}"]
        assert run.data.params == {k: str(v) for k, v in attempt.configuration.items()}
        said = {name: run.data.metrics.get(name) for name in attempt.objectives}
        assert said == attempt.objectives
    assert nested["trial-0011"].info.status == "FAILED"
    rungs = client.get_metric_history(nested["trial-0000"].info.run_id, "error")
    first = logged.attempts[0].objectives["error"]
    assert [(each.step, each.value) for each in rungs] == [(5, 0.4), (20, first)]
    best = nested[f"trial-{logged.front[0].trial:04d}"].info.run_id
    assert [file.path for file in client.list_artifacts(best)] == ["card.md", "fp32.tflite"]
    kept = [file.path for file in client.list_artifacts(parent.info.run_id)]
    assert kept == ["pareto.json", "trials.csv"]
    again = fieldtune("log", folder, "--to", "mlflow", "--store", store)
    assert f"already, as run {parent.info.run_id}" in again.stdout, again.stderr
    assert len(client.search_runs([experiment.experiment_id], max_results=100)) == len(runs)


@pytest.mark.integration
def test_tensorboard_reads_scalars_by_rounds_and_the_hyperparameters_of_each_trial(
    folder: Path, logged: Summary, fieldtune: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboardX", reason="needs the extra track")
    pytest.importorskip("tensorboard", reason="reads the event files")
    # With this module TensorBoard does without TensorFlow, which it otherwise imports.
    monkeypatch.setitem(sys.modules, "tensorboard.compat.notf", ModuleType("notf"))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    for _ in range(2):  # the second call replaces what the first one wrote
        done = fieldtune("log", folder, "--to", "tensorboard")
        assert done.returncode == 0, done.stderr
    logs = folder / "tensorboard/digits"
    assert {each.name for each in logs.iterdir() if each.is_dir()} == {
        f"trial-{a.trial:04d}" for a in logged.attempts
    }
    for attempt in logged.attempts:
        read = EventAccumulator(str(logs / f"trial-{attempt.trial:04d}")).Reload()
        for name, value in attempt.objectives.items():
            last = read.Scalars(name)[-1]
            assert (last.step, last.value) == (attempt.rounds, pytest.approx(value))
        (content,) = (
            read.SummaryMetadata(tag).plugin_data.content
            for tag in read.PluginTagToContent("hparams")
            if tag == metadata.SESSION_START_INFO_TAG
        )
        session = metadata.parse_session_start_info_plugin_data(content)
        assert set(session.hparams) == set(attempt.configuration)
        width = attempt.configuration["width"]
        assert session.hparams["width"].number_value == width
    rungs = EventAccumulator(str(logs / "trial-0000")).Reload().Scalars("error")
    first = logged.attempts[0].objectives["error"]
    assert [each.step for each in rungs] == [5, 20]
    assert [each.value for each in rungs] == pytest.approx([0.4, first])


@pytest.mark.integration
@pytest.mark.parametrize("tracker", ["mlflow", "tensorboard"])
def test_a_full_disk_is_one_sentence(tracker: str, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip({"tensorboard": "tensorboardX"}.get(tracker, tracker), reason="extra track")
    log = shlex.join(
        [*COMMAND, "log", str(folder), "--to", tracker, "--store", str(tmp_path / "s")]
    )
    # No file may be larger than 512 bytes.
    done = subprocess.run(
        ["sh", "-c", f"ulimit -f 1; {log}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert f"error: {'MLflow cannot use' if tracker == 'mlflow' else tmp_path}" in done.stderr
    assert "Traceback" not in done.stderr
    assert "a bug" not in done.stderr


@pytest.mark.integration
def test_weights_and_biases_takes_the_runs_offline(
    folder: Path, logged: Summary, tmp_path: Path, fieldtune_process: Command
) -> None:
    pytest.importorskip("wandb", reason="needs the package wandb")
    done = fieldtune_process("log", folder, "--to", "wandb", "--store", tmp_path)
    assert done.returncode == 0, done.stderr
    kept = list((tmp_path / "wandb").glob("offline-run-*"))
    assert len(kept) == 1 + len(logged.attempts)
