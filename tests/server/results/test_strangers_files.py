"""Files that somebody else made are only read: nothing in them runs, or reaches out of them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fieldtune.profiles.common.errors import ProfileError, RunFolderError, StudyError
from fieldtune.profiles.common.text import printable
from fieldtune.profiles.device.load import load_profile
from fieldtune.server.federation.traces import read_traces
from fieldtune.server.report.html import render_html
from fieldtune.server.report.run_info import run_info
from fieldtune.server.report.table import print_summary
from fieldtune.server.results.export import exported_model
from fieldtune.server.results.model_files import read_card
from fieldtune.server.results.run_folder import RunFolder, read_result, read_summary
from support.commandline import ROOT, in_own_process

EVIL = "\x1b[2J\r\n\u202eerror: <script>alert(1)</script>"
DEVICE = "raspberry-pi-4b"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with tarfile.open(ROOT / "tests/data/run-0.1.0.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "run"


def changed(file: Path, change: Callable[[str], str]) -> None:
    file.write_text(change(file.read_text()))


def test_its_texts_change_nothing_on_a_terminal_or_a_page(run: Path) -> None:
    written = json.dumps(EVIL)[1:-1]
    changed(run / "pareto.json", lambda text: text.replace(DEVICE, written))
    changed(run / "study.toml", lambda text: text.replace('"mlp"', f'"{written}"', 1))
    summary, out = read_summary(run), io.StringIO()
    assert printable(EVIL) in summary.devices
    print_summary(summary, Console(file=out, width=200), run_info(run, summary))
    assert "alert(1)" in out.getvalue()
    assert all(line == printable(line) for line in out.getvalue().split("\n"))
    page = render_html(summary, run_info(run, summary))
    assert "\u202e" not in page
    assert "<script>alert(1)" not in page


def test_texts_are_made_printable_whatever_else_is_in_the_file(run: Path) -> None:
    evil = json.dumps(EVIL)
    changed(run / "pareto.json", lambda text: text.replace('"old"', evil).replace(
        "{", '{"new": ' + "9" * 5000 + ",", 1))  # fmt: skip
    with pytest.raises(RunFolderError, match="is damaged or of another version"):
        read_summary(run)


@pytest.mark.parametrize("name", ["../../secret", "fp32/../../../secret", ""])
def test_a_file_to_export_lies_in_the_folder_of_its_trial(run: Path, name: str) -> None:
    (run.parent / "secret.tflite").write_bytes(b"secret")

    def escaping(text: str) -> str:
        card: dict[str, Any] = json.loads(text)
        file = {**card["variants"]["fp32"], "sha256": hashlib.sha256(b"secret").hexdigest()}
        return json.dumps(card | {"variants": {name: file}})

    changed(run / "models/trial-0000/card.json", escaping)
    with pytest.raises(RunFolderError, match=r"card.json is damaged"):
        exported_model(run, 0, name)


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("pareto.json", read_summary),
        ("trials.csv", lambda run: read_result(run, "trials.csv")),
        ("models/trial-0000/card.json", lambda run: read_card(run, 0)),
        ("models/trial-0000/fp32.tflite", lambda run: exported_model(run, 0, "fp32")),
        ("models/trial-0000/weights.npy", lambda run: RunFolder(run).load_weights(0)),
    ],
)
def test_a_pipe_or_a_device_in_the_place_of_a_file_is_not_read(
    run: Path, name: str, read: Callable[[Path], object], kind: str
) -> None:
    file = run / name
    file.unlink()
    if kind == "device":
        file.symlink_to("/dev/null")
    else:
        os.mkfifo(file)
    writer = threading.Thread(target=file.write_bytes, args=(b"",))
    writer.start()  # so that there is an end to the pipe for who reads it
    try:
        with pytest.raises(RunFolderError, match="neither a file nor a folder"):
            read(run)
    finally:
        reader = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
        writer.join()
        os.close(reader)


@pytest.mark.integration
def test_what_it_brings_along_is_not_run_by_report_compare_and_export(run: Path) -> None:
    pwned = run.parent / "pwned"
    for module in ("evil", "numpy", "keras", "tensorflow", "sitecustomize"):
        (run / f"{module}.py").write_text(f"open({str(pwned)!r}, 'w').close()\n")
    changed(run / "study.toml", lambda text: text.replace('"mlp"', '"evil:model"'))
    (run / ".study-folder").write_bytes(os.fsencode(run))
    out = run.parent / "out.tflite"
    for command in (
        ("report", run), ("report", run, "--format", "html"), ("compare", run, run),
        ("export", run, "--device", DEVICE, "--out", out),
    ):  # fmt: skip
        assert in_own_process(*command, cwd=run.parent).returncode == 0
    assert out.read_bytes() == (run / "models/trial-0000/fp32.tflite").read_bytes()
    assert not pwned.exists()


def test_a_device_that_a_study_names_as_a_file_is_not_read() -> None:
    with pytest.raises(ProfileError, match="neither a file nor a folder"):
        load_profile("/dev/null")
    with pytest.raises(StudyError, match="neither a file nor a folder"):
        read_traces(Path("/dev/null"))
