"""``report.html``: one file that opens offline, for the person who chooses what to deploy."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fieldtune.server.report import format, limit_rows, space_view, trials_view, view
from fieldtune.server.report.notes import notes
from fieldtune.server.report.page_data import as_json, page_data
from fieldtune.server.report.reported import headings, lead, rows
from fieldtune.server.report.run_info import RunInfo, progress, task_facts
from fieldtune.server.results import device_rows
from fieldtune.server.results.schema import Summary

_STYLES = ("base", "parts", "plots", "print")
_SCRIPTS = (
    "dom", "format", "scale", "plot", "tradeoff", "pins", "deploy", "rerank", "priorities",
    "files", "clients", "slices", "parallel", "attainment", "learning", "table", "live", "main",
)  # fmt: skip


def render_html(summary: Summary, run: RunInfo | None = None, *, live: str = "") -> str:
    """The report as one HTML file.

    It loads nothing: script, styles and data are in it, and its content security policy allows no
    other script and keeps the browser from fetching anything. The same arguments give the same
    text.

    Args:
        summary: of the study's outcomes.
        run: what is known of the run beside them.
        live: the version of the results, if the page is served by ``fieldtune report --live``: it
            asks its server for the version, and loads itself anew if there is another.
    """
    run = run or RunInfo()
    data = page_data(summary, run.study)
    goals, parameters = view.objectives(summary), space_view.parameters(summary)
    units = {
        name: format.DisplayUnit(each["factor"], each["unit"])
        for name, each in data["measures"].items()
    }
    columns = [f"{g.label} ({u})" if (u := units[g.name].unit) else g.label for g in goals]
    limits = limit_rows.limit_rows(summary, run.study)
    return render(
        "page.html",
        scripts=_SCRIPTS,
        live=bool(live),
        data=data | {"version": live},
        format=format,
        view=view,
        trials_view=trials_view,
        quote=shlex.quote,
        summary=summary,
        run=run,
        progress=progress(summary, run),
        goals=goals,
        parameters=parameters,
        units=units,
        kinds={True: data["kinds"]["learned"], False: data["kinds"]["cost"]},
        tiles=_tiles(summary),
        task=task_facts(summary, run),
        facts=_facts(summary, run),
        front_headings=["Trial", *columns, "Trained", *parameters],
        front_kinds={c: view.how_known(summary, g) for c, g in zip(columns, goals, strict=True)},
        digits=view.front_digits(summary, units),
        learned_labels=[goal.label for goal in goals if goal.learned],
        learned_kinds={g.label: view.how_known(summary, g) for g in goals if g.learned},
        believed=(believed := view.believed(summary)),
        has_losses=any(point.losses for _, point in believed),
        data_decision=data["decision"],
        promises=view.promises(summary),
        filed=view.filed(summary),
        timed=view.timed_on(summary),
        untried=space_view.untried(summary, run.study),
        importance_labels=[g.label for g in goals if g.name in summary.importance],
        importance_kinds={g.label: view.how_known(summary, g) for g in goals},
        importance_rows=_importance(summary),
        has_progress=bool(data["attainment"]),
        more_trials=trials_view.more_trials(summary),
        limit_rows=limits,
        sufficed=dict.fromkeys(limit_rows.SUFFICED, "predicted"),
        failed_rows=trials_view.failures(summary),
        lost_rows=trials_view.lost(summary),
        device_headings=device_rows.HEADINGS,
        device_rows=device_rows.rows(summary),
        device_lead=device_rows.lead(summary),
        reported_headings=headings(summary),
        reported_rows=rows(summary),
        reported_lead=lead(summary),
        notes=notes(summary),
        sections=_sections(summary, data, limits),
    )


def render(
    template: str, *, scripts: Sequence[str], data: dict[str, Any], live: bool = False, **names: Any
) -> str:
    """A template with the styles, these scripts and the data in it."""
    js = "\n" + _script(tuple(scripts))
    digest = base64.b64encode(hashlib.sha256(js.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        f"img-src data:{'; connect-src ' + chr(39) + 'self' + chr(39) if live else ''}"
    )
    page = _environment().get_template(template)
    return page.render(
        policy=policy,
        css=Markup("\n".join(_asset(f"css/{name}.css") for name in _STYLES)),
        js=Markup(js),
        data=Markup(as_json(data)),
        **names,
    )


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("fieldtune.server.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


@cache
def _script(names: tuple[str, ...]) -> str:
    """The files of the script as one function, so that its names are its own."""
    parts = "".join(_asset(f"js/{name}.js") for name in names)
    return f'"use strict";\n(() => {{\n{parts}}})();\n'


def _asset(name: str) -> str:
    source, _, _ = _environment().loader.get_source(_environment(), name)  # type: ignore[union-attr]
    return source


def _tiles(summary: Summary) -> list[tuple[int, str]]:
    trained = summary.trials - summary.failed
    return [
        (len(summary.front), "on the front"),
        (trained, f"{'trial' if trained == 1 else 'trials'} trained"),
        *([(summary.stopped, "of them stopped at a rung")] if summary.stopped else []),
        (summary.infeasible, "ruled out by limits"),
        (summary.failed, "failed"),
    ]


def _importance(summary: Summary) -> list[tuple[str, list[float]]]:
    """Hyperparameters with their share for each objective, the most important one first."""
    goals = [goal.name for goal in summary.objectives if goal.name in summary.importance]
    names = dict.fromkeys(name for goal in goals for name in summary.importance[goal])
    rows = [(name, [summary.importance[goal].get(name, 0.0) for goal in goals]) for name in names]
    return sorted(rows, key=lambda row: -max(row[1]))


def _facts(summary: Summary, run: RunInfo) -> dict[str, list[tuple[str, str]]]:
    return {
        "Objectives": [
            (goal.label, "higher is better" if goal.maximised else "lower is better")
            for goal in view.objectives(summary)
        ],
        "Searched": space_view.searched(summary, run.study),
        "Phases": [
            (phase, format.counted(count, "trial")) for phase, count in trials_view.phases(summary)
        ],
        "Took": trials_view.spent(summary),
        "Time": trials_view.times(summary),
        "Budget": [(used, "used") for used in trials_view.budgets(summary)],
        "Versions": list(run.versions),
        "Fleet": [(device, format.clients_of(n)) for device, n in summary.devices.items()],
    }


def _sections(
    summary: Summary, data: dict[str, Any], limits: Sequence[object]
) -> list[tuple[str, str]]:
    """Identifier and title of each section that there is something for."""
    trained = trials_view.completed(summary)
    ranked = any(chosen.standings for chosen in summary.recommended.values())
    chosen = [p for p in summary.deployable if p.trial in view.recommended_for(summary)]
    clients = any(f.client_errors for point in chosen for f in point.variants.values())
    return [
        (name, title)
        for name, title, shown in (
            ("deploy", "Which file on which devices", True),
            ("choices", "What else you could take", summary.recommended),
            ("priorities", "Your priorities", ranked),
            ("tradeoff", "The trade-off", trained),
            ("clients", "Who is worse off", clients),
            ("files", "The files", view.filed(summary)),
            ("evidence", "Why believe it", summary.front or data["points"]),
            ("parameters", "What mattered", trained),
            ("finished", "Is it finished", trained or limits or summary.failed or summary.failures),
            ("notes", "What the figures mean", True),
        )
        if shown
    ]
