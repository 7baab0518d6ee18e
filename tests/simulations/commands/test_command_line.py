"""What holds for the command line as a whole: version, completion, closed pipes."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata

import pytest

from support.commandline import COMMAND, Command

pytestmark = pytest.mark.integration

MODULE = [sys.executable, "-m", "fieldtune"]


def test_the_version_is_that_of_the_distribution() -> None:
    done = subprocess.run([*MODULE, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"fieldtune {metadata.version('fieldtune')}\n"


def test_a_shell_completes_commands(fieldtune: Command) -> None:
    words = {
        "COMP_WORDS": "fieldtune re",
        "COMP_CWORD": "1",
        "_FIELDTUNE_COMPLETE": "complete_bash",
    }
    code = (
        "import sys; sys.argv = ['fieldtune']; from fieldtune.simulations.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env=os.environ | words,
    )  # fmt: skip
    assert {"report", "retarget"} <= set(done.stdout.split()), done.stderr


@pytest.mark.parametrize("arguments", [["profiles", "show", "raspberry-pi-5"], ["--help"]])
def test_a_reader_that_has_enough_is_no_error(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*COMMAND, *arguments], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert done.stderr == ""
