"""``fieldtune client predict``: raw samples in, a line for each out."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fieldtune.client.deployed.package import Package
from fieldtune.client.deployed.samples import lines_of
from fieldtune.client.deployed.slots import Slots
from fieldtune.client.training.runtime import Inference
from support.commandline import Command
from support.deployed import GOOD, digits_data, old_model, order

NAMES = tuple("abcdefghij")
X = digits_data(samples=3).test_x


@pytest.fixture(autouse=True)
def deployed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    slots = Slots(tmp_path / "fieldtune/kitchen")
    slots.switch(Package(order(1, labels=NAMES, scale=255.0), old_model(GOOD)))


@pytest.fixture
def labels() -> list[str]:
    model = Inference(old_model(GOOD))
    return [NAMES[int(model.infer(np.rint(x * 255) / 255).argmax())] for x in X]


@pytest.mark.parametrize("kind", ["csv", "npy", "npz", "png"])
def test_files_of_each_kind_are_read_as_raw_values(
    kind: str, labels: list[str], tmp_path: Path, fieldtune: Command
) -> None:
    file, pixels = tmp_path / f"raw.{kind}", np.rint(X * 255).astype(np.uint8)
    if kind == "csv":
        rows = "\n".join(",".join(map(str, x.ravel())) for x in pixels)
        file.write_text(f"a,b\n{rows}\n")
    elif kind == "npy":
        np.save(file, pixels)
    elif kind == "npz":
        np.savez(file, x=pixels)
    else:
        Image.fromarray(pixels[0, ..., 0]).save(file)
        labels = labels[:1]
    done = fieldtune("client", "predict", file)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == labels
    told = fieldtune("client", "predict", file, "--format", "json").stdout.splitlines()
    assert [json.loads(line)["label"] for line in told] == labels
    assert 0 < json.loads(told[0])["probability"] <= 1


@pytest.mark.parametrize("between", [",", " ", "\t"])
def test_lines_on_stdin_are_samples(
    between: str, labels: list[str], monkeypatch: pytest.MonkeyPatch, fieldtune: Command
) -> None:
    rows = "".join(between.join(map(str, np.rint(x * 255).ravel())) + "\n" for x in X)
    monkeypatch.setattr(sys, "stdin", io.StringIO(rows))
    done = fieldtune("client", "predict", "-", "--device", "kitchen")
    assert [line.split()[0] for line in done.stdout.splitlines()] == labels


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1,2\n", "a sample has shape [2], the model takes [8, 8, 1]"),
        ("a,b\nc,d\n", "line 2: not numbers with commas or blanks between them"),
        ("1 2 x\n", "line 1: not numbers with commas or blanks between them"),
        ("a,b\n", "has no sample: give a line of numbers for each"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(
    text: str, why: str, tmp_path: Path, fieldtune: Command
) -> None:
    (tmp_path / "a.csv").write_text(text)
    done = fieldtune("client", "predict", tmp_path / "a.csv")
    assert done.returncode == 2
    assert why in done.stderr
    assert "bug" not in fieldtune("client", "predict", tmp_path / "no.csv").stderr


def test_a_single_number_is_no_sample(tmp_path: Path, fieldtune: Command) -> None:
    np.save(tmp_path / "one.npy", 3.0)
    done = fieldtune("client", "predict", tmp_path / "one.npy")
    assert done.returncode == 2
    assert "a sample has shape [], the model takes [8, 8, 1]" in done.stderr


def test_a_number_too_large_for_float32_is_infinite() -> None:
    (sample,) = lines_of(["1,4e99"], "x.csv")
    assert sample.tolist() == [1.0, np.inf]
