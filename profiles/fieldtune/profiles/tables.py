"""Device profiles as tables in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fieldtune.profiles.common.estimate import Estimate
from fieldtune.profiles.costmodel.predict_file import FilePrediction
from fieldtune.profiles.device.profile import (
    Basis,
    DeviceProfile,
    KernelRates,
    ProfileValue,
    value_fields,
)
from fieldtune.profiles.measure.fit_table import stated_error
from fieldtune.profiles.measure.profile_host import Measured

_SLOWEST = 4
"""Kernels named below the table."""
_WIDE = 110
"""Characters from which a list of profiles has room for their titles."""
_BASES: tuple[Basis, ...] = ("measured", "fitted", "published", "estimated")


def print_profile(profile: DeviceProfile, console: Console) -> None:
    """Every value of a profile, with its interval, unit, basis and source."""
    console.print(Text(f"{profile.name}: {profile.title}", style="bold"))
    for field, spec in value_fields().items():
        entry: ProfileValue | None = getattr(profile, field)
        if entry is None:
            console.print(Text(f"{field:<27}{'-':>7}  {'not given':<16} {spec.unit}"))
            continue
        console.print(Text(_line(field, entry)))
        console.print(Padding(Text(entry.source, style="dim"), (0, 0, 0, 4)))
    if profile.classes:
        console.print(Text("measured kernels", style="bold"))
        for kernel, rates in profile.classes.items():
            console.print(Text(f"{kernel:<40} {_rates(rates)}"))


def _rates(rates: KernelRates) -> str:
    """The rates of a kernel that are above 0, and its interval as factors."""
    units = [name for name in KernelRates.model_fields if name.endswith("_us")]
    stated = [f"{name} {getattr(rates, name):.3g}" for name in units if getattr(rates, name) > 0]
    return f"{', '.join(stated)} (x{rates.low:.2f} to x{rates.high:.2f})"


def print_predictions(found: Sequence[FilePrediction], console: Console) -> None:
    """For each model a row a device, and the kernels that take most of the time."""
    for model, rows in groupby(found, key=lambda each: each.model):
        console.print(Text(Path(model).name, style="bold"))
        predictions = list(rows)
        console.print(_prediction_table(predictions))
        for each in predictions:
            total = sum(each.kernels_ms.values()) or 1.0
            most = list(each.kernels_ms.items())[:_SLOWEST]
            parts = ", ".join(f"{name} {100 * ms / total:.0f} %" for name, ms in most)
            console.print(Text(f"{each.device}, {each.signature}: {parts}"))
    console.print(
        "Predicted from the device's profile, with 90 % intervals. Memory: of a process that runs "
        "the model. Energy: of the whole device."
    )


def _prediction_table(found: Sequence[FilePrediction]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    table.add_column("device", no_wrap=True)
    for heading in ("threads", "latency (ms)", "memory (MiB)", "energy (mJ)", "file (MiB)"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in found:
        numbers = (each.latency_ms, each.peak_memory_mib, each.energy_mj)
        table.add_row(
            each.device, str(each.threads), *map(_with_interval, numbers), f"{each.storage_mib:.3g}"
        )
    return table


def fit_errors(errors: Mapping[str, NDArray[np.float64]]) -> Table:
    """How far predictions were off for families of models that the fit had not seen."""
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    for heading in ("latencies", "number", "median error", "90 % within", "predicted/measured"):
        table.add_column(heading, justify="left" if heading == "latencies" else "right")
    for kind, found in sorted(errors.items()):
        middle, most = stated_error(found)
        table.add_row(
            kind,
            str(len(found)),
            f"{100 * middle:.0f} %",
            f"{100 * most:.0f} %",
            f"{np.exp(np.median(found)):.2f}",
        )
    return table


def _with_interval(found: Estimate | None) -> str:
    return "-" if found is None else f"{found.value:.3g}\n{found.low:.3g} to {found.high:.3g}"


def missing_note(measured: Measured, out: Path) -> str:
    """Which values could not be measured, and where they come from instead."""
    missing = ", ".join(measured.missing)
    if measured.board is not None:
        return f"Not measured, taken from {measured.board} where it has them: {missing}."
    return (
        f"This host does not report: {missing}. Costs that need these values are not predicted; "
        f"add the ones you know to {out}."
    )


def overview(profiles: list[DeviceProfile], width: int) -> Table:
    """A table of profiles, one per row: the main values and how many values have which basis.

    Args:
        profiles: in the order of the rows.
        width: of the terminal, in characters; titles are left out of a narrow one.
    """
    wide = width >= _WIDE
    table = Table(
        caption="GFLOP/s: float32, one thread/all cores. RAM free: MiB. W: idle/loaded, - if "
        "not given. Basis: number of measured/fitted/published/estimated values.",
        caption_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 1),
    )
    table.add_column("name", no_wrap=True)
    if wide:
        table.add_column("device")
    for heading in ("cores", "GFLOP/s", "RAM free", "W", "basis"):
        table.add_column(heading, justify="right", no_wrap=True)
    for profile in profiles:
        table.add_row(
            profile.name,
            *([profile.title] if wide else []),
            _number(profile.cores.value),
            _pair(profile.float32_one_thread_gflop_s, profile.float32_all_cores_gflop_s),
            _number(profile.memory_free_mib.value),
            _pair(profile.idle_w, profile.loaded_w),
            "/".join(str(basis_counts(profile)[basis]) for basis in _BASES),
        )
    return table


def basis_counts(profile: DeviceProfile) -> dict[Basis, int]:
    """Count a profile's values by basis."""
    entries = [getattr(profile, name) for name in value_fields()]
    bases = [entry.basis for entry in entries if entry is not None]
    return {basis: bases.count(basis) for basis in _BASES}


def _line(field: str, entry: ProfileValue) -> str:
    interval = f"{_number(entry.low)} to {_number(entry.high)}"
    return f"{field:<27}{_number(entry.value):>7}  {interval:<16} {entry.unit:<8} {entry.basis}"


def _pair(first: ProfileValue | None, second: ProfileValue | None) -> str:
    return "/".join("-" if entry is None else _number(entry.value) for entry in (first, second))


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:g}"
