"""The command ``fieldtune``, with the subcommands of all packages.

It is in the outermost package, because only this package may import both the server and the
simulated fleet. Modules with heavy dependencies are imported by the command that needs them.
"""

from __future__ import annotations

import os
import shlex
from contextlib import nullcontext
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fieldtune.client.cli import app as client_app
from fieldtune.profiles.cli import app as profiles_app
from fieldtune.profiles.cli import predict
from fieldtune.profiles.common.command import Format, run_command
from fieldtune.profiles.common.errors import MissingExtraError, UsageError
from fieldtune.server.deployment.cli import app as coordinator_app
from fieldtune.server.operation.cli import deploy, devices, rollback, watch
from fieldtune.server.session.cli import compare, export, log, report

if TYPE_CHECKING:
    from fieldtune.server.processes.ray_cluster import RayCluster

Engine = Literal["local", "ray"]


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
app.command()(log)
app.command()(predict)
app.command()(deploy)
app.command()(rollback)
coordinator_app.command()(devices)
coordinator_app.command()(watch)
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
    """Write a study to start from, with own data, model and metric.

    It runs as it is.
    """
    from fieldtune.simulations.scaffold import scaffold

    study, module = scaffold(folder)
    typer.echo(f"{study}: what is tuned; {module}: its data, model and metric")
    quoted = shlex.quote(str(study))
    typer.echo(f"next: fieldtune check {quoted}, then fieldtune tune {quoted}")


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
    engine: Annotated[
        Engine,
        typer.Option(help="Where clients are simulated and models compiled: here, or by Ray."),
    ] = "local",
    ray_address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Head of a Ray cluster, or 'auto'.  [default: Ray on this machine alone]",
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
    format: Format = "table",
) -> None:
    """Run a study, or resume it if the run folder already exists."""
    if superlink is not None:
        from fieldtune.server.devices.command import tune_on_devices

        if workers is not None:
            raise UsageError("--workers is for simulated clients: leave it out with --superlink")
        if engine != "local":
            raise UsageError("--engine is for simulated clients: leave it out with --superlink")
        tune_on_devices(
            study, out, superlink, trials=trials, seed=seed, warm_start=warm_start or [],
            accept_changes=accept_changes, as_json=format == "json",
        )  # fmt: skip
        return
    from fieldtune.simulations.commands import tune_in_simulation

    if ray_address is not None and engine != "ray":
        raise UsageError("--ray-address needs --engine ray")
    with _cluster(ray_address) if engine == "ray" else nullcontext() as cluster:
        tune_in_simulation(
            study,
            out,
            trials=trials,
            seed=seed,
            workers=workers or (cluster.cpus if cluster else _cores()),
            warm_start=warm_start or [],
            accept_changes=accept_changes,
            as_json=format == "json",
            cluster=cluster,
        )


@app.command()
def check(study: Study, format: Format = "table") -> None:
    """Show a study's space, fleet and limits, without training.

    Also what the limits exclude.
    """
    from fieldtune.simulations.check import check_in_simulation

    check_in_simulation(study, as_json=format == "json")


@app.command()
def retarget(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Run folder of a study.")],
    device: Annotated[str, typer.Option(metavar="PROFILE", help="A device type.")],
    format: Format = "table",
) -> None:
    """Recommend a model for another device type.

    From existing trials, for a type that was not in the fleet.
    """
    from fieldtune.simulations.retarget import retarget_in_simulation

    retarget_in_simulation(folder, device, as_json=format == "json")


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _cluster(address: str | None) -> RayCluster:
    try:
        from fieldtune.server.processes.ray_cluster import RayCluster
    except ModuleNotFoundError:
        raise MissingExtraError("--engine ray", "cluster", "ray") from None
    try:
        cluster = RayCluster(address, lambda said: typer.echo(said, err=True))
    except ConnectionError as away:
        raise UsageError(
            f"There is no Ray cluster at {address} ({str(away).splitlines()[0][:200]}): start one "
            "with 'ray start --head', or leave --ray-address out"
        ) from None
    where = f"{cluster.nodes} nodes" if cluster.nodes != 1 else "one node"
    typer.echo(f"Ray has {cluster.cpus} CPUs on {where}", err=True)
    return cluster


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
