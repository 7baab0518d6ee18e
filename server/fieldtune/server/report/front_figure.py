"""The picture of the front: two objectives as axes, a third as colour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from itertools import combinations
from typing import Any

import moocore
import numpy as np
import plotly.graph_objects as go

from fieldtune.server.front import Interval, Point, Summary
from fieldtune.server.report.format import Scale, bounds, figure, scale, setting
from fieldtune.server.report.theme import Theme, axis, layout
from fieldtune.server.report.view import (
    Objective,
    completed,
    objectives,
    recommended_for,
    within_limits,
)

Draw = Callable[[Theme], go.Figure]
_TRIAL = Objective(name="trial", label="Trial", maximised=False)


def front_views(summary: Summary) -> list[tuple[str, Draw]]:
    """A view for each pair of objectives, the study's first two first; what it shows, and how.

    The first objective of a pair is the vertical axis. With one objective the horizontal axis is
    the trial's number.
    """
    if not completed(summary):
        return []
    goals = objectives(summary)
    if len(goals) == 1:
        return [("", lambda theme: front_figure(summary, _TRIAL, goals[0], None, theme))]
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
        if goal is not _TRIAL
    }
    units[_TRIAL.name] = Scale(1.0, "")

    def across(goal: Objective, trial: int, values: dict[str, float]) -> float:
        return float(trial) if goal is _TRIAL else values[goal.name] * units[goal.name].factor

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
                    marker={"symbol": symbol, "size": 7, "color": theme.muted, "opacity": 0.45},
                    text=[_hover_values(a.trial, a.objectives) for a in shown],
                    hovertemplate="%{text}<extra></extra>",
                )
            )
    if summary.front:
        traces += _front_traces(summary, x, y, colour, units, theme)
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
                text=["<b>The study's defaults</b><br>" + _hover(summary.defaults)],
                hovertemplate="%{text}<extra></extra>",
            )
        )
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
    at = {goal: [_scaled(point, goal, units) for point in front] for goal in (x, y)}
    edge = _edge(x, y, front, units)
    chosen = recommended_for(summary)
    marker: dict[str, Any] = {
        "size": 12,
        "color": theme.front,
        "line": {"width": 1.5, "color": theme.surface},
    }
    if colour:
        title = f"{escape(colour.label)}{f' ({u})' if (u := units[colour.name].unit) else ''}"
        marker |= {
            "color": [_scaled(point, colour, units).value for point in front],
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
            },
        }
    ringed = [(i, point) for i, point in enumerate(front) if point.trial in chosen]
    return [
        go.Scatter(
            x=[px for px, _ in edge],
            y=[py for _, py in edge],
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
            text=[_hover(point, chosen.get(point.trial, [])) for point in front],
            hovertemplate="%{text}<extra></extra>",
        ),
    ]


def _edge(
    x: Objective, y: Objective, front: Sequence[Point], units: dict[str, Scale]
) -> list[tuple[float, float]]:
    """Points of the front that no other beats in this view, from the best on the horizontal axis.

    Drawn horizontally first, the line bounds what they dominate, whichever way the axes go.
    """
    if x is _TRIAL:
        return []
    pairs = [(_scaled(p, x, units).value, _scaled(p, y, units).value) for p in front]
    signed = np.array(pairs) * np.array([x.sign, y.sign])
    keep = np.flatnonzero(moocore.is_nondominated(signed, keep_weakly=False))
    return [pairs[i] for i in sorted(keep, key=lambda i: signed[i, 0])]


def _scaled(point: Point, goal: Objective, units: dict[str, Scale]) -> Interval:
    if goal is _TRIAL:
        return Interval(value=point.trial, low=point.trial, high=point.trial)
    interval, factor = point.objectives[goal.name], units[goal.name].factor
    return Interval(
        value=interval.value * factor, low=interval.low * factor, high=interval.high * factor
    )


def _bars(intervals: Sequence[Interval], theme: Theme) -> dict[str, Any]:
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
    if goal is _TRIAL:
        return axis(theme, "trial")
    unit = f" ({units[goal.name].unit})" if units[goal.name].unit else ""
    better = "higher is better" if goal.maximised else "lower is better"
    title = f"{escape(goal.label)}{unit}, {better}"
    decades = min(values) > 0 and max(values) / min(values) > 20
    ticks = {"type": "log", "dtick": "D2", "minor": {"showgrid": False}} if decades else {}
    return axis(theme, title, **ticks)


def _hover(point: Point, devices: Sequence[str] = ()) -> str:
    lines = [f"<b>Trial {point.trial}</b>"]
    if devices:
        lines.append(f"recommended for {escape(', '.join(devices))}")
    for name, interval in point.objectives.items():
        ends = bounds(name, interval)
        lines.append(
            f"{escape(name)}: {figure(name, interval.value)}{f' ({ends})' if ends else ''}"
        )
    lines += [f"{escape(n)} = {escape(setting(v))}" for n, v in point.configuration.items()]
    return "<br>".join(lines)


def _hover_values(trial: int, values: dict[str, float]) -> str:
    lines = [f"{escape(name)}: {figure(name, value)}" for name, value in values.items()]
    return "<br>".join([f"<b>Trial {trial}</b>", *lines])
