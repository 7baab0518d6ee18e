"""What a report says of the searched space."""

from __future__ import annotations

from collections.abc import Sequence

from fieldtune.server.report.format import setting
from fieldtune.server.results.schema import Point, Summary
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.space import Parameter


def parameters(summary: Summary) -> list[str]:
    """Names of the hyperparameters, in the study's order."""
    names: dict[str, None] = {}
    for attempt in summary.attempts:
        names.update(dict.fromkeys(attempt.configuration))
    for point in [*summary.front, *([summary.defaults] if summary.defaults else [])]:
        names.update(dict.fromkeys(point.configuration))
    return list(names)


def searched(summary: Summary, study: StudyConfig | None) -> list[tuple[str, str]]:
    """Each hyperparameter and its searched space; without a study file, the tried values."""
    space = study.full_space.parameters() if study else {}
    return [
        (name, _of_space(space[name]) if name in space else _tried(summary, name))
        for name in parameters(summary)
    ]


def _of_space(parameter: Parameter) -> str:
    if parameter.choices is not None:
        return ", ".join(map(setting, parameter.choices))
    low, high = parameter.bounds()
    return f"{setting(low)} to {setting(high)}{', logarithmic' if parameter.log else ''}"


def untried(summary: Summary, study: StudyConfig | None) -> list[str]:
    """A sentence for each choice of the space that no trial that was trained has taken."""
    space = study.full_space.parameters() if study else {}
    trained = [a for a in summary.attempts if a.state in ("completed", "stopped")]
    sentences = []
    for name, parameter in space.items():
        for choice in parameter.choices or ():
            taken = sum(repr(a.configuration.get(name)) == repr(choice) for a in trained)
            if trained and not taken:
                outside = sum(
                    a.state == "infeasible" and repr(a.configuration.get(name)) == repr(choice)
                    for a in summary.attempts
                )
                because = f"; limits ruled it out {outside} times" if outside else ""
                sentences.append(
                    f"{name} = {setting(choice)}: never trained (0 of {len(trained)}){because}"
                )
    return sentences


def _tried(summary: Summary, name: str) -> str:
    """The values of a hyperparameter that were tried: a few by name, many by their ends."""
    values = {
        attempt.configuration[name]: None
        for attempt in summary.attempts
        if name in attempt.configuration
    }
    numbers = sorted(v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool))
    if len(numbers) == len(values) and len(values) > 4:
        return f"{setting(numbers[0])} to {setting(numbers[-1])}"
    shown = numbers if len(numbers) == len(values) else sorted(values, key=str)
    return ", ".join(setting(value) for value in shown)


def spread(points: Sequence[Point], name: str) -> bool:
    """Whether a hyperparameter takes more than one value among the points."""
    return len({repr(point.configuration.get(name)) for point in points}) > 1
