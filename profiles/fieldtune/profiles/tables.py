"""Device profiles as tables in the terminal."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fieldtune.profiles.device.profile import (
    Basis,
    DeviceProfile,
    Figure,
    KernelRates,
    figure_fields,
)
from fieldtune.profiles.measure.profile_host import Measured

_BASES: tuple[Basis, ...] = ("measured", "published", "estimated")


def print_profile(profile: DeviceProfile, console: Console) -> None:
    """Every figure of a profile, with its interval, unit, basis and source."""
    console.print(Text(f"{profile.name}: {profile.title}", style="bold"))
    for field, mark in figure_fields().items():
        figure: Figure | None = getattr(profile, field)
        if figure is None:
            console.print(Text(f"{field:<27}{'-':>7}  {'not told':<16} {mark.unit}"))
            continue
        console.print(Text(_line(field, figure)))
        console.print(Padding(Text(figure.source, style="dim"), (0, 0, 0, 4)))
    if profile.classes:
        console.print(Text("measured kernels", style="bold"))
        for kernel, rates in profile.classes.items():
            console.print(Text(f"{kernel:<40} {_rates(rates)}"))


def _rates(rates: KernelRates) -> str:
    """The rates of a kernel that are above 0, and its interval in percent."""
    units = [name for name in KernelRates.model_fields if name.endswith("_us")]
    stated = [f"{name} {getattr(rates, name):.3g}" for name in units if getattr(rates, name) > 0]
    return f"{', '.join(stated)} (x{rates.low:.2f} to x{rates.high:.2f})"


def not_told(measured: Measured, out: Path) -> str:
    """Where the figures that a host hides come from, or what becomes of it."""
    hidden = ", ".join(measured.untold)
    if measured.board is not None:
        return f"Not measured, taken from {measured.board} where it says: {hidden}."
    return (
        f"Not told by this host: {hidden}. What needs them is not predicted; add to {out} "
        "what you know."
    )


def overview(profiles: list[DeviceProfile]) -> Table:
    """Lay out profiles, a row each: what decides at a glance, and how many figures rest on what."""
    table = Table(
        caption="GFLOP/s: float32, one thread/all cores. RAM free: MiB. W: idle/loaded, - where "
        "not told. Basis: how many figures are measured/published/estimated.",
        caption_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 1),
    )
    table.add_column("name", no_wrap=True)
    table.add_column("device", overflow="fold")
    for heading in ("cores", "GFLOP/s", "RAM free", "W", "basis"):
        table.add_column(heading, justify="right", no_wrap=True)
    for profile in profiles:
        table.add_row(
            profile.name,
            profile.title,
            _number(profile.cores.value),
            _pair(profile.float32_one_thread_gflop_s, profile.float32_all_cores_gflop_s),
            _number(profile.memory_free_mib.value),
            _pair(profile.idle_w, profile.loaded_w),
            "/".join(str(basis_counts(profile)[basis]) for basis in _BASES),
        )
    return table


def basis_counts(profile: DeviceProfile) -> dict[Basis, int]:
    """Count a profile's figures by what they rest on."""
    figures = [getattr(profile, name) for name in figure_fields()]
    bases = [figure.basis for figure in figures if figure is not None]
    return {basis: bases.count(basis) for basis in _BASES}


def _line(field: str, figure: Figure) -> str:
    span = f"{_number(figure.low)} to {_number(figure.high)}"
    return f"{field:<27}{_number(figure.value):>7}  {span:<16} {figure.unit:<8} {figure.basis}"


def _pair(first: Figure | None, second: Figure | None) -> str:
    return "/".join("-" if figure is None else _number(figure.value) for figure in (first, second))


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:g}"
