"""Plotly figures of a run, for notebooks; the page draws its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fieldtune.server.report import view
from fieldtune.server.report.format import setting
from fieldtune.server.report.space_view import parameters
from fieldtune.server.report.trials_view import completed
from fieldtune.server.results.schema import Summary

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def figures(summary: Summary) -> dict[str, Figure]:
    """``front``: the first two objectives; ``history``: the first one by trial; ``parallel``."""
    return {
        "front": _front(summary),
        "history": _history(summary),
        "parallel": _parallel(summary),
    }


def _front(summary: Summary) -> Figure:
    """The points with their intervals; of a single objective, by trial."""
    import plotly.graph_objects as go

    goals = view.objectives(summary)[:2]
    points = summary.deployable
    axes: list[dict[str, Any]] = []
    for goal in goals:
        values = [point.objectives[goal.name] for point in points]
        axes.append(
            {
                "values": [each.value for each in values],
                "error": {
                    "array": [each.high - each.value for each in values],
                    "arrayminus": [each.value - each.low for each in values],
                    "thickness": 1,
                },
            }
        )
    if len(axes) == 1:
        axes.append({"values": [point.trial for point in points], "error": None})
    chosen = view.recommended_for(summary)
    figure = go.Figure(
        go.Scatter(
            x=axes[1]["values"],
            y=axes[0]["values"],
            error_x=axes[1]["error"],
            error_y=axes[0]["error"],
            mode="markers",
            marker={"size": [14 if point.trial in chosen else 8 for point in points]},
            text=[f"trial {point.trial}" for point in points],
        )
    )
    names = [goal.label for goal in goals]
    figure.update_layout(
        title="Front and defaults; large: recommended",
        xaxis_title=names[1] if len(names) > 1 else "trial",
        yaxis_title=names[0],
    )
    return figure


def _history(summary: Summary) -> Figure:
    """The first objective of each completed trial."""
    import plotly.graph_objects as go

    goal = view.objectives(summary)[0]
    done = completed(summary)
    figure = go.Figure(
        go.Scatter(
            x=[attempt.trial for attempt in done],
            y=[attempt.objectives[goal.name] for attempt in done],
            mode="markers",
            text=[attempt.phase for attempt in done],
        )
    )
    figure.update_layout(
        title="Completed trials, as observed", xaxis_title="trial", yaxis_title=goal.label
    )
    return figure


def _parallel(summary: Summary) -> Figure:
    """Hyperparameters and objectives of completed trials as parallel coordinates."""
    import plotly.graph_objects as go

    done, dimensions = completed(summary), list[dict[str, Any]]()
    for name in parameters(summary):
        values = [attempt.configuration.get(name) for attempt in done]
        if all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in values):
            dimensions.append({"label": name, "values": values})
        else:
            shown = [setting(each) if each is not None else "" for each in values]
            kinds = sorted(set(shown))
            places = [kinds.index(each) for each in shown]
            ticks = {"tickvals": list(range(len(kinds))), "ticktext": kinds}
            dimensions.append({"label": name, "values": places, **ticks})
    goals = view.objectives(summary)
    dimensions += [
        {"label": goal.label, "values": [attempt.objectives[goal.name] for attempt in done]}
        for goal in goals
    ]
    colours = [attempt.objectives[goals[0].name] for attempt in done]
    return go.Figure(
        go.Parcoords(
            dimensions=dimensions,
            line={"color": colours, "colorscale": "Viridis", "showscale": True},
        )
    )
