"""The example of the documentation runs as it stands there."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from support.commandline import ROOT, Command

pytestmark = pytest.mark.integration


@pytest.fixture
def example(tmp_path: Path, fieldtune: Command) -> Path:
    """What ``fieldtune init`` writes, which is what the documentation shows."""
    folder = tmp_path / "example"
    done = fieldtune("init", folder)
    assert done.returncode == 0, done.stderr
    assert f"fieldtune check {folder / 'gestures.toml'}" in done.stdout
    text = (ROOT / "docs/your-own.md").read_text()
    files = re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```", text, re.M | re.S)
    assert {file.name: file.read_text() for file in folder.iterdir()} == dict(files)
    again = fieldtune("init", folder)
    assert again.returncode == 5
    assert "gestures.toml exists already: give another folder" in again.stderr
    return folder


def test_own_data_model_and_metric_are_tuned(example: Path, fieldtune: Command) -> None:
    done = fieldtune("tune", "gestures.toml", "--trials", "3", cwd=example)
    assert done.returncode == 0, done.stderr
    pareto = json.loads((example / "runs/gestures/pareto.json").read_text())
    assert pareto["metric"] == "gestures:worst_gesture"
    for point in pareto["front"]:
        # The metric of one's own is not the accuracy, and error is one minus it.
        assert point["measures"]["metric"] == pytest.approx(1 - point["measures"]["error"])
        assert point["measures"]["metric"] < point["measures"]["accuracy"]


def test_a_study_with_own_modules_and_data_is_retargeted_from_anywhere(
    example: Path, fieldtune: Command, tmp_path_factory: pytest.TempPathFactory
) -> None:
    away = tmp_path_factory.mktemp("away")
    study = example / "gestures.toml"
    text = study.read_text()
    assert 'data = "gestures:load"' in text
    (example / "samples").mkdir()
    rng = np.random.default_rng(0)
    clients = int(text.partition("clients = ")[2].split()[0])
    for client in range(clients):
        x, y = rng.normal(size=(8, 32, 3)), np.arange(8) % 4
        np.savez(example / f"samples/{client}.npz", x=x, y=y)
    study.write_text(text.replace("gestures:load", "samples").replace("rounds = 8", "rounds = 1"))
    done = fieldtune("tune", study, "--trials", "1", "--out", away / "run", cwd=away)
    assert done.returncode == 0, done.stderr
    again = fieldtune("retarget", away / "run", "--device", "raspberry-pi-3b-plus", cwd=away)
    assert again.returncode == 0, again.stderr
    assert "Re-evaluated for raspberry-pi-3b-plus" in again.stdout
    assert "made on devices" not in again.stderr
    # On another machine they may lie in the run folder instead; devices' own data does not.
    with closing(sqlite3.connect(away / "run/study.db")) as database, database:
        database.execute(
            "UPDATE trial_user_attributes SET value_json = "
            """replace(value_json, '\\"simulated\\":true', '\\"simulated\\":false')"""
        )
    for name in ("samples", "gestures.py"):
        (example / name).rename(away / "run" / name)
    moved = fieldtune("retarget", away / "run", "--device", "raspberry-pi-3b-plus", cwd=away)
    assert moved.returncode == 0, moved.stderr
    assert "is from a study on devices, whose data is not available here" in moved.stderr


@pytest.mark.parametrize(
    ("old", "new", "code", "sentence"),
    [
        ("return min(recalls)", "return 1 / 0, min(recalls)", 2, "ZeroDivisionError"),
        ("Dense(classes)", "Dense(classes, 'softmax')", 6, "ends in softmax, which the loss"),
        ("return x + 1.5", "raise OSError('no disk')\n    return x + 1.5", 2, "raised OSError"),
        ("import keras\n", "import kears\n", 6, "kears"),
        ("def network(", "def network(:", 2, "gestures.py, line 19"),
        ("Dense(classes)", "Dense(classes + 1)", 6, "the data has 4 classes"),
        (
            "def network(filters, kernel",
            "def network(kernel, filter",
            6,
            "takes no 'filters' (did you mean 'filter'?)",
        ),
        ("import keras\n", "import sys; sys.exit('licence')\n", 6, "raised SystemExit: licence"),
        (
            "Dense(classes)",
            "Dense(classes, bias_initializer=keras.initializers.Constant(np.nan))",
            6,
            "starts with weights that are not finite",
        ),
        ("GlobalAveragePooling1D()(x)", "Lambda(keras.ops.erfinv)(x)", 6, "gestures:network"),
    ],
)
def test_a_mistake_in_it_is_a_sentence(
    old: str, new: str, code: int, sentence: str, example: Path, fieldtune: Command
) -> None:
    module = example / "gestures.py"
    assert old in module.read_text()
    module.write_text(module.read_text().replace(old, new))
    done = fieldtune("tune", "gestures.toml", "--trials", "2", cwd=example)
    assert "Traceback" not in done.stderr
    assert sentence in done.stderr
    assert done.returncode == code


def test_data_that_are_others_each_time_are_refused(example: Path, fieldtune: Command) -> None:
    module = example / "gestures.py"
    module.write_text(module.read_text().replace("default_rng(0)", "default_rng()"))
    done = fieldtune("tune", "gestures.toml", "--trials", "2", "--workers", "2", cwd=example)
    assert "loads other samples each time that it is called" in done.stderr
    assert "give its random numbers a seed" in done.stderr
    assert done.returncode == 2


def test_full_int8_is_calibrated_with_data_that_the_study_names(
    example: Path, fieldtune: Command
) -> None:
    module, study = example / "gestures.py", example / "gestures.toml"
    module.write_text(module.read_text() + "\n\ndef public():\n    return load()[0][:64]\n")
    text = study.read_text().replace(
        "[fleet]", 'variants = ["fp32", "int8"]\ncalibration = "gestures:public"\n\n[fleet]'
    )
    study.write_text(text)
    done = fieldtune("tune", "gestures.toml", "--trials", "2", cwd=example)
    assert done.returncode == 0, done.stderr
    pareto = json.loads((example / "runs/gestures/pareto.json").read_text())
    chosen = {each["trial"] for each in pareto["recommended"].values()}
    for point in (each for each in pareto["front"] if each["trial"] in chosen):
        assert set(point["variants"]) == {"fp32", "int8"}
        whole, small = point["variants"]["fp32"], point["variants"]["int8"]
        assert small["sha256"] != whole["sha256"]
        assert small["test_samples"] == whole["test_samples"] == point["test_samples"]
        assert abs(small["measures"]["accuracy"] - whole["measures"]["accuracy"]) < 0.1
    study.write_text(text.replace("gestures:public", "gestures:missing"))
    refused = fieldtune("tune", "gestures.toml", "--trials", "1", "--out", "other", cwd=example)
    assert refused.returncode == 2
    assert "task.calibration = 'gestures:missing' cannot be imported" in refused.stderr
