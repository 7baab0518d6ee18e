"""Parts of the terminal's report: what else there is for a device type, and the files to export."""

from __future__ import annotations

from shlex import quote
from textwrap import wrap

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from fieldtune.profiles.common.estimate import Estimate
from fieldtune.server.report.format import MOST_DIGITS, difference, figure, listed, quality
from fieldtune.server.report.run_info import RunInfo
from fieldtune.server.report.view import (
    filed,
    how_known,
    label_of,
    named,
    objectives,
    on_device,
    recommended_for,
    timed_on,
)
from fieldtune.server.results.schema import Summary
from fieldtune.server.results.stored_choices import Alternative, Recommendation
from fieldtune.server.study.objectives import Objective

_DEVICE = 12
"""Columns of a device type's name in a heading; it is broken at hyphens."""
_HEADING = 14
"""Columns of the label of an objective in a heading."""
_ALTERNATIVES = 3
"""Alternatives that are printed for a device type."""


def new_table(title: str) -> Table:
    """A table as all of the report."""
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


def fits(table: Table, console: Console, beside: int = 0) -> bool:
    """Whether a table needs no more columns of a console than there are, ``beside`` others."""
    unbounded = console.options.update(width=10_000, max_width=10_000)
    return Measurement.get(console, unbounded, table).maximum + beside <= console.width


def in_lines(device: str) -> str:
    """The name of a device type, broken at hyphens."""
    return "\n".join(wrap(device, _DEVICE))


def objective_heading(summary: Summary, objective: Objective, label: str, whose: str = "") -> Text:
    """A label broken between words, what it is a figure of, and how it is known."""
    lines = "\n".join(wrap(label, _HEADING, break_long_words=False))
    facts = [each for each in (whose, how_known(summary, objective)) if each]
    return Text.assemble(lines, ("".join(f"\n{each}" for each in facts), "dim"))


def all_alternatives(summary: Summary) -> list[Table | Group]:
    """A table for each device type; below the last, why each point is not recommended, once."""
    having = {d: c for d, c in summary.recommended.items() if c.alternatives}
    reasons: dict[int, dict[str, list[str]]] = {}
    for device, chosen in having.items():
        for each in chosen.alternatives[:_ALTERNATIVES]:
            reasons.setdefault(each.trial, {}).setdefault(each.why_not, []).append(device)
    lines = [
        f"{_named(summary, trial)}{f' on {listed(devices)}' if len(by_reason) > 1 else ''}: "
        f"{reason}"
        for trial, by_reason in reasons.items()
        for reason, devices in by_reason.items()
    ]
    tables: list[Table | Group] = [_alternatives(summary, *each) for each in having.items()]
    return [*tables, *([Group(*(Text(line, style="dim") for line in lines))] if lines else [])]


def _alternatives(summary: Summary, device: str, chosen: Recommendation) -> Table:
    """Other points for a device type, each with its price against the recommended one."""
    table = new_table(f"{device}: instead of {named(summary, chosen.trial)}")
    table.add_column("trial", justify="right", no_wrap=True)
    for objective in objectives(summary):
        table.add_column(
            objective_heading(summary, objective, objective.label), justify="right", no_wrap=True
        )
    if any(each.no_worse is not None for each in chosen.alternatives):
        table.add_column("no worse", justify="right", no_wrap=True)
    shown = chosen.alternatives[:_ALTERNATIVES]
    own = summary.point(chosen.trial)
    for each in shown:
        cells = [
            _price(each, objective, on_device(summary.point(each.trial), device, objective.name),
                   on_device(own, device, objective.name))
            for objective in objectives(summary)
        ]  # fmt: skip
        asked = summary.decision.confidence if summary.decision else 1.0
        certainty = [] if each.no_worse is None else [_percent(each.no_worse, asked)]
        table.add_row(_title(summary, each.trial), *cells, *certainty)
    return table


def _percent(probability: float, asked: float) -> str:
    """In whole per cent, never as certain, and never as what is asked for where it is less."""
    if probability < 0.005:
        return "< 1 %"
    digits = 0
    while probability < asked <= round(probability, digits + 2) and digits < MOST_DIGITS:
        digits += 1
    return "> 99 %" if probability > 0.995 and not digits else f"{100 * probability:.{digits}f} %"


def _price(other: Alternative, objective: Objective, now: Estimate, own: Estimate) -> Text:
    found = other.gains[objective.name]
    if found.within_noise:
        same = now.value == own.value
        return Text("same" if same else "within noise", style="dim")
    style = "green" if found.log > 0 else "red"
    return Text(difference(objective.name, now.value, own.value), style=style)


def files(summary: Summary) -> Table:
    """The files of what is recommended and of the defaults, as the clients measured them."""
    how = "simulated" if summary.simulated else "measured"
    table = new_table(f"Files to export, and what clients measured of them ({how})")
    table.add_column("trial", justify="right", no_wrap=True)
    points, devices = filed(summary), timed_on(summary)
    measure = quality(points[0].measures)
    table.add_column("variant", no_wrap=True)
    for title in ("size", "\n".join(wrap(label_of(summary, measure).lower(), _DEVICE))):
        table.add_column(title, justify="right", no_wrap=True)
    for device in devices:
        table.add_column(f"inference\n{in_lines(device)}", justify="right", no_wrap=True)
    chosen = recommended_for(summary)
    for point in points:
        title = f"{'★ ' if point.trial in chosen else ''}{_title(summary, point.trial)}"
        for name, file in point.variants.items():
            table.add_row(
                title,
                name,
                figure("file_bytes", file.bytes),
                figure(measure, file.measures[measure]) if measure in file.measures else "",
                *(
                    figure("inference_ms", file.inference_ms[device])
                    if device in file.inference_ms
                    else "-"
                    for device in devices
                ),
            )
            title = ""
    return table


def commands(summary: Summary, run: RunInfo) -> list[str]:
    """How to get the recommended files, and any other."""
    export = f"fieldtune export {quote(run.folder)}"
    lines = [
        f"{export} --device {quote(devices[0])} "
        f"--out {quote(f'{summary.study}-trial-{trial}.tflite')}"
        + (f"  # for {listed(devices[1:])} too" if devices[1:] else "")
        for trial, devices in recommended_for(summary).items()
    ]
    return [*lines, f"{export} --device TYPE --trial N --variant NAME --out FILE.tflite"]


def _title(summary: Summary, trial: int) -> str:
    """A trial's number, or that it is the defaults'."""
    is_own = summary.defaults is not None and summary.defaults.trial == trial
    return "defaults" if is_own else str(trial)


def _named(summary: Summary, trial: int) -> str:
    """A trial in a sentence."""
    title = _title(summary, trial)
    return f"trial {title}" if title.isdigit() else title
