"""``report.html``: one file that opens offline, for the person who chooses what to deploy."""

from __future__ import annotations

import shlex
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from fieldtune.server.report import format, view
from fieldtune.server.report.figures import View, pictures
from fieldtune.server.report.notes import notes
from fieldtune.server.report.reported import headings, lead, rows
from fieldtune.server.results.schema import Summary


def render_html(summary: Summary) -> str:
    """The report as one HTML file.

    It loads nothing: plotly.js, styles and data are in it, and its content security policy keeps
    the browser from fetching anything else. The same summary gives the same text.
    """
    assets = files("fieldtune.server.report") / "assets"
    drawn = pictures(summary)
    goals, parameters = view.objectives(summary), view.parameters(summary)
    points = [*summary.front, *([summary.defaults] if summary.defaults else [])]
    units = {
        goal.name: format.scale(goal.name, [p.objectives[goal.name].value for p in points])
        for goal in goals
    }
    columns = [f"{g.label} ({u})" if (u := units[g.name].unit) else g.label for g in goals]
    # "<" could end the script element that holds the figures.
    data = ",".join(f'"{name}":[{_json(views)}]' for name, views in drawn.items())
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.from_string((assets / "page.html").read_text("utf-8")).render(
        format=format,
        view=view,
        quote=shlex.quote,
        summary=summary,
        drawn=drawn,
        goals=goals,
        parameters=parameters,
        units=units,
        tiles=_tiles(summary),
        facts=_facts(summary),
        chosen=view.recommended_for(summary),
        front_headings=["Trial", *columns, *parameters],
        reported_headings=headings(summary),
        reported_rows=rows(summary),
        reported_lead=lead(summary),
        notes=notes(summary),
        css=Markup((assets / "report.css").read_text("utf-8")),
        js=Markup((assets / "report.js").read_text("utf-8")),
        plotly=Markup(get_plotlyjs()),
        figures=Markup(f"{{{data}}}".replace("<", "\\u003c")),
    )


def _json(views: list[View]) -> str:
    return ",".join(
        "{" + ",".join(f'"{name}":{fig.to_json()}' for name, fig in each.by_theme.items()) + "}"
        for each in views
    )


def _tiles(summary: Summary) -> list[tuple[int, str]]:
    return [
        (len(summary.front), "on the front"),
        (summary.trials - summary.failed, "trials trained"),
        *([(summary.stopped, "of them stopped at a rung")] if summary.stopped else []),
        (summary.infeasible, "ruled out by limits"),
        (summary.failed, "failed"),
    ]


def _facts(summary: Summary) -> dict[str, list[tuple[str, str]]]:
    return {
        "Objectives": [
            (goal.label, "higher is better" if goal.maximised else "lower is better")
            for goal in view.objectives(summary)
        ],
        "Tuned": [(name, view.tried(summary, name)) for name in view.parameters(summary)],
        "Phases": [
            (phase, format.counted(count, "trial")) for phase, count in view.phases(summary)
        ],
        "Took": view.spent(summary),
        "Budget": [(used, "used") for used in view.budgets(summary)],
        "Fleet": [(device, format.clients_of(n)) for device, n in summary.devices.items()],
    }
