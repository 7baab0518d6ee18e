"""``fieldtune report DIR``: the front and what to deploy, in the terminal."""

from __future__ import annotations

from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from fieldtune.profiles.common.estimate import Estimate
from fieldtune.server.report.format import (
    Scale,
    change,
    clients_of,
    counted,
    figure,
    quality,
    scale,
    setting,
)
from fieldtune.server.report.reported import headings, rows
from fieldtune.server.report.view import (
    Seen,
    budgets,
    counts,
    nothing_fits,
    objectives,
    parameters,
    phases,
    recommended_for,
    seen_by,
    spent,
    spread,
    why_empty,
)
from fieldtune.server.results.schema import Point, Summary

_LEAST = 30
"""Columns below which a configuration is not squeezed in beside the figures."""
_WIDE = 110
"""Columns from which on an interval stands beside its figure rather than below it."""


def print_summary(summary: Summary, console: Console) -> None:
    """Print the front, the recommendation for each device type, and counts.

    Args:
        summary: of the study's outcomes so far.
        console: where to; its width decides what stands in columns of its own.
    """
    goals = [f"{o.label.lower()} {'↑' if o.maximised else '↓'}" for o in objectives(summary)]
    heading = Text.assemble((summary.study, "bold"), f": {', '.join(goals)}")
    console.print(heading, highlight=False)
    if summary.front:
        for position, part in enumerate(_front(summary, console)):
            if position:
                console.print()
            console.print(part)
        if summary.recommended:
            console.print()
            console.print(_deployment(summary, console))
            if any(point.variants for point in summary.deployable):
                console.print()
                console.print(_files(summary))
        if summary.reported and not summary.simulated:
            console.print()
            console.print(_reported(summary))
    else:
        console.print(Text(why_empty(summary), style="yellow"))
    for changes in summary.changes:
        console.print(Text(f"Changed on the way. {changes}", style="dim"))
    console.print(Text(counts(summary), style="dim"))
    for title, facts in (
        ("Phases", [f"{phase} {count}" for phase, count in phases(summary)]),
        ("Devices were busy", [f"{device} {took}" for device, took in spent(summary)]),
        ("Budget used", budgets(summary)),
    ):
        if facts:
            console.print(Text(f"{title}: {'; '.join(facts)}", style="dim"))


def _front(summary: Summary, console: Console) -> list[Table]:
    """Each hyperparameter in a column, or all in one that wraps, or all in a table of their own.

    The first of these that fits is taken.
    """
    unbounded = console.options.update(width=10_000, max_width=10_000)

    def width(table: Table) -> int:
        return Measurement.get(console, unbounded, table).maximum

    wide = console.width >= _WIDE
    columns = _front_table(summary, "columns", wide=True)
    if width(columns) <= console.width:
        return [columns]
    figures = _front_table(summary, "none", wide=wide)
    if width(figures) + _LEAST <= console.width:
        return [_front_table(summary, "one", wide=wide)]
    return [figures, _configurations(summary)]


def _points(summary: Summary) -> list[tuple[str, Point]]:
    """The front, and the defaults last, each with what stands in its first column."""
    chosen = recommended_for(summary)
    front = [(f"{'★ ' if p.trial in chosen else ''}{p.trial}", p) for p in summary.front]
    return [*front, *([("defaults", summary.defaults)] if summary.defaults else [])]


def _varied(summary: Summary) -> list[str]:
    """The hyperparameters in which the points differ."""
    points = [point for _, point in _points(summary)]
    return [name for name in parameters(summary) if spread(points, name)]


def _configurations(summary: Summary) -> Table:
    table = _table("Their configurations")
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column("configuration")
    for title, point in _points(summary):
        table.add_row(Text(title), _configuration(point, _varied(summary)))
    return table


def _front_table(
    summary: Summary, configuration: Literal["columns", "one", "none"], *, wide: bool
) -> Table:
    points = [point for _, point in _points(summary)]
    units = {
        o.name: scale(o.name, [point.objectives[o.name].value for point in points])
        for o in objectives(summary)
    }
    names = _varied(summary)
    same = [name for name in parameters(summary) if name not in names]
    table = _table(f"Front: {counted(len(summary.front), 'point')} that no other beats")
    table.add_column("trial", justify="right", no_wrap=True)
    if configuration == "one":
        table.add_column("configuration")
    for name in names if configuration == "columns" else []:
        table.add_column(Text(name.replace("_", "_\n")), justify="right")
    for objective in objectives(summary):
        unit = units[objective.name].unit
        heading = f"{objective.label} ({unit})" if unit else objective.label
        table.add_column(Text(heading), justify="right", no_wrap=True)
    for title, point in _points(summary):
        cells = {
            "columns": [Text(setting(point.configuration[name])) for name in names],
            "one": [_configuration(point, names)],
            "none": [],
        }
        table.add_row(
            Text(title, style="bold" if title.startswith("★") else ""),
            *cells[configuration],
            *(
                _with_interval(point.objectives[name], unit, wide=wide)
                for name, unit in units.items()
            ),
            style="dim" if title == "defaults" else "",
        )
    notes = ["★ recommended below"] if summary.recommended else []
    if same:
        first = points[0].configuration
        notes.append("same for all: " + " ".join(f"{n}={setting(first[n])}" for n in same))
    table.caption = Text("; ".join(notes), style="dim") if notes else None
    return table


def _deployment(summary: Summary, console: Console) -> Group:
    """One row a device type; the reasons stand below the table where they would not fit in it."""
    wide = console.width >= _WIDE
    table = _table("What to deploy, as each device type sees it")
    table.add_column("device")
    table.add_column("trial", justify="right", no_wrap=True)
    for objective in objectives(summary):
        table.add_column(Text(objective.label), justify="right", no_wrap=True)
    if wide:
        table.add_column("why", ratio=1, min_width=24)
    reasons = []
    for device, clients in summary.devices.items():
        name = Text.assemble((device, "bold"), "\n", (clients_of(clients), "dim"))
        recommendation = summary.recommended.get(device)
        why = recommendation.why if recommendation else nothing_fits(summary, device)
        cells = (
            [Text(str(recommendation.trial)), *map(_beside_default, seen_by(summary, device))]
            if recommendation
            else [Text("none")] + [Text("")] * len(summary.objectives)
        )
        table.add_row(name, *cells, *([Text(why)] if wide else []))
        reasons.append(Text.assemble((device, "bold"), f": {why}"))
    return Group(table, *([] if wide else [*reasons, Text()]))


def _files(summary: Summary) -> Table:
    """What there is to export of the recommended trials, each file as it measured."""
    table = _table("Files to export, as measured")
    table.add_column("trial", justify="right")
    measure = quality(summary.front[0].measures) if summary.front else "error"
    for heading in ("variant", "size", measure):
        table.add_column(heading, justify="left" if heading == "variant" else "right")
    chosen = {recommended.trial for recommended in summary.recommended.values()}
    for point in summary.deployable:
        if point.trial in chosen:
            for name, file in point.variants.items():
                size = figure("file_bytes", file.bytes)
                measured = figure(measure, file.measures[measure])
                table.add_row(str(point.trial), name, size, measured)
    return table


def _reported(summary: Summary) -> Table:
    """What the devices reported, against what their profiles predict."""
    device, what, *figures, basis = headings(summary)
    table = _table(f"Predicted against {figures[1]}")
    table.add_column(device)
    table.add_column(what)
    for heading in figures:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column(basis)
    for row in rows(summary):
        name, quantity, *said, factor, rests_on = row.cells
        corrected = Text.assemble(factor, (f"\n{row.interval}" if factor else "", "dim"))
        table.add_row(Text(name, style="bold"), quantity, *said, corrected, rests_on)
    return table


def _table(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1),
        collapse_padding=True,
        pad_edge=False,
    )


def _configuration(point: Point, names: list[str]) -> Text:
    """``width=16 depth=2 ...``: a line is broken between two, never within one."""
    return Text(" ".join(f"{name}={setting(point.configuration[name])}" for name in names))


def _with_interval(interval: Estimate, unit: Scale, *, wide: bool) -> Text:
    value, ends = unit.write(interval.value), unit.bounds(interval)
    if not ends:
        return Text(value)
    return Text.assemble((value, "bold"), (f" ({ends})" if wide else f"\n{ends}", "dim"))


def _beside_default(seen: Seen) -> Text:
    now, unit = seen.figure.value, seen.unit
    value = unit.with_unit(now)
    if seen.default is None:
        return Text(value)
    before = unit.with_unit(seen.default)
    if seen.better is None:
        return Text.assemble(f"= {value}", ("\nas before", "dim"))
    mark, style = ("✓", "green") if seen.better else ("✗", "red")
    by = change(now, seen.default)
    return Text.assemble((f"{mark} {value}", style), (f"\nwas {before}", "dim"), f"\n{by}")
