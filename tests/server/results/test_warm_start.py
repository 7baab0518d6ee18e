"""``fieldtune tune --warm-start``: from one run's folder to the next study's first proposals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fieldtune.profiles.common.errors import RunFolderError, UsageError
from fieldtune.server.results.run_folder import RunFolder
from fieldtune.server.results.warm_start import read_earlier, warm_start
from support.commandline import Command

pytestmark = pytest.mark.integration

STUDY = """
[study]
name = "NAME"
trials = 6
rounds = 1
objectives = ["error", "energy_j"]
seed = SEED
parallel = 2
[task]
data = "digits"
model = "mlp"
variants = ["fp32"]
[fleet]
clients = 8
devices = { "raspberry-pi-5" = 1.0 }
[space.model]
width = { choices = [8] }
[space.client]
learning_rate = { low = 0.001, high = 1.0, log = true }
batch_size = { choices = [8, 16], default = 8 }
[space.server]
clients_per_round = { low = 2, high = 6 }
"""


def study(folder: Path, name: str, seed: int, *changes: tuple[str, str]) -> Path:
    text = STUDY.replace("NAME", name).replace("SEED", str(seed))
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file = folder / f"{name}.toml"
    file.write_text(text)
    return file


@pytest.fixture(scope="module")
def earlier(fieldtune: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("earlier")
    done = fieldtune("tune", study(folder, "earlier", 1), "--out", folder / "run")
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_a_study_killed_and_without_the_earlier_folder_ends_as_if_it_had_both(
    fieldtune: Command, earlier: Path, tmp_path: Path
) -> None:
    file = study(tmp_path, "next", 2)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    old = tmp_path / "old"
    shutil.copytree(earlier, old)
    done = fieldtune("tune", file, "--out", whole, "--warm-start", old)
    assert done.returncode == 0, done.stderr
    assert "Warm start from earlier: 6 trials" in done.stderr
    done = fieldtune("tune", file, "--out", parts, "--warm-start", old, "--trials", "3")
    assert done.returncode == 0, done.stderr
    shutil.rmtree(old)
    done = fieldtune("tune", file, "--out", parts)
    assert done.returncode == 0, done.stderr
    for name in ("pareto.json", "trials.csv", "prior.json"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()
    with RunFolder(parts) as folder, pytest.raises(RunFolderError) as refused:
        warm_start(folder, [_other(earlier, tmp_path)])
    assert "was started with other runs as --warm-start (earlier)" in str(refused.value)


def test_prior_knowledge_is_not_given_later(earlier: Path, tmp_path: Path) -> None:
    shutil.copytree(earlier, tmp_path / "run")
    with RunFolder(tmp_path / "run") as folder, pytest.raises(RunFolderError) as refused:
        warm_start(folder, [earlier])
    assert "was started without --warm-start, which cannot be given later" in str(refused.value)


def _other(earlier: Path, folder: Path) -> Path:
    """The run, one of whose results came out otherwise."""
    shutil.copytree(earlier, folder / "other")
    summary = json.loads((folder / "other/pareto.json").read_text())
    summary["attempts"][0]["objectives"]["error"] = 0.123
    (folder / "other/pareto.json").write_text(json.dumps(summary))
    return folder / "other"


def _without(folder: Path, name: str) -> None:
    (folder / name).unlink()


def _with_schema(folder: Path, version: int) -> None:
    summary = json.loads((folder / "pareto.json").read_text())
    (folder / "pareto.json").write_text(json.dumps(summary | {"schema_version": version}))


def _with_trials(folder: Path, count: int) -> None:
    summary = json.loads((folder / "pareto.json").read_text())
    summary["attempts"] = summary["attempts"][:count]
    (folder / "pareto.json").write_text(json.dumps(summary))


@pytest.mark.parametrize(
    ("spoil", "code", "sentence"),
    [
        (lambda f: _without(f, "pareto.json"), 4, "it holds no pareto.json; give the folder"),
        (lambda f: _without(f, "study.toml"), 4, "There is no study file"),
        (lambda f: (f / "pareto.json").write_text("{}"), 4, "not of this version's schema"),
        (lambda f: (f / "pareto.json").write_bytes(b"\xff\xfe"), 4, "not of this version's schema"),
        (lambda f: _with_schema(f, 7), 4, "has schema version 7, and this fieldtune reads 1"),
        (lambda f: _with_trials(f, 3), 4, "holds 3 trained trials, and at least 4 are needed"),
        (shutil.rmtree, 4, "there is no such folder"),
    ],
)  # fmt: skip
def test_a_folder_that_is_no_finished_run_is_a_sentence(
    spoil: Any, code: int, sentence: str, earlier: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "old"
    shutil.copytree(earlier, folder)
    spoil(folder)
    with pytest.raises(RunFolderError, match=r"^--warm-start .*old: ") as refused:
        read_earlier(folder)
    assert sentence in str(refused.value)
    assert refused.value.exit_code == code


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            ('objectives = ["error", "energy_j"]', 'objectives = ["macro_f1"]'),
            "measured energy_j, error, and nothing that this one has to learn (macro_f1)",
        ),
        (("[task]", '[tuner]\nname = "tpe"\n[task]'), "has no effect with tuner.name = 'tpe'"),
    ],
)
def test_an_earlier_run_that_is_of_no_use_is_a_sentence(
    change: tuple[str, str], sentence: str, earlier: Path, tmp_path: Path
) -> None:
    file = study(tmp_path, "useless", 0, change)
    with RunFolder(tmp_path / "run", file.read_text()) as folder:
        with pytest.raises(UsageError) as refused:
            warm_start(folder, [earlier])
        assert sentence in str(refused.value)
        assert not (folder.path / "prior.json").exists()


def test_a_run_without_a_parameter_in_common_is_a_sentence(earlier: Path, tmp_path: Path) -> None:
    text = study(tmp_path, "other", 0).read_text().partition("[space.model]")[0]
    text += "[space.server]\nserver_momentum = { low = 0.0, high = 0.9 }\n"
    with (
        RunFolder(tmp_path / "run", text) as folder,
        pytest.raises(UsageError, match="no parameter in common with this one; it has width, "),
    ):
        warm_start(folder, [earlier])


def test_what_a_run_was_started_with_must_not_be_damaged(tmp_path: Path) -> None:
    text = study(tmp_path, "damaged", 0).read_text()
    with RunFolder(tmp_path / "run", text) as folder:
        (folder.path / "prior.json").write_text("[{]")
        with pytest.raises(RunFolderError, match="without it this run cannot be resumed"):
            warm_start(folder, [])
