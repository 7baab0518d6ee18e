"""Device profiles as tables in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fieldtune.profiles.common.estimate import Estimate
from fieldtune.profiles.costmodel.predict_file import FilePrediction
from fieldtune.profiles.device.kernel_rates import KernelRates
from fieldtune.profiles.device.load import load_profile, profile_names
from fieldtune.profiles.device.profile import DeviceProfile, HeldOut, value_fields
from fieldtune.profiles.device.value import Basis, ProfileValue
from fieldtune.profiles.measure.held_out import seen_in
from fieldtune.profiles.measure.profile_host import Measured

_SLOWEST = 4
"""Kernels named below the table."""
_SINGLE = r" \*"
"""Marks kinds of latency for which single models were left out, not families."""
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
        if entry.basis == "fitted" and (error := _held_out(profile, field)):
            console.print(Padding(Text(error, style="dim"), (0, 0, 0, 4)))
    if profile.held_out:
        console.print(Text("how true the fitted values are", style="bold"))
        console.print(held_out_table(profile.held_out))
    if profile.classes:
        console.print(Text("measured kernels", style="bold"))
        for kernel, rates in profile.classes.items():
            console.print(Text(f"{kernel:<40} {_rates(rates)}"))


def _held_out(profile: DeviceProfile, field: str) -> str:
    """How far predictions by a fitted value are off for models that the fit had not seen."""
    parts = [
        f"{kind} {100 * found.median:.0f} % (90 % within {100 * found.most:.0f} %)"
        for kind in seen_in(field, profile.held_out)
        for found in (profile.held_out[kind],)
    ]
    return f"error for models left out: {', '.join(parts)}" if parts else ""


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
            console.print(Padding(Text(f"latency: {each.latency_basis}"), (0, 0, 0, 4)))
    console.print(
        "Predicted from the device's profile, with 90 % intervals. Memory: of a process that runs "
        "the model. Energy: of the whole device."
    )


def _prediction_table(found: Sequence[FilePrediction]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    table.add_column("device", no_wrap=True)
    for heading in ("threads", "latency\n(ms)", "memory\n(MiB)", "energy\n(mJ)", "file\n(MiB)"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in found:
        numbers = (each.latency_ms, each.peak_memory_mib, each.energy_mj)
        table.add_row(
            each.device, str(each.threads), *map(_with_interval, numbers), f"{each.storage_mib:.3g}"
        )
    return table


def held_out_rows(held_out: Mapping[str, HeldOut]) -> list[dict[str, object]]:
    """What :func:`held_out_table` shows, as JSON values: shares within 0..1."""
    return [
        {
            "latencies": kind,
            "number": found.rows,
            "median_error": found.median,
            "within_90": found.most,
            "predicted_by_measured": found.ratio,
            "interval_holds": found.holds,
            "interval_width": found.width,
        }
        for kind, found in sorted(held_out.items())
    ]


def held_out_table(held_out: Mapping[str, HeldOut]) -> Table:
    """How far predictions were off for models that the fit had not seen."""
    table = Table(
        caption="Predictions for models that the fit had not seen. Errors: median, and what 90 % "
        "are within; ratio: predicted / measured; holds: share of latencies within the stated "
        "90 % interval; width: its high / low.",
        caption_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 1),
    )
    table.add_column("latencies", no_wrap=True)
    for heading in ("rows", "median", "90 %", "ratio", "holds", "width"):
        table.add_column(heading, justify="right", no_wrap=True)
    for kind, found in sorted(held_out.items()):
        table.add_row(
            kind,
            str(found.rows),
            f"{100 * found.median:.0f} %",
            f"{100 * found.most:.0f} %",
            f"{found.ratio:.2f}",
            f"{100 * found.holds:.0f} %",
            f"{found.width:.2f}",
        )
    return table


def accuracy() -> list[str]:
    """Lines of a Markdown table: how true the catalogue's fitted profiles are."""
    lines = [
        "| device type | latencies | rows | median error | 90 % within | interval holds | width |",
        "|---|---|---|---|---|---|---|",
    ]
    seen: list[Mapping[str, HeldOut]] = []
    for name in profile_names():
        profile = load_profile(name)
        if profile.held_out in seen:  # a variant of a board
            continue
        seen.append(profile.held_out)
        for kind, found in sorted(profile.held_out.items()):
            mark = "" if found.left_out == "families" else _SINGLE
            lines.append(
                f"| {name} | {kind}{mark} | {found.rows} | "
                f"{100 * found.median:.0f} % | {100 * found.most:.0f} % | "
                f"{100 * found.holds:.0f} % | {found.width:.2f} |"
            )
    for kind in sorted({kind for found in seen for kind in found}):
        all_types = [found[kind] for found in seen if kind in found]
        rows = sum(found.rows for found in all_types)
        holds = sum(found.holds * found.rows for found in all_types) / rows
        width = median(found.width for found in all_types for _ in range(found.rows))
        lines.append(f"| all of them | {kind} | {rows} | | | {100 * holds:.0f} % | {width:.2f} |")
    return lines


def _with_interval(found: Estimate | None) -> str:
    # In three lines, so that the table fits into 80 columns.
    return "-" if found is None else f"{found.value:.3g}\nfrom {found.low:.3g}\nto {found.high:.3g}"


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
