"""The command ``fieldtune``, with the subcommands of all packages.

It is in the outermost package, because only this package may import both the server and the
simulated fleet. Modules with heavy dependencies are imported by the command that needs them.
"""

from __future__ import annotations

import os
import shlex
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from fieldtune.client.cli import app as client_app
from fieldtune.profiles.cli import app as profiles_app
from fieldtune.profiles.cli import predict
from fieldtune.profiles.common.command import Format, run_command
from fieldtune.profiles.common.errors import UsageError
from fieldtune.server.deployment.cli import app as coordinator_app
from fieldtune.server.session.cli import compare, export, report

app = typer.Typer(
    name="fieldtune",
    epilog="Exit codes: 0 done, 1 a bug, 2 wrong input, 3 no configuration satisfies the limits, "
    "4 wrong run folder, 5 cannot write, 6 model cannot be compiled, 7 fleet, 130 interrupted.",
    suggest_commands=False,  # click already does
    no_args_is_help=True,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def fieldtune(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Tune a model for the devices that will train it and run it."""
    if version:
        typer.echo(f"fieldtune {metadata.version('fieldtune')}")
        raise typer.Exit


app.command()(report)
app.command()(compare)
app.command()(export)
app.command()(predict)
app.add_typer(profiles_app, name="profiles")
app.add_typer(client_app, name="client")
app.add_typer(coordinator_app, name="coordinator")

Study = Annotated[
    Path, typer.Argument(metavar="STUDY.toml", help="The study file: task, fleet, limits, space.")
]
Seed = Annotated[int | None, typer.Option(min=0, help="Use this seed instead of the study file's.")]


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write the study into.")],
) -> None:
    """Write a study with data, model and metric of its own, to start from; it runs as it is."""
    from fieldtune.simulations.scaffold import scaffold

    study, module = scaffold(folder)
    typer.echo(f"{study}: what is tuned; {module}: its data, model and metric")
    typer.echo(f"next: fieldtune check {shlex.quote(str(study))}, then 'fieldtune tune' with it")


@app.command()
def tune(
    study: Study,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Run folder.  [default: runs/<study name>]"),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Number of trials, instead of the study file's.")
    ] = None,
    seed: Seed = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Worker processes that simulate clients.  [default: number of cores]"
        ),
    ] = None,
    superlink: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Coordinator's folder: run on the devices connected to it, instead of simulating "
            "devices.",
        ),
    ] = None,
    warm_start: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Run folder of a finished, similar study, used as prior knowledge; can be "
            "repeated.",
        ),
    ] = None,
    accept_changes: Annotated[
        bool,
        typer.Option(
            "--accept-changes",
            help="Go on with a run although its data, code or versions have changed; recorded.",
        ),
    ] = False,
) -> None:
    """Run a study, or resume it if the run folder already exists."""
    if superlink is not None:
        from fieldtune.server.devices.command import tune_on_devices

        if workers is not None:
            raise UsageError("--workers is for simulated clients: leave it out with --superlink")
        tune_on_devices(
            study, out, superlink, trials=trials, seed=seed, warm_start=warm_start or [],
            accept_changes=accept_changes,
        )  # fmt: skip
        return
    from fieldtune.simulations.commands import tune_in_simulation

    tune_in_simulation(
        study,
        out,
        trials=trials,
        seed=seed,
        workers=workers or _cores(),
        warm_start=warm_start or [],
        accept_changes=accept_changes,
    )


@app.command()
def check(study: Study, format: Format = "table") -> None:
    """Show a study's search space, fleet and limits, and what the limits exclude; no training."""
    from fieldtune.simulations.check import check_in_simulation

    check_in_simulation(study, as_json=format == "json")


@app.command()
def retarget(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Run folder of a study.")],
    device: Annotated[str, typer.Option(metavar="PROFILE", help="A device type.")],
    format: Format = "table",
) -> None:
    """Recommend a model for a device type that was not in the fleet, from existing trials."""
    from fieldtune.simulations.commands import retarget_in_simulation

    retarget_in_simulation(folder, device, as_json=format == "json")


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def main() -> None:
    """Run the command line: errors become one sentence on stderr and an exit code."""
    run_command(app, server_packages=_SERVER_PACKAGES)


_SERVER_PACKAGES = (
    "tensorflow",
    "keras",
    "optuna",
    "sqlalchemy",
    "jinja2",
    "moocore",
    "tomlkit",
    "scipy",
    "threadpoolctl",
)
