"""Damaged files of a run folder are named, with the remedy, and nothing is trained again."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from support.commandline import Command

pytestmark = pytest.mark.integration

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
