"""The command ``fieldtune``: puts the commands of all packages under one roof.

It lives in the outermost package because only here may a study meet its simulated fleet. Modules
with heavy dependencies are imported by the command that needs them.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import click
import typer
from rich.console import Console
from rich.text import Text

from fieldtune.client.cli import app as client_app
from fieldtune.profiles.cli import app as profiles_app
from fieldtune.profiles.errors import FieldtuneError, MissingExtraError, StorageError
from fieldtune.server.cli import export, report

app = typer.Typer(
    name="fieldtune",
    help="Tune a model for the devices that will train it and run it.",
    epilog="Exit codes: 0 done, 1 a bug, 2 wrong input, 3 the limits leave nothing, 4 wrong run "
    "folder, 5 cannot write, 6 model cannot be compiled, 7 fleet, 130 interrupted.",
    suggest_commands=False,  # click does it too
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(report)
app.command()(export)
app.add_typer(profiles_app, name="profiles")
app.add_typer(client_app, name="client")

Study = Annotated[
    Path, typer.Argument(metavar="STUDY.toml", help="The study file: task, fleet, limits, space.")
]
Seed = Annotated[int | None, typer.Option(min=0, help="Use this seed instead of the study file's.")]


@app.command()
def tune(
    study: Study,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Run folder.  [default: runs/<study name>]"),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Run so many trials instead of the study file's.")
    ] = None,
    seed: Seed = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that simulate clients.  [default: number of cores]"),
    ] = None,
) -> None:
    """Run a study on a simulated fleet, or go on with it where the run folder holds it already."""
    from fieldtune.simulations.run import tune_in_simulation

    tune_in_simulation(study, out, trials=trials, seed=seed, workers=workers or _cores())


@app.command()
def check(study: Study) -> None:
    """Show a study's space, fleet and limits, and what the limits rule out, without training."""
    from fieldtune.simulations.run import check_in_simulation

    check_in_simulation(study)


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def main() -> None:
    """Run the command line: an error is one sentence on stderr and an exit code, no trace back."""
    try:
        sys.exit(app(standalone_mode=False))
    except click.ClickException as usage:
        usage.show()
        sys.exit(usage.exit_code)
    except FieldtuneError as error:
        _fail(str(error), error.exit_code)
    except ModuleNotFoundError as missing:
        name = (missing.name or "").partition(".")[0]
        if name not in _SERVER_PACKAGES:
            _fail_on_bug(missing)
        extra = MissingExtraError("This command", "server", name)
        _fail(str(extra), extra.exit_code)
    except OSError as failed:
        if failed.errno not in (errno.ENOSPC, errno.EDQUOT):
            _fail_on_bug(failed)
        _fail(f"{failed.strerror}: free some space and try again", StorageError.exit_code)
    except Exception as bug:
        _fail_on_bug(bug)


_SERVER_PACKAGES = ("tensorflow", "keras", "optuna", "sqlalchemy", "plotly", "moocore", "tomlkit")


def _fail(sentence: str, code: int) -> NoReturn:
    Console(stderr=True, soft_wrap=True, highlight=False).print(
        "[bold red]error:[/]", Text(sentence)
    )
    sys.exit(code)


def _fail_on_bug(bug: Exception) -> NoReturn:
    if os.environ.get("FIELDTUNE_DEBUG"):
        raise bug
    told = " ".join(str(bug).split())
    _fail(
        f"{type(bug).__name__}: {told} (a bug in fieldtune; FIELDTUNE_DEBUG=1 shows where)",
        FieldtuneError.exit_code,
    )
