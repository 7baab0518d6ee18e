"""``fieldtune report DIR``: the front and what to deploy, in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from fieldtune.profiles.common.estimate import Estimate
from fieldtune.server.report.format import (
    DisplayUnit,
    change,
    clients_of,
    counted,
    display_unit,
    listed,
    setting,
)
from fieldtune.server.report.privacy import privacy_sentence
from fieldtune.server.report.reported import headings, rows
from fieldtune.server.report.run_info import RunInfo, progress, task_facts
from fieldtune.server.report.space_view import parameters, spread, untried
from fieldtune.server.report.table_parts import (
    all_alternatives,
    commands,
    files,
    fits,
    in_lines,
    new_table,
    objective_heading,
)
from fieldtune.server.report.trials_view import budgets, counts, phases, spent, times, why_empty
from fieldtune.server.report.view import (
    ComparedObjective,
    compared_objectives,
    filed,
    front_digits,
    front_rows,
    nothing_fits,
    objectives,
    recommended_for,
    whose,
)
from fieldtune.server.results import device_rows
from fieldtune.server.results.schema import Point, Summary, personal_steps
from fieldtune.server.study.objectives import Objective

_LEAST = 30
"""Fewest columns for a configuration beside the figures; with less it has a table of its own."""
_WIDE = 110
"""Columns from which on an interval is printed beside its figure instead of below it."""


def print_summary(summary: Summary, console: Console, run: RunInfo | None = None) -> None:
    """Print the front, the recommendation for each device type, and counts.

    Args:
        summary: of the study's outcomes so far.
        console: to print to; its width decides the layout.
        run: what is known of the run beside them, such as its data.
    """
    run = run or RunInfo()
    goals = [f"{o.phrase} {'↑' if o.maximised else '↓'}" for o in objectives(summary)]
    heading = Text.assemble((summary.study, "bold"), f": {', '.join(goals)}")
    console.print(heading, highlight=False)
    facts = [f"{name} {value}" for name, value in task_facts(summary, run)]
    if run.state != "finished":
        facts = [progress(summary, run), *facts]
    console.print(Text("; ".join(facts), style="dim"))
    if summary.front:
        for position, part in enumerate(_parts(summary, console)):
            if position:
                console.print()
            console.print(part)
    else:
        console.print(Text(why_empty(summary), style="yellow"))
    if summary.recommended:
        console.print(Text("\nTo deploy, or for a file of any other trial:", style="bold"))
        for line in commands(summary, run):
            console.print(Text(f"  {line}"), soft_wrap=True)
        console.print()
    if personal := personal_steps(summary.deployable):
        console.print(Text(personal, style="yellow"))
    for sentence in untried(summary, run.study):
        console.print(Text(sentence, style="yellow"))
    if summary.privacy:
        console.print(Text(privacy_sentence(summary.privacy, summary.simulated), style="dim"))
    for changes in summary.changes:
        console.print(Text(f"Study changes. {changes}", style="dim"))
    console.print(Text(counts(summary), style="dim"))
    for title, facts_of in (
        ("Phases", [f"{phase} {count}" for phase, count in phases(summary)]),
        ("Devices were busy", [f"{device} {took}" for device, took in spent(summary)]),
        ("Time", [f"{took} {what}" for took, what in times(summary)]),
        ("Budget used", budgets(summary)),
    ):
        if facts_of:
            console.print(Text(f"{title}: {'; '.join(facts_of)}", style="dim"))


def _parts(summary: Summary, console: Console) -> list[Table | Group]:
    parts: list[Table | Group] = [*_front(summary, console)]
    if summary.recommended:
        parts.append(_deployment(summary, console))
        parts += all_alternatives(summary)
        if filed(summary):
            parts.append(files(summary))
    if summary.reported and not summary.simulated:
        parts.append(_reported(summary))
    if of_devices := device_rows.rows(summary):
        parts.append(_devices(of_devices))
    return parts


def _front(summary: Summary, console: Console) -> list[Table]:
    """Each hyperparameter in a column, or all in one that wraps, or all in a table of their own.

    The first of these that fits is taken.
    """
    wide = console.width >= _WIDE
    columns = _front_table(summary, "columns", wide=True)
    if fits(columns, console):
        return [columns]
    figures = _front_table(summary, "none", wide=wide)
    if fits(figures, console, beside=_LEAST):
        return [_front_table(summary, "one", wide=wide)]
    return [figures, _configurations(summary)]


def _points(summary: Summary) -> list[tuple[str, Point]]:
    """The front, then the defaults, each with the text of its first column."""
    chosen = recommended_for(summary)
    return [
        (f"{'★ ' if point.trial in chosen else ''}{title}", point)
        for title, point in front_rows(summary)
    ]


def _varied(summary: Summary) -> list[str]:
    """The hyperparameters in which the points differ."""
    points = [point for _, point in _points(summary)]
    return [name for name in parameters(summary) if spread(points, name)]


def _configurations(summary: Summary) -> Table:
    table = new_table("Their configurations")
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
        o.name: display_unit(o.name, [point.objectives[o.name].value for point in points])
        for o in objectives(summary)
    }
    digits = front_digits(summary, units)
    names = _varied(summary)
    same = [name for name in parameters(summary) if name not in names]
    table = new_table(f"Front: {counted(len(summary.front), 'point')} that no other dominates")
    table.add_column("trial", justify="right", no_wrap=True)
    if configuration == "one":
        table.add_column("configuration")
    for name in names if configuration == "columns" else []:
        table.add_column(Text(name.replace("_", "_\n")), justify="right")
    for objective in objectives(summary):
        unit = units[objective.name].unit
        label = f"{objective.label} ({unit})" if unit else objective.label
        table.add_column(
            objective_heading(summary, objective, label, _of_fleet(objective)),
            justify="right",
            no_wrap=True,
        )
    table.add_column("runs", justify="right", no_wrap=True)
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
                _with_interval(point.objectives[name], unit, digits[point.trial, name], wide=wide)
                for name, unit in units.items()
            ),
            f"{point.runs}x",
            style="dim" if title.endswith("defaults") else "",
        )
    notes = ["★ recommended for a device type"] if summary.recommended else []
    if same:
        first = points[0].configuration
        notes.append("same for all: " + " ".join(f"{n}={setting(first[n])}" for n in same))
    table.caption = Text("; ".join(notes), style="dim") if notes else None
    return table


def _of_fleet(objective: Objective) -> str:
    """What an objective of the front is a figure of."""
    if objective.learned or not objective.of_device:
        return "fleet"
    return "worst type" if objective.worst_of_fleet else "fleet mean"


def _deployment(summary: Summary, console: Console) -> Group:
    """One row a device type; the reasons are printed below the table where they do not fit in."""
    wide = console.width >= _WIDE
    table = _deployed(summary, wide=wide, broken=False)
    if not (wide or fits(table, console)):
        table = _deployed(summary, wide=wide, broken=True)
    reasons: dict[str, list[str]] = {}
    for device in summary.devices:
        reasons.setdefault(_why(summary, device), []).append(device)
    said = [Text.assemble((listed(types), "bold"), f": {why}") for why, types in reasons.items()]
    return Group(table, *([] if wide else said))


def _why(summary: Summary, device: str) -> str:
    recommendation = summary.recommended.get(device)
    return recommendation.why if recommendation else nothing_fits(summary, device)


def _deployed(summary: Summary, *, wide: bool, broken: bool) -> Table:
    """The table of it; ``broken``: long names of device types in several lines."""
    table = new_table("What to deploy, for each device type")
    table.add_column("device")
    table.add_column("trial", justify="right", no_wrap=True)
    for objective in objectives(summary):
        title = objective_heading(summary, objective, objective.label, whose(objective))
        table.add_column(title, justify="right", no_wrap=True)
    if wide:
        table.add_column("why", ratio=1, min_width=24)
    for device, clients in summary.devices.items():
        lines = in_lines(device) if broken else device
        name = Text.assemble((lines, "bold"), "\n", (clients_of(clients), "dim"))
        recommendation = summary.recommended.get(device)
        cells = (
            [
                Text(str(recommendation.trial)),
                *map(_beside_default, compared_objectives(summary, device)),
            ]
            if recommendation
            else [Text("none")] + [Text("")] * len(summary.objectives)
        )
        table.add_row(name, *cells, *([Text(_why(summary, device))] if wide else []))
    return table


def _reported(summary: Summary) -> Table:
    """What the devices reported, against what their profiles predict: a row group a type."""
    device, _, *figures, basis = headings(summary)
    table = new_table(f"Predicted against {figures[1]}")
    table.add_column(device, no_wrap=True)
    for heading in figures:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column(basis)
    shown = ""
    for row in rows(summary):
        if row.device != shown:
            table.add_row(Text(row.device, style="bold"))
            shown = row.device
        _, quantity, *said, factor, rests_on = row.cells
        corrected = Text.assemble(factor, (f"\n{row.interval}" if factor else "", "dim"))
        table.add_row(f"  {quantity}", *said, corrected, rests_on)
    return table


def _devices(of_devices: Sequence[tuple[str, ...]]) -> Table:
    """The devices of a real fleet, a row each."""
    table = new_table("Devices")
    for heading in device_rows.HEADINGS:
        table.add_column(heading, no_wrap=heading in ("error", "update norm"))
    for row in of_devices:
        table.add_row(*map(Text, row))
    return table


def _configuration(point: Point, names: list[str]) -> Text:
    """``width=16 depth=2 ...``: lines are broken only between two of them."""
    return Text(" ".join(f"{name}={setting(point.configuration[name])}" for name in names))


def _with_interval(interval: Estimate, unit: DisplayUnit, more: int, *, wide: bool) -> Text:
    value, ends = unit.write(interval.value, more), unit.bounds(interval)
    if not ends:
        return Text(value)
    return Text.assemble((value, "bold"), (f" ({ends})" if wide else f"\n{ends}", "dim"))


def _beside_default(seen: ComparedObjective) -> Text:
    now, unit = seen.figure.value, seen.unit
    value = unit.with_unit(now, seen.more)
    if seen.default is None:
        return Text(value)
    before = unit.with_unit(seen.default, seen.more)
    if seen.better is None:
        same = seen.figure.value == seen.default
        return Text.assemble(
            f"= {value}" if same else f"≈ {value}",
            ("\nas before" if same else f"\nas good as {before}", "dim"),
        )
    mark, style = ("✓", "green") if seen.better else ("✗", "red")
    further = f"\n{change(now, seen.default)}"
    if seen.promised is not None:
        further = f"\npromised\n{unit.with_unit(seen.promised)}"
    return Text.assemble((f"{mark} {value}", style), (f"\nwas {before}", "dim"), further)
