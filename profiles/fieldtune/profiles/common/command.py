"""Running a command line: errors become one sentence on stderr and an exit code, no traceback."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from collections.abc import Collection
from typing import Annotated, Any, Literal, NoReturn

import click
import typer
import typer.core
import typer.main
from rich.console import Console
from rich.text import Text

from fieldtune.profiles.common.errors import FieldtuneError, MissingExtraError, StorageError
from fieldtune.profiles.common.text import printable_lines

Format = Annotated[Literal["table", "json"], typer.Option(help="Output format.")]
"""The option ``--format`` of a command that prints a table."""

_CLOSED_PIPE = 128 + signal.SIGPIPE
"""The exit code of a process that a closed pipe ends."""


class _Argument(typer.core.TyperArgument):
    """An argument that keeps its help: click 8.5 clears it in those of typer 0.20, which flwr pins.

    Only Typer gets to see it: what has a help, click lists in a second table of its own.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._kept = settings.get("help")
        self.help = None

    def get_help_record(  # type: ignore[override]  # as in Typer
        self, ctx: click.Context
    ) -> tuple[str, str] | None:
        self.help = self._kept
        try:
            return super().get_help_record(ctx)
        finally:
            self.help = None


def run_command(app: typer.Typer, *, server_packages: Collection[str] = ()) -> NoReturn:
    """Run an app on this process's arguments and exit.

    Args:
        app: the commands.
        server_packages: import names of the packages in the extra ``server``; if one of them is
            missing, the message says which extra to install.
    """
    # Products of long vectors have the same bits on any number of cores, and wait for no thread on
    # busy ones: what runs side by side are processes. It has effect before NumPy is imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Otherwise Typer writes "\[required]", escaped for Rich, into help that Rich does not render.
    typer.core.HAS_RICH = False
    typer.main.TyperArgument = _Argument  # type: ignore[attr-defined]  # see there
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")  # in an encoding without arrows and micro signs
    try:
        code = app(standalone_mode=False)
        if sys.stdout is not None:  # closed by who started it
            sys.stdout.flush()
        sys.exit(code)
    except BrokenPipeError:
        # The reader of a pipe has what it wants, such as "head": no error. What Python still
        # flushes when it exits goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_CLOSED_PIPE)
    except click.ClickException as usage:
        usage.show()
        sys.exit(usage.exit_code)
    except FieldtuneError as error:
        _fail(str(error), error.exit_code)
    except ModuleNotFoundError as missing:
        name = (missing.name or "").partition(".")[0]
        if name not in server_packages:
            _fail_on_bug(missing)
        extra = MissingExtraError("This command", "server", name)
        _fail(str(extra), extra.exit_code)
    except OSError as failed:
        if failed.errno not in (errno.ENOSPC, errno.EDQUOT):
            _fail_on_bug(failed)
        _fail(f"{failed.strerror}: free some space and try again", StorageError.exit_code)
    except Exception as bug:
        _fail_on_bug(bug)


def _fail(sentence: str, code: int) -> NoReturn:
    Console(stderr=True, soft_wrap=True, highlight=False).print(
        "[bold red]error:[/]", Text(printable_lines(sentence))
    )
    sys.exit(code)


def _fail_on_bug(bug: Exception) -> NoReturn:
    if os.environ.get("FIELDTUNE_DEBUG"):
        raise bug
    message = " ".join(str(bug).split())
    _fail(
        f"{type(bug).__name__}: {message} (a bug in fieldtune; FIELDTUNE_DEBUG=1 shows where)",
        FieldtuneError.exit_code,
    )
