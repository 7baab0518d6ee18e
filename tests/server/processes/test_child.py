"""Child processes do not outlive their parent."""

from __future__ import annotations

import subprocess
from pathlib import Path

from fieldtune.server.processes.child import Child

TESTS = Path(__file__).parents[2]


def test_a_child_whose_work_lets_other_threads_run_ends_when_its_parent_does() -> None:
    child = Child("support.busy_child", log=subprocess.DEVNULL, env={"PYTHONPATH": str(TESTS)})
    try:
        assert child.connection.recv_bytes() == b"busy"
        child.connection.close()  # as the system does for a parent that was killed
        assert child.process.wait(60) == 0
    finally:
        child.process.kill()
