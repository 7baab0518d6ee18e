"""The front as a table that can be sorted, each point with its costs on every device type."""

from __future__ import annotations

from fieldtune.server.report.format import (
    Scale,
    bounds,
    figure,
    label,
    quality,
    scale,
    setting,
)
from fieldtune.server.report.markup import Markup, breakable, tag
from fieldtune.server.report.view import objectives, parameters, recommended_for
from fieldtune.server.results.schema import Interval, Point, Summary
from fieldtune.server.study.space import Value


def front_table(summary: Summary) -> Markup:
    """A ``<tbody>`` for each point, the defaults last."""
    points = [*summary.front, *([summary.defaults] if summary.defaults else [])]
    goals = objectives(summary)
    units = {g.name: scale(g.name, [p.objectives[g.name].value for p in points]) for g in goals}
    headings = [
        "Trial",
        *(f"{g.label} ({u})" if (u := units[g.name].unit) else g.label for g in goals),
        *parameters(summary),
    ]
    chosen = recommended_for(summary)
    bodies = [
        _body(point, units, parameters(summary), chosen.get(point.trial, []))
        for point in summary.front
    ]
    if summary.defaults:
        bodies.append(_body(summary.defaults, units, parameters(summary), [], is_default=True))
    head = tag(
        "tr",
        *(
            tag("th", tag("button", breakable(heading), type="button"), scope="col")
            for heading in headings
        ),
    )
    table = tag("table", tag("thead", head), *bodies, class_="front")
    return tag("div", tag("div", table, class_="scroll"), class_="panel")


def _body(
    point: Point,
    units: dict[str, Scale],
    names: list[str],
    devices: list[str],
    *,
    is_default: bool = False,
) -> Markup:
    title = f"{point.trial}" if not is_default else "defaults"
    mark = tag("span", "★ ", title=f"recommended for {', '.join(devices)}") if devices else ""
    cells = [tag("th", mark, title, scope="row", data_key=str(point.trial))]
    for name, unit in units.items():
        interval = point.objectives[name]
        ends = unit.bounds(interval)
        cells.append(
            tag(
                "td",
                unit.write(interval.value),
                tag("small", ends) if ends else "",
                data_key=f"{interval.value!r}",
            )
        )
    cells += [_setting(point.configuration.get(name)) for name in names]
    details = tag(
        "details",
        tag("summary", "costs", title=f"What trial {point.trial} costs on each device type"),
        tag("div", _costs(point), class_="scroll"),
        tag("div", _variants(point), class_="scroll") if point.variants else "",
    )
    return tag(
        "tbody",
        tag("tr", *cells),
        tag("tr", tag("td", details, colspan=str(len(cells))), class_="more"),
        class_="defaults" if is_default else "chosen" if devices else None,
    )


def _setting(value: Value | None) -> Markup:
    if value is None:
        return tag("td", "", data_key="")
    key = str(value) if isinstance(value, (str, bool)) else f"{value!r}"
    return tag("td", setting(value), data_key=key)


def _costs(point: Point) -> Markup:
    measures = list(dict.fromkeys(name for d in point.devices.values() for name in d.costs))
    head = tag("tr", tag("th", ""), *(tag("th", label(name), scope="col") for name in measures))
    rows = [
        tag(
            "tr",
            tag("th", device, scope="row"),
            *(_cost(name, seen.costs[name]) for name in measures if name in seen.costs),
        )
        for device, seen in point.devices.items()
    ]
    return tag("table", tag("thead", head), tag("tbody", *rows), class_="costs")


def _cost(name: str, cost: Interval | None) -> Markup:
    if cost is None:
        return tag("td", "not told")
    ends = bounds(name, cost)
    return tag("td", figure(name, cost.value), tag("small", ends) if ends else "")


def _variants(point: Point) -> Markup:
    measure = quality(point.measures)
    timed = sorted({device for file in point.variants.values() for device in file.inference_ms})
    names = ("file", "size", measure, *(f"inference, {device}" for device in timed))
    head = tag("tr", *(tag("th", name, scope="col") for name in names))
    rows = [
        tag(
            "tr",
            tag("th", f"{name}.tflite", scope="row"),
            tag("td", figure("file_bytes", file.bytes)),
            tag("td", figure(measure, file.measures[measure])),
            *(
                tag(
                    "td",
                    figure("inference_ms", ms) if (ms := file.inference_ms.get(device)) else "",
                )
                for device in timed
            ),
        )
        for name, file in point.variants.items()
    ]
    return tag("table", tag("thead", head), tag("tbody", *rows), class_="costs")
