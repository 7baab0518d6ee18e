"""``fieldtune profiles``: the catalogue on the command line."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fieldtune.profiles.catalogue import load_profile, profile_names
from fieldtune.profiles.device import Basis, DeviceProfile, Figure, figure_fields

app = typer.Typer(
    no_args_is_help=True,
    help="What the device types can do, and where each figure is from.",
)
_BASES: tuple[Basis, ...] = ("measured", "published", "estimated")


@app.command("list")
def list_profiles() -> None:
    """List the device profiles of the catalogue, a line each."""
    Console().print(overview([load_profile(name) for name in profile_names()]))


@app.command()
def show(
    name: Annotated[
        str, typer.Argument(help="A name that `list` gives, or the path of a .toml file.")
    ],
) -> None:
    """Show every figure of one profile, with its interval, unit, basis and source."""
    profile = load_profile(name)
    console = Console()
    console.print(Text(f"{profile.name}: {profile.title}", style="bold"))
    console.print(details(profile))


def overview(profiles: list[DeviceProfile]) -> Table:
    """Lay out profiles, a row each: what decides at a glance, and how many figures rest on what."""
    table = Table(
        caption="GFLOP/s: float32, one thread and all cores. RAM: MiB free of total. "
        "W: idle and loaded.\nBasis: figures measured/published/estimated.",
        caption_justify="left",
        box=None,
        pad_edge=False,
    )
    table.add_column("name", no_wrap=True)
    table.add_column("device", overflow="fold")
    for heading in ("cores", "GFLOP/s", "RAM", "W", "basis"):
        table.add_column(heading, justify="right", no_wrap=True)
    for profile in profiles:
        table.add_row(
            profile.name,
            profile.title,
            _number(profile.cores.value),
            _pair(profile.float32_one_thread_gflop_s, profile.float32_all_cores_gflop_s),
            _pair(profile.memory_free_mib, profile.memory_total_mib),
            _pair(profile.idle_w, profile.loaded_w),
            "/".join(str(basis_counts(profile)[basis]) for basis in _BASES),
        )
    return table


def details(profile: DeviceProfile) -> Table:
    """Lay out every figure of a profile: value, interval, unit, basis and source."""
    table = Table(box=None, pad_edge=False)
    table.add_column("figure", overflow="fold")
    for heading in ("value", "low", "high"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    table.add_column("basis", no_wrap=True)
    table.add_column("source", overflow="fold", ratio=1)
    for name in figure_fields():
        figure: Figure = getattr(profile, name)
        table.add_row(
            name,
            _number(figure.value),
            _number(figure.low),
            _number(figure.high),
            figure.unit,
            figure.basis,
            Text(figure.source),
        )
    return table


def basis_counts(profile: DeviceProfile) -> dict[Basis, int]:
    """Count a profile's figures by what they rest on."""
    bases = [getattr(profile, name).basis for name in figure_fields()]
    return {basis: bases.count(basis) for basis in _BASES}


def _pair(first: Figure, second: Figure) -> str:
    return f"{_number(first.value)}/{_number(second.value)}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:g}"
