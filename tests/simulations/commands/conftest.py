"""A finished run that tests of its folder copy."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.commandline import Command


@pytest.fixture(scope="session")
def used_folder(
    fieldtune: Command, small_study: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("used") / "run"
    done = fieldtune("tune", small_study, "--out", folder, "--trials", "1")
    assert done.returncode == 0, done.stderr
    return folder
