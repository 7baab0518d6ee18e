"""Whatever is wrong with what a user gives: one clear sentence, the documented code, no trace."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from support.commandline import COMMAND, Command

pytestmark = pytest.mark.integration


def changed(study: Path, folder: Path, old: str, new: str) -> Path:
    text = study.read_text()
    assert old in text
    file = folder / "study.toml"
    file.write_text(text.replace(old, new, 1))
    return file


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
        ('"cnn"]', '"nowhere:model"]', 6, "nowhere"),
        ("clients = 100", "clients = 1000", 2, "too many for 1797 samples"),
        ("[space.model]", '[tuner]\nname = "gray"\n[space.model]', 2, "did you mean 'grey'?"),
        ("[space.model]", '[tuner]\nname = "no:way"\n[space.model]', 2, "cannot be imported"),
        ("inference_ms = 0.3", "inference_ms = 0.0001", 3, "inference_ms rules out 100 %"),
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


@pytest.mark.parametrize(
    "limits",
    [
        "[limits]\ninference_ms = 0.0001",
        '[limits]\nenergy_j = 1e-9\n[limits."raspberry-pi-5"]\ninference_ms = 0.00001',
        "[limits]\nround_s = 1e-9\ncoverage = 0.5",
    ],
)
def test_impossible_limits_are_told_with_the_value_that_suffices(
    limits: str, fieldtune: Command, small_study: Path, tmp_path: Path
) -> None:
    old = re.search(r"\[limits\]\n(?:[a-z_]+ = .*\n)+", small_study.read_text())
    assert old
    file = changed(small_study, tmp_path, old[0], limits + "\n")
    done = fieldtune("check", file)
    assert done.returncode == 3, done.stderr
    assert "rules out 100 %" in done.stderr
    assert "Warning" not in done.stderr
    told = re.findall(r"limits\.(\S+) = (\S+) \(it is (\S+)\)", done.stderr)
    assert len(told) == limits.count("e-9") + limits.count("0.0000") + limits.count("0.0001")
    text = file.read_text()
    for name, value, before in told:
        key = name.rpartition(".")[2]
        text, count = re.subn(rf"{key} = (?:{re.escape(before)}|0\.00001|0\.0001|1e-9)",
                              f"{key} = {value}", text)  # fmt: skip
        assert count == 1
    file.write_text(text)
    mended = fieldtune("check", file)
    assert mended.returncode == 0, mended.stderr
    # A little less would not do.
    value = told[0][1]
    file.write_text(text.replace(f"= {value}", f"= {0.98 * float(value):.12f}", 1))
    assert fieldtune("check", file).returncode == 3


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


@pytest.fixture(scope="module")
def used_folder(
    fieldtune: Command, small_study: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("used") / "run"
    done = fieldtune("tune", small_study, "--out", folder, "--trials", "1")
    assert done.returncode == 0, done.stderr
    return folder


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


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--device", "raspberry-pi-6"], "study's fleet (did you mean 'raspberry-pi-5'"),
        (["--device", "raspberry-pi-5", "--trial", "99"], "Trial 99 is not on the front"),
        (["--device", "raspberry-pi-5", "--variant", "fp64"], "There is no variant 'fp64'"),
    ],
)  # fmt: skip
def test_an_export_of_what_is_not_there_is_refused(
    arguments: list[str], sentence: str, fieldtune: Command, used_folder: Path, tmp_path: Path
) -> None:
    done = fieldtune("export", used_folder, *arguments, "--out", tmp_path / "x.tflite")
    assert done.returncode == 2
    assert sentence in done.stderr
    assert not (tmp_path / "x.tflite").exists()


FP32 = "fp32.tflite"
Damage = Callable[[Path], object]


def with_a_bit_flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def of_another_trial(card: Path) -> None:
    card.write_text(card.read_text().replace('"trial": 0', '"trial": 1'))


DAMAGES: dict[str, tuple[str, Damage, str]] = {
    "a bit flipped": (FP32, with_a_bit_flipped, "is damaged or was replaced"),
    "truncated": (FP32, lambda f: f.write_bytes(f.read_bytes()[:-1]), "is damaged or was replaced"),
    "swapped": (FP32, lambda f: shutil.copy(f.with_name("fp16.tflite"), f), "is damaged or was"),
    "no model": (FP32, Path.unlink, "is missing"),
    "no card": ("card.json", Path.unlink, "is missing"),
    "card truncated": ("card.json", lambda f: f.write_bytes(f.read_bytes()[:-9]), "is damaged"),
    "card no text": ("card.json", lambda f: f.write_bytes(b"\xff"), "is damaged"),
    "card of nothing": ("card.json", lambda f: f.write_text("{}"), "is damaged"),
    "card swapped": ("card.json", of_another_trial, "describes trial 1, not trial 0"),
}


@pytest.mark.parametrize(("name", "damage", "sentence"), DAMAGES.values(), ids=list(DAMAGES))
def test_a_model_that_is_not_what_its_card_says_is_not_exported(
    name: str, damage: Damage, sentence: str,
    fieldtune: Command, used_folder: Path, tmp_path: Path,
) -> None:  # fmt: skip
    run, out = tmp_path / "run", tmp_path / "x.tflite"
    shutil.copytree(used_folder, run)
    file = run / "models/trial-0000" / name
    damage(file)
    done = fieldtune("export", run, "--device", "raspberry-pi-5", "--out", out)
    assert done.returncode == 4, done.stderr
    assert f"error: {file} {sentence}" in done.stderr
    assert "run the study's 'fieldtune tune' command again to write it anew" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not out.exists()


def test_the_studys_command_mends_a_damaged_model_and_its_card(
    fieldtune: Command, small_study: Path, used_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(used_folder, run)
    models = run / "models/trial-0000"
    before = {file.name: file.read_bytes() for file in models.iterdir()}
    with_a_bit_flipped(models / FP32)
    again = fieldtune("tune", small_study, "--out", run, "--trials", "1")
    assert again.returncode == 0, again.stderr
    assert before == {file.name: file.read_bytes() for file in models.iterdir()}
    done = fieldtune("export", run, "--device", "raspberry-pi-5", "--out", tmp_path / "x.tflite")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.tflite").read_bytes() == before[FP32]


def overwritten(file: Path) -> None:
    """Zeros from the second page on: SQLite can still open it."""
    content = file.read_bytes()
    file.write_bytes(content[:4096] + bytes(len(content) - 4096))


def without_trials(file: Path) -> None:
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("DELETE FROM trials")


def with_an_outcome_of_another_kind(file: Path) -> None:
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE trial_user_attributes SET value_json = '\"x\"'")


LOST = "restore it from a backup, or start the study anew in another folder with --out"
DATABASES: dict[str, tuple[Damage, str]] = {
    "text": (lambda f: f.write_text("nonsense" * 1000), "is damaged (file is not a database)"),
    "overwritten": (overwritten, "is damaged ("),
    "truncated": (lambda f: f.write_bytes(f.read_bytes()[:9000]), "is damaged ("),
    "emptied": (lambda f: f.write_bytes(b""), "is empty, though this folder holds results of"),
    "deleted": (Path.unlink, "is missing, though this folder holds results of trials"),
    "no trials": (without_trials, "has no trial, though trials.csv lists 1"),
    "outcomes": (with_an_outcome_of_another_kind, "is damaged ("),
}


@pytest.mark.parametrize("command", ["tune", "retarget"])
@pytest.mark.parametrize(("damage", "sentence"), DATABASES.values(), ids=list(DATABASES))
def test_a_lost_database_is_named_and_nothing_is_trained_again(
    command: str, damage: Damage, sentence: str,
    fieldtune: Command, small_study: Path, used_folder: Path, tmp_path: Path,
) -> None:  # fmt: skip
    run = tmp_path / "run"
    shutil.copytree(used_folder, run)
    with closing(sqlite3.connect(run / "study.db")) as database:
        # As when the process of the study has ended, which here is that of the tests.
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    damage(run / "study.db")
    before = {file: file.read_bytes() for file in run.rglob("*") if file.suffix in (".csv", ".npy")}
    what = [small_study, "--out", run] if command == "tune" else [run, "--device", "beagle-a9"]
    done = fieldtune(command, *what)
    assert done.returncode == 4, done.stderr
    assert f"error: {run / 'study.db'} {sentence}" in done.stderr
    assert LOST in done.stderr
    assert before == {file: file.read_bytes() for file in before}
    assert fieldtune("report", run).returncode == 0
    out = tmp_path / "x.tflite"
    assert fieldtune("export", run, "--device", "raspberry-pi-5", "--out", out).returncode == 0


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda file: file.write_bytes(b"\xff\xfe"), "is damaged, it is not text: run the study's"),
        (lambda file: file.write_text("{"), "is damaged or of another version (invalid JSON"),
        (
            lambda file: file.write_text(file.read_text().replace('"front"', '"fronts"')),
            "is damaged or of another version (front is missing): run the study's 'fieldtune tune'",
        ),
        (lambda file: file.write_text("[" * 100_000), "is damaged or of another version (invalid"),
    ],
)
def test_damaged_results_are_named_with_the_remedy(
    damage: Damage, sentence: str, fieldtune: Command, used_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(used_folder, run)
    damage(run / "pareto.json")
    for command in (["report", run], ["export", run, "--device", "raspberry-pi-5", "--out", "x"]):
        done = fieldtune(*command)
        assert done.returncode == 4, done.stderr
        assert f"error: {run / 'pareto.json'} {sentence}" in done.stderr


def test_a_trial_of_an_interrupted_study_is_converted_when_it_is_exported(
    fieldtune: Command, used_folder: Path, tmp_path: Path
) -> None:
    run, out = tmp_path / "run", tmp_path / "x.tflite"
    shutil.copytree(used_folder, run)
    model = (run / "models/trial-0000" / FP32).read_bytes()
    for file in (run / "models/trial-0000").iterdir():
        if file.name != "weights.npy":
            file.unlink()
    pareto = json.loads((run / "pareto.json").read_text())
    for point in pareto["front"]:
        point["variants"] = {}
    (run / "pareto.json").write_text(json.dumps(pareto | {"state": "interrupted"}))
    assert fieldtune("report", run).returncode == 0
    done = fieldtune("export", run, "--device", "raspberry-pi-5", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "is converted now, and not measured on the clients yet" in done.stderr
    assert out.read_bytes() == model
    wrong = fieldtune(
        "export", run, "--device", "raspberry-pi-5", "--variant", "fp61", "--out", out
    )
    assert wrong.returncode == 2
    assert "no variant 'fp61' (did you mean 'fp16'?)" in wrong.stderr
    (run / "fingerprint.json").unlink()  # as in a run of an earlier fieldtune
    done = fieldtune("export", run, "--device", "raspberry-pi-5", "--out", out)
    assert done.returncode == 4
    assert "has no files of trial 0 yet: run the study's 'fieldtune tune' command" in done.stderr


def test_a_device_type_of_another_fleet_is_exported_for_once_it_is_retargeted(
    fieldtune: Command, used_folder: Path, tmp_path: Path
) -> None:
    run, out = tmp_path / "run", tmp_path / "x.tflite"
    shutil.copytree(used_folder, run)
    export = ["export", run, "--device", "raspberry-pi-3b-plus", "--out", out]
    refused = fieldtune(*export)
    assert refused.returncode == 2
    assert "For another device type, run 'fieldtune retarget' with it first" in refused.stderr
    moved = fieldtune("retarget", run, "--device", "raspberry-pi-3b-plus")
    assert moved.returncode == 0, moved.stderr
    told = json.loads(fieldtune(*("retarget", run), *export[2:4], "--format", "json").stdout)
    assert list(told["devices"]) == ["raspberry-pi-3b-plus"]
    assert f"To deploy: fieldtune export {run} --device raspberry-pi-3b-plus --out" in moved.stderr
    done = fieldtune(*export)
    assert done.returncode == 0, done.stderr
    assert out.read_bytes() == (run / "models/trial-0000" / FP32).read_bytes()
    assert done.stdout.endswith("for raspberry-pi-3b-plus\n")


def test_an_export_into_a_folder_that_is_not_there_says_so(
    fieldtune: Command, used_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "none/x.tflite"
    done = fieldtune("export", used_folder, "--device", "raspberry-pi-5", "--out", out)
    assert done.returncode == 5
    assert f"{out} cannot be written: there is no folder {out.parent}; create it" in done.stderr
    assert "disk space" not in done.stderr


def test_an_export_onto_a_folder_says_so(
    fieldtune: Command, used_folder: Path, tmp_path: Path
) -> None:
    done = fieldtune("export", used_folder, "--device", "raspberry-pi-5", "--out", tmp_path)
    assert done.returncode == 5
    assert f"{tmp_path} cannot be written: it is a folder; name a file in it" in done.stderr


def test_an_export_that_fails_half_way_leaves_the_file_of_before(
    used_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "x.tflite"
    out.write_bytes(b"before")
    export = shlex.join(
        [*COMMAND, "export", str(used_folder), "--device", "raspberry-pi-5", "--out", str(out)]
    )
    # No file may be larger than 1 KiB.
    done = subprocess.run(
        ["sh", "-c", f"ulimit -f 1; {export}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 5, done.stderr
    assert f"{out} cannot be written (File too large)" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["x.tflite"]
    assert out.read_bytes() == b"before"


def test_an_export_may_go_to_standard_output(used_folder: Path) -> None:
    command = [*COMMAND, "export", str(used_folder), "--device", "raspberry-pi-5"]
    # What /dev/stdout links to; nothing could be put in its place, as in /dev by root.
    done = subprocess.run([*command, "--out", "/proc/self/fd/1"], capture_output=True, check=False)
    assert done.stdout.startswith((used_folder / "models/trial-0000" / FP32).read_bytes())


def can_mount() -> bool:
    return (
        shutil.which("unshare") is not None
        and subprocess.run(
            ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"],
            capture_output=True, check=False,
        ).returncode == 0
    )  # fmt: skip


def learned(run: Path) -> list[dict[str, str]]:
    """What a run's trials are and came to, without what devices teach of their costs later."""
    with (run / "trials.csv").open() as file:
        lines = list(csv.DictReader(file))
    if not lines:
        return []
    columns = list(lines[0])
    kept = [*columns[: columns.index("objective:error") + 1], "seed"]
    return [{column: line[column] for column in kept} for line in lines]


@pytest.mark.parametrize("size_kib", [60, 400, 800])
@pytest.mark.skipif(not can_mount(), reason="a full disk needs the right to mount a small one")
def test_a_full_disk_is_a_sentence_and_loses_no_finished_trial(
    size_kib: int, small_study: Path, fieldtune: Command, tmp_path: Path
) -> None:
    disk, saved = tmp_path / "disk", tmp_path / "saved"
    disk.mkdir()
    script = (
        f"mount -t tmpfs -o size={size_kib}k none {disk} && "
        f"{' '.join(COMMAND)} tune {small_study} --out {disk}/run; code=$?; "
        f"cp -r {disk}/run {saved}; exit $code"
    )
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 5, done.stderr
    assert "free some disk space" in done.stderr
    assert "Traceback" not in done.stderr
    # With room again, the study goes on from what it had.
    before = learned(saved) if (saved / "trials.csv").exists() else []
    assert len(before) > 0 or size_kib < 800
    again = fieldtune("tune", small_study, "--out", saved)
    assert again.returncode == 0, again.stderr
    after = learned(saved)
    assert after[: len(before)] == before
    assert sum(line["state"] == "completed" for line in after) == 8
