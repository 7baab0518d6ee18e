"""Commands print no notices of the TFLite runtime."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fieldtune.client.service.quiet import without_notices


def test_notices_of_native_code_are_left_out_and_all_else_is_printed(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with without_notices():
        os.write(2, b"INFO: a delegate\nWARNING: a leak\n")
        os.write(2, b"INFO: another")
    os.write(2, b"INFO: later\n")
    assert capfd.readouterr().err == "WARNING: a leak\nINFO: later\n"


def test_without_stderr_nothing_is_left_out_and_nothing_fails() -> None:
    script = (
        "from fieldtune.client.service.quiet import without_notices\n"
        "with without_notices(): print('done')"
    )
    done = subprocess.run(
        ["sh", "-c", f'exec "{sys.executable}" -c "$0" 2>&-', script],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "done\n")
