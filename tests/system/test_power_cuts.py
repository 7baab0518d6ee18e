"""A study resumes to the same bytes after a power cut, which drops what was not synced."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system


@pytest.mark.skipif(not shutil.which("cc"), reason="POWER CUTS ARE NOT TESTED: no C compiler")
def test_a_study_resumes_to_the_same_bytes_after_a_power_cut() -> None:
    # In a process of its own, which forks: this one may have threads.
    cuts = os.environ.get("FIELDTUNE_POWER_CUTS", "8")
    command = [sys.executable, Path(__file__).with_name("power_cuts.py"), "--sample", cuts]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=7200)
    assert done.returncode == 0, done.stderr
    assert "the same bytes" in done.stdout
