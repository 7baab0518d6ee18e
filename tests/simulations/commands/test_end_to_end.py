"""The main job in small: a study from the command line to the model for a device."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from ai_edge_litert.interpreter import Interpreter

from fieldtune.server.outcomes.figures import is_figure
from fieldtune.server.report.format import figure
from fieldtune.server.study.load import load_study
from fieldtune.simulations.datasets import load_dataset
from fieldtune.simulations.fleet.plan import FleetPlan
from fieldtune.simulations.partition.partition import partition
from support.commandline import COMMAND, Command
from support.pages import Parsed
from support.study_db import completed_numbers

pytestmark = pytest.mark.integration

DEVICES = {"raspberry-pi-zero-2w", "raspberry-pi-4b", "raspberry-pi-5"}


@pytest.fixture(scope="module")
def finished(
    fieldtune_process: Command, small_study: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A run folder of the small study, run with two workers, and what was printed."""
    folder = tmp_path_factory.mktemp("run") / "digits"
    done = fieldtune_process("tune", small_study, "--out", folder, "--workers", "2")
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.fixture(scope="module")
def pareto(finished: tuple[Path, Any]) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads((finished[0] / "pareto.json").read_text())
    return parsed


def outcome(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "pareto.json").read_bytes(), (folder / "trials.csv").read_bytes()


def trials(folder: Path) -> list[dict[str, str]]:
    if not (folder / "trials.csv").exists():
        return []
    return list(csv.DictReader((folder / "trials.csv").read_text().splitlines()))


def test_the_run_folder_holds_what_the_contract_names(finished: tuple[Path, Any]) -> None:
    folder = finished[0]
    for name in ("study.toml", "study.db", "trials.csv", "pareto.json", "report.html"):
        assert (folder / name).stat().st_size > 100, name


def test_results_are_on_stdout_and_progress_on_stderr(finished: tuple[Path, Any]) -> None:
    _, done = finished
    for device in DEVICES:
        assert device in done.stdout
    assert "8/8" in done.stderr
    assert "compile" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_trial_is_a_line_and_only_trained_ones_have_results(
    finished: tuple[Path, Any],
) -> None:
    lines = trials(finished[0])
    assert [int(line["number"]) for line in lines] == list(range(len(lines)))
    trained = [line for line in lines if line["state"] == "completed"]
    assert len(trained) == 8
    for line in lines:
        assert bool(line["objective:error"]) == (line["state"] == "completed")
        broken = [float(line[key]) > 0 for key in line if key.startswith("constraint:")]
        assert any(broken) == (line["state"] == "infeasible")


def test_optuna_opens_the_storage_and_agrees(finished: tuple[Path, Any]) -> None:
    study = optuna.load_study(study_name="digits", storage=f"sqlite:///{finished[0] / 'study.db'}")
    complete = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    assert len(complete) == 8
    by_number = {int(line["number"]): line for line in trials(finished[0])}
    for trial in complete:
        line = by_number[trial.number]
        assert trial.values == [
            float(line[f"objective:{name}"]) for name in ("error", "inference_ms", "energy_j")
        ]
        assert trial.constraints["coverage"] == float(line["constraint:coverage"])
    for trial in study.trials:
        shown = {name: value for name, value in trial.user_attrs.items() if is_figure(name)}
        assert shown == {
            name: float(text)
            for name, text in by_number[trial.number].items()
            if is_figure(name) and text
        }
    front = json.loads((finished[0] / "pareto.json").read_text())["front"]
    assert {trial.number for trial in study.best_trials} >= {point["trial"] for point in front}


WORDS = {"error": "error", "inference_ms": "inference", "energy_j": "training energy"}


def test_every_device_gets_a_recommendation_of_which_there_is_a_file(
    pareto: dict[str, Any],
) -> None:
    points = {point["trial"]: point for point in [*pareto["front"], pareto["defaults"]]}
    assert set(pareto["recommended"]) == DEVICES
    for chosen in pareto["recommended"].values():
        assert points[chosen["trial"]]["variants"]
        assert chosen["no_worse"] >= pareto["decision"]["confidence"]
        for against in chosen["against_defaults"]:
            assert against["better"] == (against["value"] < against["default"])
            if against["value"] != against["default"]:
                gain = chosen["gains"][against["objective"]]
                assert against["better"] == (gain["log"] > 0)
                assert WORDS[against["objective"]] in chosen["why"]


def test_page_terminal_json_csv_card_and_api_agree_figure_by_figure(
    finished: tuple[Path, Any], pareto: dict[str, Any]
) -> None:
    """Of what is recommended and of the defaults, on each device type."""
    import fieldtune.api as ft

    folder, printed = finished[0], " ".join(finished[1].stdout.split())
    page = Parsed((folder / "report.html").read_text())
    api, lines = ft.load(folder), {int(line["number"]): line for line in trials(folder)}
    points = {point["trial"]: point for point in [*pareto["front"], pareto["defaults"]]}
    on_page = {point["trial"]: point for point in page.data["points"]}
    assert set(on_page) == set(points) == set(api.front.index)
    for trial, point in points.items():
        same = point["configuration"].items()
        completed = [line for line in lines.values() if line["state"] == "completed"]
        runs = [line for line in completed if all(line[k] == str(v) for k, v in same)]
        assert point["runs"] == len(runs) == on_page[trial]["runs"]
        assert point["runs"] == api.front.loc[trial, "runs"]
        if point["variants"]:
            card = json.loads((folder / f"models/trial-{trial:04d}/card.json").read_text())
            assert card["objectives"] == point["objectives"]
            assert card["devices"] == point["devices"]
            assert card["runs"] == point["runs"]
        for name, estimate in point["objectives"].items():
            value = estimate["value"]
            assert value == on_page[trial]["objectives"][name][0] == api.front.loc[trial, name]
            each = [float(line[f"objective:{name}"]) for line in runs]
            told = np.mean(each) if name == "error" else each[0]
            assert value == pytest.approx(told, rel=1e-12)
        for device, seen in point["devices"].items():
            for name, cost in seen["costs"].items():
                if cost is not None:
                    assert cost["value"] == on_page[trial]["devices"][device]["costs"][name][0]
                    assert cost["value"] == float(lines[trial][f"{device}:{name}"])
    assert {d: p.trial for d, p in api.recommend().items()} == {
        d: chosen["trial"] for d, chosen in pareto["recommended"].items()
    }
    for device, chosen in pareto["recommended"].items():
        point = points[chosen["trial"]]
        for name in ("error", "inference_ms", "energy_j"):
            cost = point["devices"][device]["costs"].get(name) or point["objectives"][name]
            assert figure(name, cost["value"]) in page.text, (device, name)
            assert figure(name, cost["value"]) in printed, (device, name)
        assert f"--trial {chosen['trial']} --out digits-trial-{chosen['trial']}" in page.text
        assert page.data["recommended"][device]["why"] == chosen["why"]


def test_every_deployed_file_has_the_accuracy_that_the_report_claims(
    finished: tuple[Path, Any], pareto: dict[str, Any], small_study: Path
) -> None:
    plan = FleetPlan.of(load_study(small_study))
    clients = partition(load_dataset("digits"), plan)
    x = np.concatenate([client.test_x for client in clients])
    y = np.concatenate([client.test_y for client in clients])
    points = {point["trial"]: point for point in [*pareto["front"], pareto["defaults"]]}
    chosen = {chosen["trial"] for chosen in pareto["recommended"].values()}
    exported = {pareto["defaults"]["trial"], *chosen}
    assert exported == {trial for trial, point in points.items() if point["variants"]}
    for point in (points[trial] for trial in exported):
        folder = finished[0] / f"models/trial-{point['trial']:04d}"
        card = json.loads((folder / "card.json").read_text())
        assert set(point["variants"]) == {"fp32", "fp16", "dynamic"}
        assert card["variants"] == point["variants"]
        for name, variant in point["variants"].items():
            file = folder / f"{name}.tflite"
            assert variant["bytes"] == file.stat().st_size
            assert variant["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
            right = sum(
                int(logits.argmax() == label)
                for logits, label in zip(infer(file, x), y, strict=True)
            )
            assert variant["test_samples"] == len(y)
            assert right / len(y) == pytest.approx(variant["measures"]["accuracy"], abs=1e-9)
        float_accuracy = point["variants"]["fp32"]["measures"]["accuracy"]
        assert float_accuracy == pytest.approx(point["measures"]["accuracy"], abs=2 / len(y))


def infer(file: Path, x: np.ndarray) -> list[np.ndarray]:
    """Logits of each sample, by the deployed file in the runtime."""
    interpreter = Interpreter(str(file))
    interpreter.allocate_tensors()
    (image,), (logits,) = interpreter.get_input_details(), interpreter.get_output_details()
    rows = []
    for sample in x:
        interpreter.set_tensor(image["index"], sample[None])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(logits["index"])[0])
    return rows


def test_one_worker_gives_the_same_bytes_as_two(
    finished: tuple[Path, Any], fieldtune: Command, small_study: Path, tmp_path: Path
) -> None:
    done = fieldtune("tune", small_study, "--out", tmp_path / "one", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert outcome(tmp_path / "one") == outcome(finished[0])


def test_another_seed_gives_another_study(
    finished: tuple[Path, Any], fieldtune: Command, small_study: Path, tmp_path: Path
) -> None:
    done = fieldtune("tune", small_study, "--out", tmp_path, "--seed", "1", "--trials", "1")
    assert done.returncode == 0, done.stderr
    ours, theirs = trials(tmp_path), trials(finished[0])
    assert ours[0]["seed"] != theirs[0]["seed"]
    assert ours[0]["objective:error"] != theirs[0]["objective:error"]


def test_a_study_killed_again_and_again_ends_as_if_it_had_not_been(
    finished: tuple[Path, Any], small_study: Path, tmp_path: Path
) -> None:
    folder, rng, kills = tmp_path / "killed", random.Random(0), 0
    while True:
        seen = completed_numbers(folder)
        run = subprocess.Popen(
            [*COMMAND, "tune", str(small_study), "--out", str(folder), "--workers", "1"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        # Let it get on by a trial, then a random moment further, but for the first kills.
        while run.poll() is None and completed_numbers(folder) <= seen:
            time.sleep(0.01)
        if kills >= 3:
            time.sleep(rng.random() * 0.2)
        if run.poll() is not None:
            assert run.returncode == 0
            break
        run.send_signal(signal.SIGKILL)
        run.wait()
        kills += 1
        assert completed_numbers(folder) > seen
    assert kills >= 2
    assert outcome(folder) == outcome(finished[0])


def test_a_finished_study_run_again_only_shows_its_outcome(
    finished: tuple[Path, Any], fieldtune: Command, small_study: Path
) -> None:
    folder, first = finished
    before = outcome(folder)
    again = fieldtune("tune", small_study, "--out", folder)
    assert again.returncode == 0, again.stderr
    assert again.stdout == first.stdout
    assert outcome(folder) == before


def test_a_finished_study_can_be_given_more_trials(
    fieldtune: Command, small_study: Path, tmp_path: Path
) -> None:
    for count in (1, 2):
        done = fieldtune("tune", small_study, "--out", tmp_path, "--trials", str(count))
        assert done.returncode == 0, done.stderr
        assert sum(line["state"] == "completed" for line in trials(tmp_path)) == count


def test_report_prints_each_format(
    finished: tuple[Path, Any], fieldtune: Command, pareto: dict[str, Any]
) -> None:
    folder, first = finished
    assert fieldtune("report", folder).stdout == first.stdout
    assert json.loads(fieldtune("report", folder, "--format", "json").stdout) == pareto
    table = fieldtune("report", folder, "--format", "csv").stdout
    assert len(list(csv.DictReader(table.splitlines()))) == len(trials(folder))
    page = fieldtune("report", folder, "--format", "html").stdout
    assert page == (folder / "report.html").read_text()


def test_export_writes_the_recommended_model(
    finished: tuple[Path, Any], fieldtune: Command, pareto: dict[str, Any], tmp_path: Path
) -> None:
    target = tmp_path / "model.tflite"
    done = fieldtune("export", finished[0], "--device", "raspberry-pi-5", "--out", target)
    assert done.returncode == 0, done.stderr
    trial = pareto["recommended"]["raspberry-pi-5"]["trial"]
    kept = finished[0] / f"models/trial-{trial:04d}/fp32.tflite"
    assert target.read_bytes() == kept.read_bytes()


def test_a_study_answers_for_a_device_that_was_not_in_its_fleet(
    finished: tuple[Path, Any], fieldtune: Command
) -> None:
    folder = finished[0]
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    done = fieldtune("retarget", folder, "--device", "raspberry-pi-3b-plus")
    assert done.returncode == 0, done.stderr
    assert "Re-evaluated for raspberry-pi-3b-plus" in done.stdout
    spent, _, answer = done.stdout.partition("Re-evaluated")
    assert "raspberry-pi-5" in spent  # what the study took of the devices that it had
    assert "raspberry-pi-5" not in answer
    assert "improve it" in done.stdout or "No further trial" in done.stdout
    database = {".db", ".db-shm", ".db-wal"}
    changed = [f for f in before if f.read_bytes() != before[f] and f.suffix not in database]
    assert not changed
    unknown = fieldtune("retarget", folder, "--device", "raspberry-pi-6")
    assert unknown.returncode == 2
    assert "raspberry-pi-5" in unknown.stderr
    nowhere = fieldtune("retarget", folder / "nowhere", "--device", "raspberry-pi-5")
    assert nowhere.returncode == 4


def test_check_trains_nothing_and_says_what_the_limits_leave(
    fieldtune: Command, small_study: Path, tmp_path: Path
) -> None:
    done = fieldtune("check", small_study, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "of the space can be trained on" in done.stdout
    assert "distributed with skewed labels (Dirichlet, alpha = 0.5)" in done.stdout
    for word in (*DEVICES, "learning_rate", "inference_ms"):
        assert word in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("module", ["check", "commands"])
def test_check_and_what_starts_the_compiler_load_neither_optuna_nor_scipys_statistics(
    module: str,
) -> None:
    code = (
        f"import sys, fieldtune.simulations.{module}; "
        "print([m for m in ('optuna', 'sqlalchemy', 'scipy.stats') if m in sys.modules])"
    )
    done = subprocess.run([COMMAND[0], "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "modules",
    [
        "fieldtune.simulations.commands, fieldtune.server.session.session",
        "fieldtune.simulations.fleet.worker",
    ],
)
def test_neither_coordinator_nor_clients_import_tensorflow(modules: str) -> None:
    code = (
        f"import sys, {modules}; "
        "print([m for m in ('tensorflow', 'keras', 'sklearn', 'ray') if m in sys.modules])"
    )
    done = subprocess.run(
        [COMMAND[0], "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.strip() == "[]"


def test_half_the_demo_study_learns_and_recommends_nothing_worse_than_the_defaults(
    fieldtune: Command, tmp_path: Path
) -> None:
    demo = "simulations/studies/digits.toml"
    done = fieldtune("tune", demo, "--out", tmp_path, "--trials", "20")
    assert done.returncode == 0, done.stderr
    pareto = json.loads((tmp_path / "pareto.json").read_text())
    assert max(point["measures"]["accuracy"] for point in pareto["front"]) >= 0.92
    rule = pareto["decision"]
    for device, chosen in pareto["recommended"].items():
        weights = {**rule["weights"], **rule["devices"].get(device, {})}
        assert sum(weights[name] * each["counted"] for name, each in chosen["gains"].items()) >= 0
