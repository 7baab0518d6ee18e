"""The picture of the front: two objectives as axes, a third as colour."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from itertools import combinations
from typing import Any

import plotly.graph_objects as go

from fieldtune.profiles.common.estimate import Estimate
from fieldtune.server.report.format import Scale, number, scale
from fieldtune.server.report.hover import attempt_text, point_line, point_text
from fieldtune.server.report.projection import TRIAL, edge, scaled
from fieldtune.server.report.theme import Theme, axis, layout
from fieldtune.server.report.view import (
    completed,
    objectives,
    recommended_for,
    within_limits,
)
from fieldtune.server.results.schema import Summary
from fieldtune.server.study.objectives import Objective

Draw = Callable[[Theme], go.Figure]
DECADES = 20.0
"""A ratio of largest to smallest value from which on a scale is logarithmic."""


def front_views(summary: Summary) -> list[tuple[str, Draw]]:
    """A view for each pair of objectives, the study's first two first; what it shows, and how.

    The first objective of a pair is the vertical axis. With one objective the horizontal axis is
    the trial's number.
    """
    if not completed(summary):
        return []
    goals = objectives(summary)
    if len(goals) == 1:
        return [("", lambda theme: front_figure(summary, TRIAL, goals[0], None, theme))]
    views = []
    for y, x in combinations(goals, 2):
        colour = next((goal for goal in goals if goal not in (x, y)), None)
        name = f"{y.label} against {x.label.lower()}"
        views.append((name, _view(summary, x, y, colour)))
    return views


def _view(summary: Summary, x: Objective, y: Objective, colour: Objective | None) -> Draw:
    return lambda theme: front_figure(summary, x, y, colour, theme)


def front_figure(
    summary: Summary, x: Objective, y: Objective, colour: Objective | None, theme: Theme
) -> go.Figure:
    """One view of the front, with the dominated trials, the defaults and what is recommended."""
    points = [*summary.front, *([summary.defaults] if summary.defaults else [])]
    attempts = [a for a in completed(summary) if a.trial not in {p.trial for p in summary.front}]
    known = [attempt.objectives for attempt in completed(summary)]
    units = {
        goal.name: scale(goal.name, [objective[goal.name] for objective in known])
        for goal in (x, y, *([colour] if colour else []))
        if goal is not TRIAL
    }
    units[TRIAL.name] = Scale(1.0, "")

    def across(goal: Objective, trial: int, values: dict[str, float]) -> float:
        return float(trial) if goal is TRIAL else values[goal.name] * units[goal.name].factor

    traces: list[go.Scatter] = []
    for inside, name, symbol in ((True, "dominated", "circle"), (False, "over a limit", "x-open")):
        shown = [attempt for attempt in attempts if within_limits(attempt) is inside]
        if shown:
            traces.append(
                go.Scatter(
                    x=[across(x, a.trial, a.objectives) for a in shown],
                    y=[across(y, a.trial, a.objectives) for a in shown],
                    mode="markers",
                    name=name,
                    marker={"symbol": symbol, "size": 7, "color": theme.muted, "opacity": 0.6},
                    text=[attempt_text(a) for a in shown],
                    hovertemplate="%{text}<extra></extra>",
                )
            )
    if summary.defaults:
        values = {name: i.value for name, i in summary.defaults.objectives.items()}
        traces.append(
            go.Scatter(
                x=[across(x, summary.defaults.trial, values)],
                y=[across(y, summary.defaults.trial, values)],
                mode="markers",
                name="the study's defaults",
                marker={
                    "symbol": "diamond-open",
                    "size": 15,
                    "color": theme.ink,
                    "line": {"width": 2, "color": theme.ink},
                },
                text=["<b>The study's defaults</b><br>" + point_text(summary.defaults)],
                hovertemplate="%{text}<extra></extra>",
            )
        )
    if summary.front:  # last, so that it lies on top
        traces += _front_traces(summary, x, y, colour, units, theme)
    values_of = {
        goal: [across(goal, p.trial, {n: i.value for n, i in p.objectives.items()}) for p in points]
        + [across(goal, a.trial, a.objectives) for a in attempts]
        for goal in (x, y)
    }
    return go.Figure(
        traces,
        layout(
            theme,
            height=560,
            hovermode="closest",
            showlegend=True,
            xaxis=_axis(theme, x, units, values_of[x]),
            yaxis=_axis(theme, y, units, values_of[y]),
            margin={"l": 8, "r": 20, "t": 64 if colour else 16, "b": 96},
        ),
    )


def _front_traces(
    summary: Summary,
    x: Objective,
    y: Objective,
    colour: Objective | None,
    units: dict[str, Scale],
    theme: Theme,
) -> list[go.Scatter]:
    front = summary.front
    at = {goal: [scaled(point, goal, units) for point in front] for goal in (x, y)}
    corners = edge(x, y, front, units)
    chosen = recommended_for(summary)
    marker: dict[str, Any] = {
        "size": 12,
        "color": theme.front,
        "line": {"width": 1.5, "color": theme.surface},
    }
    if colour:
        title = f"{escape(colour.label)}{f' ({u})' if (u := units[colour.name].unit) else ''}"
        values, ticks = _colours([scaled(point, colour, units).value for point in front])
        marker |= {
            "color": values,
            "colorscale": theme.scale,
            "showscale": True,
            "line": {"width": 1, "color": theme.ink},
            "colorbar": {
                "orientation": "h",
                "x": 0.5,
                "y": 1.0,
                "yanchor": "bottom",
                "thickness": 8,
                "len": 0.6,
                "outlinewidth": 0,
                "title": {"text": title, "side": "top", "font": {"size": 12}},
                "tickfont": {"size": 11},
                **ticks,
            },
        }
    ringed = [(i, point) for i, point in enumerate(front) if point.trial in chosen]
    return [
        go.Scatter(
            x=[px for px, _ in corners],
            y=[py for _, py in corners],
            mode="lines",
            line={"shape": "hv", "width": 2, "color": theme.front},
            name="best trade-offs in this view",
            hoverinfo="skip",
        ),
        go.Scatter(
            x=[at[x][i].value for i, _ in ringed],
            y=[at[y][i].value for i, _ in ringed],
            mode="markers+text",
            name="recommended",
            text=[f"<b>{point.trial}</b>" for _, point in ringed],
            textposition="top right",
            cliponaxis=False,
            textfont={"size": 14, "color": theme.chosen},
            marker={
                "symbol": "circle-open",
                "size": 24,
                "color": theme.chosen,
                "line": {"width": 3, "color": theme.chosen},
            },
            hoverinfo="skip",
            visible=bool(ringed),
        ),
        go.Scatter(
            x=[interval.value for interval in at[x]],
            y=[interval.value for interval in at[y]],
            error_x=_bars(at[x], theme),
            error_y=_bars(at[y], theme),
            mode="markers",
            name="front",
            marker=marker,
            text=[point_text(point, chosen.get(point.trial, [])) for point in front],
            # The page fills in which other points are in the same place.
            customdata=[[point_line(point), ""] for point in front],
            hovertemplate="%{text}%{customdata[1]}<extra></extra>",
        ),
    ]


def _colours(values: list[float]) -> tuple[list[float], dict[str, Any]]:
    """Values to colour by and the ticks of their bar; logarithms where they span decades."""
    low, high = min(values), max(values)
    if not (low > 0 and high / low > DECADES):
        return values, {}
    marks = [low * (high / low) ** (k / 4) for k in range(5)]
    ticks = {
        "tickvals": [math.log10(mark) for mark in marks],
        "ticktext": [number(mark) for mark in marks],
    }
    return [math.log10(value) for value in values], ticks


def _bars(intervals: Sequence[Estimate], theme: Theme) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [interval.high - interval.value for interval in intervals],
        "arrayminus": [interval.value - interval.low for interval in intervals],
        "color": theme.muted,
        "thickness": 1,
        "width": 0,
    }


def _axis(
    theme: Theme, goal: Objective, units: dict[str, Scale], values: Sequence[float]
) -> dict[str, Any]:
    if goal is TRIAL:
        return axis(theme, "trial")
    unit = f" ({units[goal.name].unit})" if units[goal.name].unit else ""
    better = "higher is better" if goal.maximised else "lower is better"
    title = f"{escape(goal.label)}{unit}, {better}"
    decades = min(values) > 0 and max(values) / min(values) > DECADES
    # Fitted to the points: the interval of a cost may be ten times as wide as all points together.
    low, high = min(values), max(values)
    if decades:
        low, high = math.log10(low), math.log10(high)
    pad = 0.07 * (high - low) or 0.1 * abs(high) or 1.0
    extent = {"range": [low - pad, high + pad]}
    return axis(theme, title, **extent, **({"type": "log", "dtick": "D2"} if decades else {}))
