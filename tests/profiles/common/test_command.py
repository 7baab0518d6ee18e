"""A command line: interrupts and help."""

from __future__ import annotations

import sys
from typing import Annotated

import pytest
import typer

from fieldtune.profiles.common.command import run_command

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
