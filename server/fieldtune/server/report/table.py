"""``fieldtune report DIR``: the front and what to deploy, in the terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from fieldtune.server.front import Interval, Point, Summary
from fieldtune.server.report.format import (
    Scale,
    change,
    counted,
    figure,
    scale,
    setting,
)
from fieldtune.server.report.view import (
    Seen,
    counts,
    nothing_fits,
    objectives,
    parameters,
    recommended_for,
    seen_by,
    spread,
    why_empty,
)

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
        console.print(_front(summary, console))
        if summary.recommended:
            console.print()
            console.print(_deployment(summary, console))
    else:
        console.print(Text(why_empty(summary), style="yellow"))
    console.print(Text(counts(summary), style="dim"))


def _front(summary: Summary, console: Console) -> Table:
    """Every hyperparameter in a column where they fit, else all of them in one that wraps."""
    columns = _front_table(summary, in_columns=True, wide=True)
    unbounded = console.options.update(width=10_000, max_width=10_000)
    if Measurement.get(console, unbounded, columns).maximum <= console.width:
        return columns
    return _front_table(summary, in_columns=False, wide=console.width >= _WIDE)


def _front_table(summary: Summary, *, in_columns: bool, wide: bool) -> Table:
    points = [*summary.front, *([summary.defaults] if summary.defaults else [])]
    units = {
        o.name: scale(o.name, [point.objectives[o.name].value for point in points])
        for o in objectives(summary)
    }
    names = [name for name in parameters(summary) if spread(points, name)]
    same = [name for name in parameters(summary) if name not in names]
    chosen = recommended_for(summary)
    table = _table(f"Front: {counted(len(summary.front), 'point')} that no other beats")
    table.add_column("trial", justify="right", no_wrap=True)
    for name in names if in_columns else ["configuration"]:
        heading = name.replace("_", "_\n") if in_columns else name
        table.add_column(Text(heading), justify="right" if in_columns else "left")
    for objective in objectives(summary):
        unit = units[objective.name].unit
        heading = f"{objective.label} ({unit})" if unit else objective.label
        table.add_column(Text(heading), justify="right", no_wrap=True)
    for position, point in enumerate(points):
        is_default = position == len(summary.front)
        mark = "★ " if point.trial in chosen and not is_default else ""
        trial = "defaults" if is_default else f"{mark}{point.trial}"
        if in_columns:
            cells = [Text(setting(point.configuration[name])) for name in names]
        else:
            cells = [_configuration(point, names)]
        table.add_row(
            Text(trial, style="bold" if mark else ""),
            *cells,
            *(
                _with_interval(point.objectives[name], unit, wide=wide)
                for name, unit in units.items()
            ),
            style="dim" if is_default else "",
        )
    notes = ["★ recommended below"] if chosen else []
    if same:
        first = points[0].configuration
        notes.append("same for all: " + ", ".join(f"{n} {setting(first[n])}" for n in same))
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
        name = Text.assemble((device, "bold"), "\n", (counted(clients, "client"), "dim"))
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


def _with_interval(interval: Interval, unit: Scale, *, wide: bool) -> Text:
    value, ends = unit.write(interval.value), unit.bounds(interval)
    if not ends:
        return Text(value)
    return Text.assemble((value, "bold"), (f" ({ends})" if wide else f"\n{ends}", "dim"))


def _beside_default(seen: Seen) -> Text:
    value = figure(seen.objective.name, seen.figure.value)
    if seen.default is None:
        return Text(value)
    before = figure(seen.objective.name, seen.default)
    if seen.better is None:
        return Text.assemble(f"= {value}", ("\nas before", "dim"))
    mark, style = ("✓", "green") if seen.better else ("✗", "red")
    by = change(seen.figure.value, seen.default)
    return Text.assemble((f"{mark} {value}", style), (f"\nwas {before}", "dim"), f"\n{by}")
