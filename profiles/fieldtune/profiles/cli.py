"""``fieldtune profiles``: the catalogue on the command line.

What a command needs is imported in it, so that ``--help`` answers at once.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from fieldtune.profiles.common.command import Format
from fieldtune.profiles.common.console import table_console
from fieldtune.profiles.common.errors import UsageError

app = typer.Typer(
    no_args_is_help=True,
    help="Device profiles: what each device type can do.",
)


def predict(
    models: Annotated[list[str], typer.Argument(metavar="MODEL.tflite...", help="TFLite files.")],
    device: Annotated[
        list[str],
        typer.Option(metavar="NAME...", help="Device types from `profiles list`, or .toml files."),
    ],
    threads: Annotated[
        str, typer.Option(metavar="N|all", help="Threads of the interpreter.")
    ] = "1",
    runtime: Annotated[
        Literal["xnnpack", "plain"],
        typer.Option(help="plain: a runtime without the XNNPACK delegate."),
    ] = "xnnpack",
    format: Format = "table",
) -> None:  # fmt: skip
    """Predict what .tflite files cost on device types.

    Latency, memory, energy and storage.
    """
    import json

    from fieldtune.profiles.costmodel.predict_file import predict_files
    from fieldtune.profiles.device.load import load_profile, profile_names

    # `--device A B` is read by the parser as device A and argument B.
    more = [name for name in models if name in profile_names() or name.endswith(".toml")]
    models, device = [name for name in models if name not in more], [*device, *more]
    if not models:
        raise UsageError("no model is given: name at least one .tflite file")
    if threads != "all" and not (threads.isascii() and threads.isdecimal()):
        raise UsageError(f"--threads {threads}: give a number of threads, or all")
    profiles = {name: load_profile(name) for name in device}
    count: int | Literal["all"] = "all" if threads == "all" else int(threads)
    found = list(predict_files(models, profiles, threads=count, runtime=runtime))
    if format == "json":
        typer.echo(json.dumps([each.to_json() for each in found], indent=1))
        return
    from fieldtune.profiles import tables

    tables.print_predictions(found, table_console())


@app.command("list")
def list_profiles(format: Format = "table") -> None:
    """List the device profiles of the catalogue, one per line."""
    import json

    from fieldtune.profiles.device.load import load_profile, profile_names
    from fieldtune.profiles.tables import overview

    if format == "json":
        found = [load_profile(name).model_dump(mode="json") for name in profile_names()]
        typer.echo(json.dumps(found, indent=1))
        return
    console = table_console()
    console.print(overview([load_profile(name) for name in profile_names()], console.width))


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A name from `list`, or the path of a .toml file.")],
    format: Format = "table",
) -> None:
    """Show every value of one profile.

    Each with its interval, unit, basis and source.
    """
    from fieldtune.profiles import tables
    from fieldtune.profiles.device.load import load_profile

    profile = load_profile(name)
    if format == "json":
        typer.echo(profile.model_dump_json(indent=1))
        return
    tables.print_profile(profile, table_console())


@app.command("measure")
def measure_host(
    out: Annotated[
        Path,
        typer.Option(help="Where to write the profile; the file name becomes the profile name."),
    ] = Path("measured.toml"),
) -> None:
    """Measure this machine (one to two minutes) and write its profile."""
    from fieldtune.profiles.common.files import write_atomically, writing
    from fieldtune.profiles.common.toml import to_toml
    from fieldtune.profiles.device.load import load_profile
    from fieldtune.profiles.measure.profile_host import measure
    from fieldtune.profiles.tables import missing_note

    if out.suffix != ".toml" or not out.parent.is_dir():
        raise UsageError(f"--out {out}: give a .toml file in a folder that exists")
    err = Console(stderr=True)
    with Progress(console=err, transient=True) as bar:
        task = bar.add_task("timing kernels", total=None)
        measured = measure(progress=lambda done, of: bar.update(task, completed=done, total=of))
    with writing(out, "measure again"):
        write_atomically(out, to_toml(measured.tables))
    load_profile(out)
    if measured.missing:
        err.print(Text(missing_note(measured, out)))
    Console().print(Text(f"Written to {out}; `fieldtune profiles show {out}` prints it."))


@app.command("fit")
def fit_profile(
    table: Annotated[
        Path,
        typer.Argument(metavar="TABLE.csv", help="Columns model, ms, threads, runtime, source."),
    ],
    profile: Annotated[str, typer.Option(help="The profile to start from: a name, or a file.")],
    models: Annotated[Path, typer.Option(help="Folder of the models' .tflite files.")],
    out: Annotated[Path, typer.Option(help="Where to write the profile.")],
    format: Format = "table",
) -> None:
    """Fit a profile's rates to measured latencies, own or published."""
    import json

    from fieldtune.profiles.common.files import write_atomically, writing
    from fieldtune.profiles.common.toml import to_toml
    from fieldtune.profiles.device.load import load_profile
    from fieldtune.profiles.measure.fit_table import fit_table, fitted_profile
    from fieldtune.profiles.measure.latency_table import read_table
    from fieldtune.profiles.tables import held_out_rows, held_out_table

    if out.suffix != ".toml" or not out.parent.is_dir():
        raise UsageError(f"--out {out}: give a .toml file in a folder that exists")
    base = load_profile(profile)
    rows, absent = read_table(table, models)
    if absent:
        named = ", ".join(absent[:3]) + (", ..." if len(absent) > 3 else "")
        Console(stderr=True).print(
            Text(f"Left out: rows of models that {models} does not have ({named}).")
        )
    how = f"fieldtune profiles fit, {len(rows)} latencies of {table.name}"
    found = fit_table(base, rows, how)
    with writing(out, "fit again"):
        write_atomically(out, to_toml(fitted_profile(base, profile, found)))
    load_profile(out)
    if format == "json":
        typer.echo(json.dumps(held_out_rows(found.held_out), indent=1))
        return
    if found.held_out:
        table_console().print(held_out_table(found.held_out))
    else:
        Console().print("Too few latencies to leave some out: how true it is was not tried.")
    Console().print(Text(f"Written to {out}; `fieldtune profiles show {out}` prints it."))
