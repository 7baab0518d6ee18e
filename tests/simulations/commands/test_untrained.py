"""A study of which no trial could be trained says so, and its folder shows why."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from support.commandline import Command

pytestmark = pytest.mark.integration


def test_a_study_whose_trials_all_failed_has_them_in_its_results(
    fieldtune: Command, small_study: Path, tmp_path: Path
) -> None:
    file, run = tmp_path / "study.toml", tmp_path / "run"
    file.write_text(small_study.read_text() + "\n[fleet.faults]\nlost_upload = 1.0\n")
    done = fieldtune("tune", file, "--out", run, "--trials", "2")
    assert done.returncode == 7, done.stderr
    assert "None of 2 trials could be trained" in done.stderr
    assert "x lost_upload); change fleet.faults.lost_upload" in done.stderr
    with (run / "trials.csv").open() as rows:
        assert [row["state"] for row in csv.DictReader(rows)] == ["failed", "failed"]
    summary = json.loads((run / "pareto.json").read_text())
    assert summary["failed"] == 2
    assert {*summary["failures"]} == {"lost_upload"}
    assert "x lost_upload)" in (run / "report.html").read_text()
