"""A device's process does without gRPC, and Flower does not miss it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SLIM = """
from fieldtune.client.node.no_grpc import without_grpc
without_grpc()
import sys
import fieldtune.client.node.node, fieldtune.client.node.client_app
assert not [name for name in sys.modules if name.startswith("grpc._cython")]
import grpc
try:
    grpc.insecure_channel("x")
except RuntimeError as refused:
    print(refused)
"""
LATE = """
import grpc
from fieldtune.client.node.no_grpc import without_grpc
without_grpc()
import grpc.aio
print(grpc.insecure_channel.__module__)
"""


def run(code: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_node_is_imported_without_grpc_and_using_it_says_so(tmp_path: Path) -> None:
    assert run(SLIM, tmp_path) == "gRPC is left out of a device's process"


def test_a_grpc_that_is_there_already_stays(tmp_path: Path) -> None:
    assert run(LATE, tmp_path) == "grpc"
