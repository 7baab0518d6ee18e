"""``report.html``: one file that opens offline, for the person who chooses what to deploy."""

from __future__ import annotations

from importlib.resources import files
from string import Template

from plotly.offline import get_plotlyjs

from fieldtune.server.report.cards import deployment, in_one_line
from fieldtune.server.report.figures import View, pictures
from fieldtune.server.report.format import clients_of, counted
from fieldtune.server.report.front_table import front_table
from fieldtune.server.report.markup import Markup, joined, tag
from fieldtune.server.report.notes import notes
from fieldtune.server.report.reported import reported_table
from fieldtune.server.report.view import (
    budgets,
    objectives,
    parameters,
    phases,
    spent,
    tried,
    why_empty,
)
from fieldtune.server.results.schema import Summary

_CAPTIONS = {
    "best": "The filled point is the best trained trial, with its interval; hover a point for its "
    "configuration.",
    "front": "Filled points are the front: no trial that was tried is at least as good on every "
    "objective. Thin bars are the intervals of the figures and may run out "
    "of the picture. The line joins the points that no "
    "other beats on the two objectives shown; what lies on its far side was never reached. Rings "
    "mark what is recommended; hover a point for its configuration.",
    "parallel": "Each line is a trained trial, from its hyperparameters to what they led to; thick "
    "lines are the front. Point at a knot to follow its line. Axes whose values span more than a "
    "factor of 20 are logarithmic.",
    "progress": "How much of the box between the best and just beyond the worst trained values "
    "(the reference point lies 10 % beyond the worst) the front dominates. A long flat end means "
    "that more trials would bring little.",
    "limits": "Configurations that were ruled out before any device was asked, by the limits that "
    "they exceed; each counts as “exceeded most” once, at the limit that it exceeds by the largest "
    "share.",
    "overshoot": "How far each of them is over the limit: crosses close to the left edge would "
    "fit with a slightly wider limit.",
}


def render_html(summary: Summary) -> str:
    """The report as one HTML file.

    It loads nothing: plotly.js, styles and data are in it, and its content security policy keeps
    the browser from fetching anything else. The same summary gives the same text.
    """
    assets = files("fieldtune.server.report") / "assets"
    drawn = pictures(summary)
    # "<" could end the script element that holds the figures.
    data = ",".join(f'"{name}":[{_json(views)}]' for name, views in drawn.items())
    return Template((assets / "page.html").read_text("utf-8")).substitute(
        title=joined(f"{summary.study} · fieldtune report"),
        css=(assets / "report.css").read_text("utf-8"),
        js=(assets / "report.js").read_text("utf-8"),
        plotly=get_plotlyjs(),
        figures=f"{{{data}}}".replace("<", "\\u003c"),
        body=_body(summary, drawn),
    )


def _json(views: list[View]) -> str:
    return ",".join(
        "{" + ",".join(f'"{name}":{fig.to_json()}' for name, fig in view.by_theme.items()) + "}"
        for view in views
    )


def _body(summary: Summary, drawn: dict[str, list[View]]) -> Markup:
    sections = {
        "deploy": ("What to deploy", _deploy(summary)),
        "front": ("The front", _front(summary, drawn)),
        "trials": ("All trained trials", _figure(summary, drawn, "parallel")),
        "progress": ("Progress", _figure(summary, drawn, "progress")),
        "limits": ("What the limits ruled out", _limits(summary, drawn)),
        "reported": (
            f"Predicted against {'simulated' if summary.simulated else 'reported'}",
            reported_table(summary),
        ),
        "notes": ("What the figures mean", tag("div", notes(summary), class_="panel")),
    }
    shown = {id_: (title, content) for id_, (title, content) in sections.items() if content}
    links = (tag("a", title, href=f"#{id_}") for id_, (title, _) in shown.items())
    return joined(
        _header(summary, tag("nav", *links, aria_label="Sections")),
        tag(
            "main",
            tag("noscript", tag("p", "The pictures need JavaScript; the tables do not.")),
            *(
                tag("section", tag("h2", title), content, id=id_)
                for id_, (title, content) in shown.items()
            ),
        ),
        tag("footer", f"Written by fieldtune. Seed {summary.seed}."),
    )


def _header(summary: Summary, nav: Markup) -> Markup:
    trained = summary.trials - summary.failed
    tiles = [
        (len(summary.front), "on the front"),
        (trained, "trials trained"),
        *([(summary.stopped, "of them stopped at a rung")] if summary.stopped else []),
        (summary.infeasible, "ruled out by limits"),
        (summary.failed, "failed"),
    ]
    facts = {
        "Objectives": [
            (goal.label, "higher is better" if goal.maximised else "lower is better")
            for goal in objectives(summary)
        ],
        "Tuned": [(name, tried(summary, name)) for name in parameters(summary)],
        "Phases": [(phase, counted(count, "trial")) for phase, count in phases(summary)],
        "Took": spent(summary),
        "Budget": [(used, "used") for used in budgets(summary)],
        "Fleet": [(device, clients_of(n)) for device, n in summary.devices.items()],
    }
    return tag(
        "header",
        tag(
            "div",
            tag("div", "fieldtune report", class_="eyebrow"),
            tag("h1", summary.study),
            tag(
                "ul",
                *(tag("li", tag("b", str(count)), tag("span", what)) for count, what in tiles),
                class_="tiles",
            ),
            tag("dl", *(_fact(name, rows) for name, rows in facts.items() if rows), class_="facts"),
            nav,
        ),
    )


def _fact(name: str, rows: list[tuple[str, str]]) -> Markup:
    chips = (tag("span", f"{what} ", tag("small", detail), class_="chip") for what, detail in rows)
    return joined(tag("dt", name), tag("dd", *chips))


def _deploy(summary: Summary) -> Markup:
    if not summary.front:
        return tag("div", tag("p", why_empty(summary)), class_="panel empty")
    return joined(tag("p", in_one_line(summary), class_="lead"), deployment(summary))


def _front(summary: Summary, drawn: dict[str, list[View]]) -> Markup:
    if "front" not in drawn:
        return Markup()
    table = front_table(summary) if summary.front else Markup()
    return joined(_figure(summary, drawn, "front"), table)


def _limits(summary: Summary, drawn: dict[str, list[View]]) -> Markup:
    if "limits" not in drawn:
        return Markup()
    return tag(
        "div",
        _figure(summary, drawn, "limits"),
        _figure(summary, drawn, "overshoot"),
        class_="pair",
    )


def _figure(summary: Summary, drawn: dict[str, list[View]], name: str) -> Markup:
    if name not in drawn:
        return Markup()
    views = drawn[name]
    choice = Markup()
    if len(views) > 1:
        options = (tag("option", view.name, value=str(i)) for i, view in enumerate(views))
        choice = tag(
            "div",
            tag("label", "Show", for_=f"choose-{name}"),
            tag("select", *options, id=f"choose-{name}", data_picture=name),
            class_="tools",
        )
    caption = "best" if name == "front" and len(summary.objectives) == 1 else name
    # Each axis of parallel coordinates needs room for its labels; a phone scrolls sideways.
    axes = len(parameters(summary)) + len(summary.objectives)
    least = f"--least:{86 * axes}px" if name == "parallel" else None
    plot = tag("div", id=f"plot-{name}", class_="plot wide", style=least)
    return tag(
        "figure",
        choice,
        tag("div", plot, class_="scroll"),
        tag("figcaption", _CAPTIONS[caption]),
        class_="panel",
    )
