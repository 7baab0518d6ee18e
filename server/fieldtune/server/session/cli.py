"""Commands on the folders of finished and running studies."""

from __future__ import annotations

import sys
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from threading import Event
from typing import Annotated

import typer
from rich.console import Console

from fieldtune.profiles.common.console import table_console
from fieldtune.profiles.common.errors import StorageError
from fieldtune.profiles.common.text import printable_lines

RunDir = Annotated[Path, typer.Argument(metavar="DIR", help="Run folder of a study.")]


class Format(StrEnum):
    """What ``report`` prints."""

    table = "table"
    html = "html"
    json = "json"
    csv = "csv"


def report(
    folder: RunDir,
    format: Annotated[
        Format,
        typer.Option(help="table: a summary; html, json, csv: the file's content on stdout."),
    ] = Format.table,
    live: Annotated[
        bool, typer.Option("--live", help="Serve the page to this machine; it follows the study.")
    ] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of --live; 0 takes a free one.")
    ] = 0,
) -> None:
    """Show a study's front and what to deploy on each device."""
    from fieldtune.server.results.run_folder import read_result, read_summary

    if format in (Format.csv, Format.json):
        name = "trials.csv" if format is Format.csv else "pareto.json"
        text = read_result(folder, name)
        typer.echo(printable_lines(text) if sys.stdout.isatty() else text, nl=False)
        return
    summary = read_summary(folder)
    if live:
        from fieldtune.server.report.live import serving

        with serving(folder, port) as address, suppress(KeyboardInterrupt):
            typer.echo(f"Serving {address} to this machine; Ctrl-C ends it")
            Event().wait()
        return
    from fieldtune.server.report.run_info import run_info

    if format is Format.html:
        from fieldtune.server.report.html import render_html

        typer.echo(render_html(summary, run_info(folder, summary)), nl=False)
        return
    from fieldtune.server.report.table import print_summary

    print_summary(summary, table_console(), run_info(folder, summary))


def compare(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR DIR...", help="Run folders.")],
    out: Annotated[Path, typer.Option(metavar="FILE.html", help="File to write.")] = Path(
        "comparison.html"
    ),
) -> None:
    """Write one page on several runs.

    Fronts, attainment and recommendations are side by side.
    """
    from fieldtune.profiles.common.files import write_atomically, writing
    from fieldtune.server.report.compare import compare_html, read_runs

    runs = read_runs(folders)
    with writing(out, "try again"):
        write_atomically(out.resolve(), compare_html(runs))
    typer.echo(f"{out}: {' against '.join(run.name for run in runs)}")


class Tracker(StrEnum):
    """Where ``log`` copies a run to."""

    mlflow = "mlflow"
    tensorboard = "tensorboard"
    wandb = "wandb"


def log(
    folder: RunDir,
    to: Annotated[Tracker, typer.Option(help="The experiment tracker.")],
    store: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|URI",
            help="Where it keeps its runs: a folder, or a tracking URI of MLflow.  [default: "
            "mlflow: its own default; tensorboard: DIR/tensorboard; wandb: ./wandb]",
        ),
    ] = None,
) -> None:
    """Copy a run into an experiment tracker.

    There is a run for the study, and in it one for each trial.
    """
    from fieldtune.server.report.track import log_run

    with Console(stderr=True).status(f"writing to {to.value}"):
        said = log_run(folder, to.value, store)
    typer.echo(said)


def export(
    folder: RunDir,
    device: Annotated[str, typer.Option(metavar="PROFILE", help="Device type to deploy on.")],
    out: Annotated[Path, typer.Option(metavar="FILE.tflite", help="File to write.")],
    trial: Annotated[
        int | None,
        typer.Option(min=0, help="Which trial's model.  [default: the recommended one]"),
    ] = None,
    variant: Annotated[str, typer.Option(help="Which conversion of the model.")] = "fp32",
) -> None:
    """Write the model to deploy on a device as a .tflite file."""
    from fieldtune.profiles.common.files import write_atomically, writing
    from fieldtune.server.results.export import (
        chosen_trial,
        converted_now,
        exported_model,
        is_converted,
        results_for,
        to_measure,
    )
    from fieldtune.server.results.run_folder import RunFolder, read_summary

    summary = results_for(folder, device)
    number = chosen_trial(summary, device, trial)
    if not out.parent.is_dir():
        raise StorageError(f"{out} cannot be written: there is no folder {out.parent}; create it")
    if out.is_dir():
        raise StorageError(f"{out} cannot be written: it is a folder; name a file in it")
    if is_converted(folder, summary, number):
        model = exported_model(folder, number, variant)
    else:
        with Console(stderr=True).status(f"converting trial {number}"), RunFolder(folder) as run:
            model = converted_now(run, summary, number, variant)
        to_come = number in {each.trial for each in to_measure(folder, read_summary(folder))}
        typer.echo(
            f"trial {number} is converted now, and not measured on the clients"
            + (" yet: run the study's 'fieldtune tune' command to its end for that" if to_come else
               ": only files of recommended trials and of the defaults are"), err=True,
        )  # fmt: skip
    with writing(out, "try again"):
        if out.exists() and not out.is_file():
            out.write_bytes(model)  # a pipe or a device, such as /dev/stdout, is not replaced
        else:
            write_atomically(out.resolve(), model)
    typer.echo(f"{out}: trial {number}, {variant}, {len(model)} bytes, for {device}")
