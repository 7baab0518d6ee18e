"""A run folder of fieldtune 0.1.0: it is shown, exported from, and goes on."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from support.commandline import ROOT, Command

pytestmark = pytest.mark.integration


def test_a_run_folder_of_an_earlier_version_is_shown_and_goes_on(
    fieldtune: Command, tmp_path: Path
) -> None:
    with tarfile.open(ROOT / "tests/data/run-0.1.0.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    run, model = tmp_path / "run", tmp_path / "model.tflite"
    before = json.loads((run / "pareto.json").read_text())
    shown = fieldtune("report", run)
    assert shown.returncode == 0, shown.stderr
    assert "3 trials trained, 0 ruled out by limits, 0 failed" in shown.stdout
    exported = fieldtune("export", run, "--device", "raspberry-pi-5", "--out", model)
    assert exported.returncode == 0, exported.stderr
    assert model.read_bytes() == (run / "models/trial-0000/fp32.tflite").read_bytes()
    study = tmp_path / "old.toml"
    study.write_text((run / "study.toml").read_text())
    gone_on = fieldtune("tune", study, "--out", run, "--trials", "4")
    assert gone_on.returncode == 0, gone_on.stderr
    after = json.loads((run / "pareto.json").read_text())
    assert (before["trials"], after["trials"]) == (3, 4)
    for old, new in zip(before["attempts"], after["attempts"], strict=False):
        assert new["configuration"] == old["configuration"]
        assert new["objectives"]["error"] == old["objectives"]["error"]
