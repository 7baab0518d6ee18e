"""Whatever is wrong in a study: one clear sentence, the documented code, no trace."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from support.commandline import COMMAND, Command
from support.studies import changed

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    ("old", "new", "code", "sentence"),
    [
        ("rounds =", "round =", 2, "study.round is not a known key (did you mean 'rounds'?)"),
        ('data = "digits"', 'data = "digit"', 2, "task.data = 'digit' is unknown"),
        (
            'data = "digits"',
            "",
            2,
            "task.data is missing: a simulated fleet has no data of its own",
        ),
        ('data = "digits"', 'data = "nowhere:load"', 2, "'nowhere:load' cannot be imported"),
        ("= 0.2 }", "= 0.3 }", 2, "shares that sum to 1.1: they must sum to 1"),
        ('"raspberry-pi-5" =', '"raspberry-pi-55" =', 2, "'raspberry-pi-5'"),
        ('"cnn"]', '"cnnn"]', 2, "unknown model 'cnnn' (did you mean 'cnn'?)"),
        ('"cnn"]', '"nowhere:model"]', 2, "there is no module 'nowhere': put it beside the study"),
        ('"cnn"]', '"json:lods"]', 2, "no 'lods' (did you mean 'loads'?); it has dump, dumps"),
        ('"accuracy"', '"json:lods"', 2, "task.metric = 'json:lods' cannot be imported: module"),
        ('data = "digits"', 'data = "json:lods"', 2, "task.data = 'json:lods' cannot be imported"),
        (
            "[space.model]",
            '[server]\naggregation = "json:Decoder"\n[space.model]',
            2,
            "server.aggregation = 'json:Decoder' cannot be imported: module 'json' has no "
            "'Decoder' (did you mean 'JSONDecoder'?)",
        ),
        ("clients = 100", "clients = 1000", 2, "too many for 1797 samples"),
        ("[space.model]", '[tuner]\nname = "gray"\n[space.model]', 2, "did you mean 'grey'?"),
        ("[space.model]", '[tuner]\nname = "no:way"\n[space.model]', 2, "cannot be imported"),
        ("inference_ms = 0.3", "inference_ms = 0.0001", 3, "Nothing in the space fits 90 %"),
    ],
)
def test_a_study_that_cannot_run_says_why(
    old: str, new: str, code: int, sentence: str,
    fieldtune: Command, small_study: Path, tmp_path: Path,
) -> None:  # fmt: skip
    file = changed(small_study, tmp_path, old, new)
    done = fieldtune("tune", file, "--out", tmp_path / "run")
    assert sentence in done.stderr
    assert done.returncode == code
    assert done.stderr.count("error:") == 1
    assert "Traceback" not in done.stderr


METRIC = "def metric(y_true, logits):\n    return {}\n"


@pytest.mark.parametrize("command", ["check", "tune"])
@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (METRIC.format("1 / 0, 1"), "raised ZeroDivisionError: division by zero"),
        (METRIC.format("0.5"), "returned a single number, 0.5: return (value, weight)"),
        (METRIC.format("[0.5] * 50"), "returned 50 values: return (value, weight)"),
        (METRIC.format("(50, 1)"), "returned the value 50, and the objective error is 1 - metric"),
        (METRIC.format("(, 1)"), "own.py, line 2: invalid syntax"),
    ],
)
def test_a_metric_that_does_not_work_is_found_before_anything_trains(
    command: str, source: str, sentence: str,
    fieldtune: Command, small_study: Path, tmp_path: Path,
) -> None:  # fmt: skip
    file = changed(small_study, tmp_path, '"accuracy"', '"own:metric"')
    (tmp_path / "own.py").write_text(source)
    done = fieldtune(command, file, *(["--out", tmp_path / "run"] if command == "tune" else []))
    assert done.returncode == 2, done.stderr
    (error,) = (line for line in done.stderr.splitlines() if "error:" in line)
    assert "error: task.metric = 'own:metric' " in error
    assert sentence in error
    assert "Traceback" not in done.stderr
    assert "trial " not in done.stderr


def test_check_tells_of_data_chance_level_and_metric(
    fieldtune: Command, small_study: Path, tmp_path: Path
) -> None:
    done = fieldtune("check", small_study)
    assert done.returncode == 0, done.stderr
    assert "10 classes of 9.7 to 10.2 % of the samples" in done.stdout
    assert "Values of the samples go from 0 to 1" in done.stdout
    assert "Metric accuracy: 0.102 by chance (always the most frequent class)" in done.stdout
    told = json.loads(fieldtune("check", small_study, "--format", "json").stdout)
    assert sum(told["data"]["class_samples"]) == 1797
    assert told["fleet"]["raspberry-pi-5"]["clients"] == 20
    assert 0 < told["feasible"] <= 1
    (tmp_path / "own.py").write_text(
        METRIC.format("(y_true == 3).mean(), 1")
        + "\n\ndef load():\n    from sklearn.datasets import load_digits\n"
        "    digits = load_digits()\n"
        "    return 16 * digits.images[..., None], digits.target, None\n"
    )
    file = changed(small_study, tmp_path, '"accuracy"', '"own:metric"')
    file.write_text(file.read_text().replace('data = "digits"', 'data = "own:load"'))
    done = fieldtune("check", file)
    assert done.returncode == 0, done.stderr
    assert "Metric own:metric: gives 0" in done.stdout
    assert " for the untrained model on client 0 (" in done.stdout
    assert "The samples go from 0 to 256, and training on such large values" in done.stderr


def test_a_missing_study_file_is_a_sentence(fieldtune_process: Command, tmp_path: Path) -> None:
    done = fieldtune_process("tune", tmp_path / "none.toml")
    assert done.returncode == 2
    assert "There is no study file" in done.stderr


def test_a_data_set_that_is_not_installed_says_what_to_install(
    small_study: Path, tmp_path: Path
) -> None:
    # A worker that cannot find scikit-learn: the finder of specs is told that it is not there.
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\n"
        "real = u.find_spec\n"
        "u.find_spec = lambda n, p=None: None if n == 'sklearn' else real(n, p)\n"
    )
    done = subprocess.run(
        [*COMMAND, "tune", str(small_study), "--out", str(tmp_path / "run")],
        capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "pip install 'fieldtune[simulation]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_choice_that_is_too_large_to_be_compiled_is_left_out_with_its_reason(
    fieldtune: Command, small_study: Path, tmp_path: Path
) -> None:
    file = changed(small_study, tmp_path, 'model = ["mlp", "cnn"]', 'model = "mlp"')
    text = file.read_text()
    file.write_text(text.replace("choices = [8, 32], default = 32", "choices = [8, 1_000_000_000]"))
    done = fieldtune("check", file)
    assert done.returncode == 0, done.stderr
    words = " ".join(done.stdout.split())
    assert "'width': 1000000000} has weights of 238 GiB or more (dense: 64 x 1000000000" in words
    assert "a TFLite file holds 2 GiB at most: choose smaller values" in words
    told = json.loads(fieldtune("check", file, "--format", "json").stdout)
    assert 0.4 < told["feasible"] < 0.6
    assert len(told["not_compiled"]) == 2  # of each depth
    done = fieldtune("tune", file, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "run" / "trials.csv").open() as lines:
        trials = list(csv.DictReader(lines))
    failed = {each["width"] for each in trials if each["state"] == "failed"}
    assert failed <= {"1000000000"}
    assert {each["width"] for each in trials if each["state"] == "completed"} == {"8"}
    assert sum(each["state"] == "completed" for each in trials) >= 6
    assert fieldtune("report", tmp_path / "run").returncode == 0


def test_a_value_that_is_too_large_to_be_compiled_is_refused(
    fieldtune: Command, small_study: Path, tmp_path: Path
) -> None:
    text = small_study.read_text()
    file = tmp_path / "study.toml"
    file.write_text(re.sub(r"^width = .*$", "width = 1_000_000_000", text, flags=re.M))
    for command in ("check", "tune"):
        done = fieldtune(command, file, cwd=tmp_path)
        assert done.returncode == 6, done.stderr
        (error,) = (line for line in done.stderr.splitlines() if line.startswith("error:"))
        assert "has weights of 238 GiB or more" in error
