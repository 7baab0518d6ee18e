"""The pictures of the report that show a study as a whole: all trials, progress, limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape

import plotly.graph_objects as go

from fieldtune.server.report.format import label
from fieldtune.server.report.front_figure import front_views
from fieldtune.server.report.history import growth
from fieldtune.server.report.parallel_figure import parallel_figure
from fieldtune.server.report.theme import THEMES, Theme, axis, layout
from fieldtune.server.report.view import completed, ruled_out_by
from fieldtune.server.results.schema import Attempt, Summary

FEW = 8
"""A count up to which an axis has a tick for every one."""


@dataclass(frozen=True)
class View:
    """One way to look at a picture: what to call it, and the figure by theme name."""

    name: str
    by_theme: dict[str, go.Figure]


def pictures(summary: Summary) -> dict[str, list[View]]:
    """Every picture that the summary has something for, by the id of its place in the page."""
    found = {
        "front": [View(name, _themed(draw)) for name, draw in front_views(summary)],
        "parallel": _single(summary, parallel_figure) if len(completed(summary)) > 1 else [],
        "progress": _single(summary, progress) if completed(summary) else [],
        "limits": _single(summary, limits) if summary.infeasible else [],
        "overshoot": _single(summary, overshoot) if summary.infeasible else [],
    }
    return {name: views for name, views in found.items() if views}


def _single(summary: Summary, draw: Callable[[Summary, Theme], go.Figure]) -> list[View]:
    return [View("", _themed(lambda theme: draw(summary, theme)))]


def _themed(draw: Callable[[Theme], go.Figure]) -> dict[str, go.Figure]:
    return {theme.name: draw(theme) for theme in THEMES}


def progress(summary: Summary, theme: Theme) -> go.Figure:
    """Hypervolume of the front after each trial, and the trials that taught nothing."""
    steps = growth(summary)
    grown = [step for step in steps if step.grew]
    line = go.Scatter(
        x=[step.trial for step in steps],
        y=[100 * step.share for step in steps],
        mode="lines",
        line={"shape": "hv", "width": 2.5, "color": theme.front},
        name="hypervolume",
        hovertemplate="after trial %{x}: %{y:.1f} %<extra></extra>",
    )
    points = go.Scatter(
        x=[step.trial for step in grown],
        y=[100 * step.share for step in grown],
        mode="markers",
        marker={"size": 8, "color": theme.front, "line": {"width": 1, "color": theme.surface}},
        name="trial that moved the front",
        hovertemplate="trial %{x} moved the front<extra></extra>",
    )
    top = max(100 * step.share for step in steps) or 1.0
    rugs = [
        _rug(summary, "infeasible", "ruled out", "x-thin-open", theme.muted, -0.05 * top),
        _rug(summary, "stopped", "stopped", "line-ns-open", theme.muted, -0.05 * top),
        _rug(summary, "failed", "failed", "diamond-open", theme.bad, -0.05 * top),
    ]
    return go.Figure(
        [line, points, *(rug for rug in rugs if rug.x)],
        layout(
            theme,
            height=360,
            xaxis=axis(theme, "trial"),
            yaxis=axis(theme, "share dominated (%)", range=[-0.1 * top, 1.08 * top]),
            margin={"l": 8, "r": 16, "t": 16, "b": 64},
        ),
    )


def _rug(
    summary: Summary, state: str, name: str, symbol: str, colour: str, height: float
) -> go.Scatter:
    attempts = [attempt for attempt in summary.attempts if attempt.state == state]
    return go.Scatter(
        x=[attempt.trial for attempt in attempts],
        y=[height] * len(attempts),
        mode="markers",
        marker={
            "symbol": symbol,
            "size": 8,
            "color": colour,
            "line": {"width": 1.5, "color": colour},
        },
        name=name,
        text=[escape(_reason(attempt)) for attempt in attempts],
        hovertemplate=f"trial %{{x}} {name}: %{{text}}<extra></extra>",
    )


def _reason(attempt: Attempt) -> str:
    return label(attempt.reason).lower() if attempt.state == "infeasible" else attempt.reason


def limits(summary: Summary, theme: Theme) -> go.Figure:
    """Configurations that each limit ruled out: as the hardest of them, or beside a harder one."""
    rows = ruled_out_by(summary)[::-1]
    names = [escape(label(name)) for name, _, _ in rows]
    whole = {"dtick": 1} if max(missed for _, _, missed in rows) <= FEW else {"tickformat": "d"}
    bars = [
        ("exceeded most", [first for _, first, _ in rows], theme.front),
        ("exceeded too", [missed - first for _, first, missed in rows], theme.muted),
    ]
    return go.Figure(
        [
            go.Bar(
                x=values,
                y=names,
                orientation="h",
                name=name,
                marker={"color": colour},
                hovertemplate=f"%{{y}}: %{{x}} {name}<extra></extra>",
            )
            for name, values, colour in bars
            if any(values)
        ],
        layout(
            theme,
            height=150 + 44 * len(rows),
            barmode="stack",
            bargap=0.35,
            showlegend=True,
            xaxis=axis(theme, "configurations", rangemode="tozero", **whole),
            yaxis=axis(theme, "", ticks="", showgrid=False, ticksuffix=" "),
            margin={"l": 8, "r": 16, "t": 8, "b": 64},
        ),
    )


def overshoot(summary: Summary, theme: Theme) -> go.Figure:
    """By how much each configuration that was ruled out misses each limit, a cross each."""
    names = [name for name, _, _ in ruled_out_by(summary)][::-1]
    crosses = [
        (attempt.trial, name, 100 * attempt.constraints[name])
        for attempt in summary.attempts
        if attempt.state == "infeasible"
        for name in names
        if attempt.constraints.get(name, 0.0) > 0
    ]
    over = [percent for _, _, percent in crosses]
    wide = bool(over) and max(over) / min(over) > 50
    return go.Figure(
        go.Scatter(
            x=over,
            y=[escape(label(name)) for _, name, _ in crosses],
            mode="markers",
            marker={
                "symbol": "x-thin-open",
                "size": 11,
                "color": theme.bad,
                "line": {"width": 2, "color": theme.bad},
            },
            text=[f"trial {trial}" for trial, _, _ in crosses],
            hovertemplate="%{text}: %{x:.0f} % over the limit on %{y}<extra></extra>",
        ),
        layout(
            theme,
            height=150 + 44 * len(names),
            xaxis=axis(
                theme,
                "over the limit (%)",
                type="log" if wide else "linear",
                rangemode="normal" if wide else "tozero",
            ),
            yaxis=axis(theme, "", ticks="", ticksuffix=" ", categoryorder="array",
                       categoryarray=[escape(label(name)) for name in names],
                       range=[-0.5, len(names) - 0.5]),
            margin={"l": 8, "r": 16, "t": 8, "b": 64},
        ),
    )  # fmt: skip
