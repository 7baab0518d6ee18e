"""The contract tests of Flower's private parts hold for each version that is supported."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from fieldtune.client.node.fleet_api import FLOWER_VERSIONS

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.system

_CONTRACT = (
    "tests/client/node/test_flower.py",
    "tests/server/deployment/test_flower.py",
    "tests/server/deployment/test_combined_calls.py",
    "tests/server/deployment/test_refused_calls.py",
)


@pytest.mark.parametrize("other", FLOWER_VERSIONS)
def test_the_contract_holds(other: str, tmp_path: Path) -> None:
    if version("flwr").startswith(f"{other}."):
        pytest.skip(f"flwr {other} is installed: its contract is tested in place")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "--no-deps", "--target", str(tmp_path), f"flwr=={other}.*"], check=True, timeout=300
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *_CONTRACT],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    found = subprocess.run(
        [sys.executable, "-c", "import flwr; print(flwr.__file__)"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert found.stdout.startswith(str(tmp_path))
