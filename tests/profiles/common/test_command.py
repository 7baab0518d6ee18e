"""A command line: interrupts and help."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from typing import Annotated

import pytest
import typer
from rich.console import Console

from fieldtune.profiles.common.command import run_command
from fieldtune.profiles.common.console import table_console

app = typer.Typer(rich_markup_mode=None)


@app.command()
def wait(name: Annotated[str, typer.Argument(help="Whose.")]) -> None:
    """Wait for Ctrl-C."""
    raise KeyboardInterrupt


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["x", *arguments])
    with pytest.raises(SystemExit) as ended:
        run_command(app)
    return int(ended.value.code or 0)


def test_ctrl_c_is_quiet_where_there_is_nothing_to_say(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "kitchen") == 130
    assert capsys.readouterr().err.strip() == ""


def test_help_is_not_escaped_for_who_does_not_render_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--help") == 0
    said = capsys.readouterr().out
    assert " [required]" in said
    assert said.count("Whose.") == 1


def test_what_the_terminals_encoding_lacks_is_a_question_mark(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arrows, written = typer.Typer(), io.BytesIO()

    @arrows.command()
    def show() -> None:
        Console().print("error \u2193, 86 \u00b5s")

    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    monkeypatch.setattr(sys, "argv", ["x"])
    with pytest.raises(SystemExit) as ended:
        run_command(arrows)
    assert not ended.value.code
    assert written.getvalue() == b"error ?, 86 ?s\n"


def test_who_closes_stdout_gets_no_output_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = typer.Typer()

    @quiet.command()
    def show() -> None:
        Console().print("86 us")

    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "argv", ["x"])
    with pytest.raises(SystemExit) as ended:
        run_command(quiet)
    assert not ended.value.code


@pytest.mark.parametrize(("columns", "width"), [("40", 80), ("80", 80), ("120", 120)])
def test_tables_are_not_squeezed_below_80_columns(
    columns: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert table_console().width == width


ONE_THREAD = """
import typer
from fieldtune.profiles.common.command import run_command
app = typer.Typer()
@app.command()
def threads():
    import numpy
    from threadpoolctl import threadpool_info
    print([each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"])
run_command(app)
"""


def test_products_have_one_thread() -> None:
    env = {name: text for name, text in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", ONE_THREAD], env=env, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[1]", done.stderr
