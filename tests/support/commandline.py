"""The command line as the tests run it: in this process, or in one of its own as a user does."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fieldtune.simulations import cli

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "fieldtune.simulations")
INSTALLED = (ROOT, sys.prefix, sys.base_prefix)
WIDE = {"COLUMNS": "140"}
Command = Callable[..., subprocess.CompletedProcess[str]]


def in_own_process(*arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """``fieldtune`` as a user runs it; never raises."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, check=False, timeout=300, env=os.environ | WIDE,
    )  # fmt: skip


def in_this_process(*arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """The same command without the seconds that a process and its TensorFlow take to start.

    Clients are simulated by one worker unless the arguments say how many.
    """
    command = ["fieldtune", *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        _modules_of_its_own(),
    ):
        patch.setattr(sys, "argv", command)
        patch.setattr(cli, "_cores", lambda: 1)
        for name, value in WIDE.items():
            patch.setenv(name, value)
        try:
            cli.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _modules_of_its_own() -> Iterator[None]:
    """Forget modules that lie beside a study file: the next one's may have the same names."""
    path, before = list(sys.path), set(sys.modules)
    try:
        yield
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            if file is not None and not any(Path(file).is_relative_to(kept) for kept in INSTALLED):
                del sys.modules[name]
