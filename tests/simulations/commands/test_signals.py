"""Ctrl-C, a service manager and a closed terminal end a study alike, and lose nothing."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fieldtune.server.results.run_folder import read_summary
from support.commandline import COMMAND

pytestmark = pytest.mark.integration

Study = subprocess.Popen[str]


def children(study: Study) -> list[int]:
    command = ["pgrep", "-P", str(study.pid)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


def ctrl_c(study: Study) -> None:
    study.send_signal(signal.SIGINT)


def service_manager(study: Study) -> None:
    """It signals all processes of a service."""
    for process in (*children(study), study.pid):
        os.kill(process, signal.SIGTERM)


def logged_out(study: Study) -> None:
    study.send_signal(signal.SIGHUP)


@pytest.fixture
def start(small_study: Path, tmp_path: Path) -> Iterator[Callable[..., Study]]:
    """Starts a long study; waits until the first trial has ended."""
    running: list[Study] = []

    def start(**options: object) -> Study:
        command = [*COMMAND, "tune", str(small_study), "--out", str(tmp_path), "--trials", "400"]
        study: Study = subprocess.Popen(command, text=True, **options)  # type: ignore[call-overload]
        running.append(study)
        table = tmp_path / "trials.csv"
        while study.poll() is None and not (table.exists() and table.read_text().count("\n") > 1):
            time.sleep(0.01)
        return study

    yield start
    for study in running:
        study.kill()
        study.wait()


@pytest.mark.parametrize(
    ("end", "sentence"),
    [
        (ctrl_c, "interrupted; "),
        (service_manager, "interrupted by SIGTERM; "),
        (logged_out, "interrupted by SIGHUP; "),
    ],
)
def test_a_signal_ends_a_study_with_a_sentence(
    start: Callable[..., Study], tmp_path: Path, end: Callable[[Study], None], sentence: str
) -> None:
    study = start(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    end(study)
    _, said = study.communicate(timeout=60)
    assert study.returncode == 130, said
    assert f"{sentence}{tmp_path} keeps " in said.replace("\n", " ")
    assert "run the same command to resume" in said
    assert "Traceback" not in said
    assert not children(study)
    assert read_summary(tmp_path).state == "interrupted"
    assert ">interrupted, " in (tmp_path / "report.html").read_text()


def test_a_closed_terminal_ends_a_study_in_order(start: Callable[..., Study]) -> None:
    ours, theirs = pty.openpty()
    study = start(
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        env=os.environ | {"TERM": "dumb"},  # without a live bar, which nobody reads here
    )  # fmt: skip
    os.close(theirs)
    os.close(ours)
    assert study.wait(60) == 130
    assert not children(study)
