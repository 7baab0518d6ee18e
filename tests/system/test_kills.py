"""A study that is killed at random moments ends with the same bytes, and loses few rounds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system


def test_a_study_killed_at_random_moments_ends_with_the_same_bytes() -> None:
    # In a process of its own, which forks: this one may have threads.
    kills = os.environ.get("FIELDTUNE_KILLS", "10")
    command = [sys.executable, Path(__file__).with_name("kills.py"), "--kills", kills]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3600)
    assert done.returncode == 0, done.stderr
    assert f"{kills} kills" in done.stdout
