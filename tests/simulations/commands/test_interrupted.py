"""Ctrl-C while a command still reads its modules: the exit code of an interrupt, no trace back."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.integration

PRESSED = """
import runpy, sys

class Pressed:
    def find_spec(self, name, *_):
        if name == {slow!r}:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Pressed())
runpy.run_module({module!r}, run_name="__main__")
"""


@pytest.mark.parametrize(
    ("module", "slow"),
    [
        ("fieldtune.simulations", "typer"),
        ("fieldtune.simulations", "rich"),
        ("fieldtune.client", "typer"),
        ("fieldtune.client", "rich"),
    ],
)
def test_ctrl_c_is_quiet_while_a_command_reads_its_modules(module: str, slow: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRESSED.format(module=module, slow=slow)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 130, done.stderr
    assert done.stdout + done.stderr == ""
