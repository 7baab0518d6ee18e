"""A full disk is a sentence, and no finished trial is lost."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from support.commandline import COMMAND, Command
from support.study_db import completed_numbers, completed_trials

pytestmark = pytest.mark.integration


def can_mount() -> bool:
    return (
        shutil.which("unshare") is not None
        and subprocess.run(
            ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"],
            capture_output=True, check=False,
        ).returncode == 0
    )  # fmt: skip


@pytest.mark.parametrize("size_kib", [60, 400, 1500])
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
    before = completed_trials(saved)
    assert before or size_kib < 1500
    again = fieldtune("tune", small_study, "--out", saved)
    assert again.returncode == 0, again.stderr
    assert before <= completed_trials(saved)
    assert completed_numbers(saved) == set(range(8))
