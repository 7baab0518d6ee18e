"""What a picture says about the point under the pointer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from fieldtune.server.report.format import bounds, figure, label, setting
from fieldtune.server.results.schema import Attempt, Point
from fieldtune.server.study.space import Value


def point_text(point: Point, devices: Sequence[str] = ()) -> str:
    """A point of the front: where it is recommended, objectives with intervals, configuration."""
    lines = [f"<b>Trial {point.trial}</b>"]
    if devices:
        lines.append(f"recommended for {escape(', '.join(devices))}")
    for name, interval in point.objectives.items():
        ends = bounds(name, interval)
        value = figure(name, interval.value)
        lines.append(f"{escape(label(name))}: {value}{f' ({ends})' if ends else ''}")
    return "<br>".join([*lines, *_settings(point.configuration)])


def point_line(point: Point) -> str:
    """A point of the front in one line: its objectives."""
    values = [
        f"{escape(label(n).lower())} {figure(n, i.value)}" for n, i in point.objectives.items()
    ]
    return f"<b>Trial {point.trial}</b>: {', '.join(values)}"


def attempt_text(attempt: Attempt) -> str:
    """A trained trial: objectives and configuration."""
    lines = [f"<b>Trial {attempt.trial}</b>"]
    lines += [f"{escape(label(n))}: {figure(n, v)}" for n, v in attempt.objectives.items()]
    return "<br>".join([*lines, *_settings(attempt.configuration)])


def _settings(configuration: Mapping[str, Value]) -> list[str]:
    return [f"{escape(name)} = {escape(setting(v))}" for name, v in configuration.items()]
