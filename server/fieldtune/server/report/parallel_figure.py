"""Parallel coordinates: every trained trial as a line over hyperparameters and objectives.

Drawn as ordinary lines: plotly's own parallel coordinates need WebGL and code made at run time,
which neither a locked-down browser nor this report's content security policy grants.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from fieldtune.server.report.axes import Axis, all_axes
from fieldtune.server.report.format import scale
from fieldtune.server.report.hover import attempt_text
from fieldtune.server.report.theme import Theme, layout
from fieldtune.server.report.view import completed, objectives
from fieldtune.server.results.schema import Attempt, Summary
from fieldtune.server.study.objectives import Objective

SHADES = 12


def parallel_figure(summary: Summary, theme: Theme) -> go.Figure:
    """The picture. Colour is the first objective; trials of the front are drawn thick, on top.

    Every line carries its trial's number as ``customdata``, by which the page highlights the line
    that is pointed at.
    """
    attempts, goals = completed(summary), objectives(summary)
    axes = all_axes(summary)
    on_front = {point.trial for point in summary.front}
    first = [attempt.objectives[goals[0].name] for attempt in attempts]
    # By rank: a few bad trials would leave all good ones the same colour.
    ranked = sorted(set(first))
    shades = [round((SHADES - 1) * ranked.index(v) / max(len(ranked) - 1, 1)) for v in first]
    colours = sample_colorscale([list(stop) for stop in theme.scale], SHADES)
    traces = [
        _lines(rows, axes, attempts, colours[shade], thick=thick)
        for thick in (False, True)
        for shade in range(SHADES)
        if (
            rows := [
                i
                for i, attempt in enumerate(attempts)
                if shades[i] == shade and (attempt.trial in on_front) is thick
            ]
        )
    ]
    traces.append(_highlight(theme))
    traces.append(_colour_bar(goals[0], ranked, theme))
    return go.Figure(traces, _layout(axes, theme))


def _lines(
    rows: Sequence[int],
    axes: Sequence[Axis],
    attempts: Sequence[Attempt],
    colour: str,
    *,
    thick: bool,
) -> go.Scatter:
    """Lines of one colour, as one trace with gaps: hundreds of trials stay a few traces."""
    x: list[float | None] = []
    y: list[float | None] = []
    text: list[str | None] = []
    trials: list[int | None] = []
    for row in rows:
        x += [*range(len(axes)), None]
        y += [*(axis.heights[row] for axis in axes), None]
        text += [attempt_text(attempts[row])] * len(axes) + [None]
        trials += [attempts[row].trial] * len(axes) + [None]
    return go.Scatter(
        x=x,
        y=y,
        text=text,
        customdata=trials,
        mode="lines+markers",
        line={"color": colour, "width": 3 if thick else 1.2},
        marker={"size": 7 if thick else 4, "color": colour},
        opacity=1.0 if thick else 0.45,
        hovertemplate="%{text}<extra></extra>",
        showlegend=False,
    )


def _highlight(theme: Theme) -> go.Scatter:
    """Empty until the page fills it with the line that is pointed at."""
    return go.Scatter(
        x=[],
        y=[],
        mode="lines",
        line={"color": theme.chosen, "width": 4},
        hoverinfo="skip",
        showlegend=False,
        name="highlight",
    )


def _colour_bar(goal: Objective, ranked: Sequence[float], theme: Theme) -> go.Scatter:
    unit = scale(goal.name, ranked)
    places = [k / 4 for k in range(5)] if len(ranked) > 1 else [0.0]
    shown = [ranked[round(place * (len(ranked) - 1))] for place in places]
    return go.Scatter(
        x=[None],
        y=[None],
        mode="markers",
        showlegend=False,
        hoverinfo="skip",
        marker={
            "color": [0.0],
            "cmin": 0.0,
            "cmax": 1.0,
            "colorscale": theme.scale,
            "showscale": True,
            "colorbar": {
                "title": {"text": f"{escape(goal.label)}, by rank", "side": "right"},
                "tickvals": places,
                "ticktext": [unit.with_unit(value) for value in shown],
                "thickness": 10,
                "outlinewidth": 0,
                "tickfont": {"size": 11},
            },
        },
    )


def _layout(axes: Sequence[Axis], theme: Theme) -> dict[str, Any]:
    ticks = [
        {
            "x": position,
            "y": height,
            "text": text,
            "showarrow": False,
            "xanchor": "right",
            "xshift": -7,
            "bgcolor": theme.surface,
            "opacity": 0.9,
            "borderpad": 1,
            "font": {"size": 11, "color": theme.ink},
        }
        for position, axis in enumerate(axes)
        for height, text in axis.ticks
    ]
    rails = [
        {
            "type": "line",
            "x0": position,
            "x1": position,
            "y0": 0,
            "y1": 1,
            "line": {"color": theme.muted, "width": 1.5},
            "layer": "below",
        }
        for position in range(len(axes))
    ]
    return layout(
        theme,
        height=460,
        hovermode="closest",
        dragmode=False,
        annotations=ticks,
        shapes=rails,
        xaxis={
            "side": "top",
            "tickvals": list(range(len(axes))),
            "ticktext": [axis.title for axis in axes],
            "tickangle": 0,
            "tickfont": {"size": 12},
            "range": [-0.55, len(axes) - 0.85],
            "showgrid": False,
            "zeroline": False,
            "fixedrange": True,
        },
        yaxis={"visible": False, "range": [-0.04, 1.04], "fixedrange": True},
        margin={"l": 8, "r": 8, "t": 70, "b": 12},
    )
