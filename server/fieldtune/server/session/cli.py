"""Commands on a finished or running study's folder: ``report`` and ``export``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from fieldtune.profiles.common.errors import RunFolderError, StorageError

if TYPE_CHECKING:
    from fieldtune.server.results.schema import Summary

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
) -> None:
    """Show a study's Pareto front and which trial to deploy on which device."""
    if format is Format.csv:
        typer.echo(_read(folder, "trials.csv"), nl=False)
        return
    if format is Format.json:
        typer.echo(_read(folder, "pareto.json"), nl=False)
        return
    summary = _summary(folder)
    if format is Format.html:
        from fieldtune.server.report.html import render_html

        typer.echo(render_html(summary), nl=False)
        return
    from fieldtune.server.report.table import print_summary

    print_summary(summary, Console())


def export(
    folder: RunDir,
    device: Annotated[str, typer.Option(metavar="PROFILE", help="Device type to deploy on.")],
    out: Annotated[Path, typer.Option(metavar="FILE.tflite", help="File to write.")],
    trial: Annotated[
        int | None,
        typer.Option(min=0, help="A trial of the front.  [default: the recommended one]"),
    ] = None,
    variant: Annotated[str, typer.Option(help="Which conversion of the model.")] = "fp32",
) -> None:
    """Write the model to deploy on a device as a .tflite file."""
    from fieldtune.profiles.common.files import write_atomically, writing
    from fieldtune.server.results.export import chosen_trial, exported_model

    number = chosen_trial(_summary(folder), device, trial)
    model = exported_model(folder, number, variant)
    if not out.parent.is_dir():
        raise StorageError(f"{out} cannot be written: there is no folder {out.parent}; create it")
    if out.is_dir():
        raise StorageError(f"{out} cannot be written: it is a folder; name a file in it")
    with writing(out, "try again"):
        if out.exists() and not out.is_file():
            out.write_bytes(model)  # a pipe or a device, such as /dev/stdout, is not replaced
        else:
            write_atomically(out.resolve(), model)
    typer.echo(f"{out}: trial {number}, {variant}, {len(model)} bytes, for {device}")


def _summary(folder: Path) -> Summary:
    from pydantic import ValidationError

    from fieldtune.server.results.schema import Summary

    text = _read(folder, "pareto.json")
    try:
        return Summary.model_validate_json(text)
    except ValidationError as wrong:
        raise RunFolderError(
            f"{folder / 'pareto.json'} is not of this version's schema "
            f"({wrong.error_count()} fields differ): run 'fieldtune tune' on it once"
        ) from None


def _read(folder: Path, name: str) -> str:
    try:
        return (folder / name).read_text()
    except OSError:
        raise RunFolderError(
            f"{folder} holds no {name}: give the folder of a study that 'fieldtune tune' has run"
        ) from None
