"""What to deploy: a card for each device type."""

from __future__ import annotations

import shlex

from fieldtune.server.report.format import (
    change,
    clients_of,
    figure,
    label,
    listed,
    of_limit,
    scale,
    setting,
)
from fieldtune.server.report.markup import Markup, joined, tag
from fieldtune.server.report.view import Seen, front_point, nothing_fits, recommended_for, seen_by
from fieldtune.server.results.schema import Point, Summary


def deployment(summary: Summary) -> Markup:
    """The cards of all device types."""
    return tag(
        "div",
        *(_card(summary, device, clients) for device, clients in summary.devices.items()),
        class_="cards",
    )


def _card(summary: Summary, device: str, clients: int) -> Markup:
    recommendation = summary.recommended.get(device)
    trial = f"trial {recommendation.trial}" if recommendation else "nothing fits"
    top = tag("div", tag("h3", device), tag("span", trial, class_="trial"), class_="top")
    if recommendation is None:
        reason = tag("p", f"{nothing_fits(summary, device)}.", class_="why")
        return tag("article", tag("div", top, _sub(clients, clients)), reason, class_="card")
    point = front_point(summary, recommendation.trial)
    seen = point.devices[device]
    return tag(
        "article",
        tag("div", top, _sub(clients, seen.fitting)),
        _goals(seen_by(summary, device)),
        _limits(seen.slack),
        tag(
            "div",
            *(
                tag("span", f"{n} {setting(v)}", class_="chip")
                for n, v in point.configuration.items()
            ),
            class_="chips",
        ),
        tag("p", f"{recommendation.why}.", class_="why"),
        _worst_off(point),
        _command(device),
        class_="card",
    )


def _worst_off(point: Point) -> Markup:
    """What the mean error hides, where it is not an objective anyway."""
    worst = point.measures.get("worst_error")
    if worst is None or "worst_error" in point.objectives:
        return Markup()
    said = f"On the tenth of the clients that are worst off, its error is {figure('error', worst)}."
    return tag("p", said, class_="why")


def _sub(clients: int, fitting: int) -> Markup:
    text = clients_of(clients)
    return tag("p", text if fitting == clients else f"{text}, fits {fitting} of them", class_="sub")


def _goals(goals: list[Seen]) -> Markup:
    compared = any(goal.default is not None for goal in goals)
    headings = ["", "on this device", *(["defaults", "change"] if compared else [])]
    rows = []
    for goal in goals:
        name, interval = goal.objective.name, goal.figure
        # Side by side, a figure and its default are in one unit.
        unit = scale(
            name, [interval.value, interval.value if goal.default is None else goal.default]
        )
        ends = unit.bounds(interval)
        cells = [
            tag("th", goal.objective.label, scope="row"),
            tag("td", tag("b", unit.with_unit(interval.value)), tag("small", ends) if ends else ""),
        ]
        if goal.default is not None:
            cells += [
                tag("td", unit.with_unit(goal.default)),
                tag("td", _delta(goal, goal.default)),
            ]
        rows.append(tag("tr", *cells))
    return tag(
        "table",
        tag("thead", tag("tr", *(tag("th", heading, scope="col") for heading in headings))),
        tag("tbody", *rows),
        class_="goals",
    )


def _delta(goal: Seen, default: float) -> Markup:
    if goal.better is None:
        return tag("span", "same", class_="delta same")
    word = "better" if goal.better else "worse"
    by = change(goal.figure.value, default)
    mark = "✓" if goal.better else "✗"
    return tag(
        "span", f"{mark} {by or word}", class_=f"delta {word}", title=f"{word} than the defaults"
    )


def _limits(slack: dict[str, float]) -> Markup:
    """A bar a limit: how much of the cap the most heavily loaded client of the type uses."""
    if not slack:
        return Markup()
    cells = []
    for name, value in sorted(slack.items(), key=lambda item: -item[1]):
        used = min(max(100 * (1 + value), 0.0), 100.0)
        cells += [
            tag("span", label(name)),
            tag("i", class_="over" if value > 0 else None, style=f"--used:{used:.1f}%"),
            tag("output", of_limit(value)),
        ]
    return tag(
        "div",
        tag("p", "Used of each limit, on its most heavily loaded client", class_="caption"),
        tag("div", *cells, class_="limits"),
    )


def _command(device: str) -> Markup:
    code = joined(
        "fieldtune export ",
        tag("span", "DIR", class_="folder"),
        " ",
        tag("span", f"--device {shlex.quote(device)}"),
        " ",
        tag("span", "--out model.tflite"),
    )
    return tag("div", tag("code", code), tag("button", "Copy", type="button"), class_="command")


def in_one_line(summary: Summary) -> str:
    """Which point goes where."""
    chosen = recommended_for(summary)
    if len(chosen) == 1 and len(summary.recommended) == len(summary.devices) > 1:
        return f"Trial {next(iter(chosen))} is the choice for every device type of this fleet."
    each = [f"trial {trial} for {listed(devices)}" for trial, devices in chosen.items()]
    return f"{'; '.join(each)}.".replace("trial", "Trial", 1) if each else ""
