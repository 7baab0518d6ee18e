"""The figures of the page, once: its script draws every picture, table and card from them."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from fieldtune.client.contract.messages import MOST_CONFUSED
from fieldtune.profiles.common.estimate import Estimate
from fieldtune.server.report import format, space_view, trials_view, view
from fieldtune.server.report.history import growth, spendings
from fieldtune.server.results.rerank import caps_of
from fieldtune.server.results.schema import Attempt, Point, Summary
from fieldtune.server.results.stored_choices import DecisionRule
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.objectives import MEASURES
from fieldtune.server.study.space import Parameter, Value

_EXTRA = ("error", "loss", "worst_error", "file_bytes")
"""Measures that the page writes beside objectives and costs."""

_NO_RULE = DecisionRule(weights={}, tolerance=0.01, confidence=0.9)


def page_data(summary: Summary, study: StudyConfig | None) -> dict[str, Any]:
    """What the page's script needs, as JSON values.

    Trials carry what every trial has; points, which are the front and the defaults, also their
    intervals, their costs on each device type, and their files.

    Args:
        summary: of the study's outcomes.
        study: for the searched space and the limits; without it the tried values stand in.
    """
    front = {point.trial for point in summary.front}
    points, defaults = summary.deployable, summary.defaults
    caps = caps_of(study, list(summary.devices))
    costs = list(dict.fromkeys(name for point in points for name in view.costs_of(point)))
    return {
        "study": summary.study,
        "most_confused": MOST_CONFUSED,
        "labels": summary.labels,
        "folder": "DIR",
        "objectives": [objective.name for objective in summary.objectives],
        "measures": _measures(summary, points, costs),
        "costs": costs,
        "kinds": {
            "learned": view.how_learned(summary),
            "cost": "predicted",
            "together": view.how_known_together(summary),
        },
        "parameters": _parameters(summary, study),
        "devices": [
            {
                "name": name,
                "quoted": shlex.quote(name),
                "clients": clients,
                "fleet": format.clients_of(clients),
                "caps": caps.get(name, {}),
                "samples": summary.samples.get(name, []),
            }
            for name, clients in summary.devices.items()
        ],
        "trials": [_trial(attempt) for attempt in summary.attempts],
        "points": [_point(point, front=point.trial in front) for point in points],
        "dominated": [_point(point, front=False) for point in summary.dominated],
        "defaults": defaults.trial if defaults else None,
        "recommended": {
            device: chosen.model_dump(exclude={"against_defaults"})
            for device, chosen in summary.recommended.items()
        },
        "coverage": summary.coverage,
        "decision": (summary.decision or _NO_RULE).model_dump(),
        "nothing_fits": {
            device: view.nothing_fits(summary, device)
            for device in summary.devices
            if summary.front and device not in summary.recommended
        },
        "attainment": _attainment(summary),
        "attainment_by": spendings(summary),
        "random": _random(summary),
    }


def as_json(data: Mapping[str, Any]) -> str:
    """JSON that may stand in a ``<script>`` element: no ``<``, and no number that JSON lacks."""
    text = json.dumps(_finite(data), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return value


def _measures(
    summary: Summary, points: Sequence[Point], costs: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Name -> label, direction, and one unit for the whole page."""
    goals = [objective.name for objective in summary.objectives]
    found = {}
    for name in dict.fromkeys((*goals, *costs, *_EXTRA)):
        values = [p.objectives[name].value for p in points if name in p.objectives] or [
            cost.value for p in points for d in p.devices.values() if (cost := d.costs.get(name))
        ]
        if name == "file_bytes":
            values = [file.bytes for p in points for file in p.variants.values()]
        unit = format.display_unit(name, values)
        known = MEASURES.get(name)
        found[name] = {
            "label": view.label_of(summary, name),
            "unit": unit.unit,
            "factor": unit.factor,
            "steps": format.unit_steps(name),
            "maximised": known is not None and known.maximised,
            "learned": known is not None and known.learned,
            "share": known is not None and known.unit == "share",
            "worst": known is not None and known.worst_of_fleet,
            "known": view.how_known(summary, known) if known else "",
        }
    return found


def _parameters(summary: Summary, study: StudyConfig | None) -> list[dict[str, Any]]:
    searched = study.full_space.parameters() if study else {}
    found = []
    for name in space_view.parameters(summary):
        parameter = searched.get(name)
        values = [a.configuration[name] for a in summary.attempts if name in a.configuration]
        if parameter is None or not all(map(parameter.contains, values)):
            parameter = _tried(values)  # an earlier, wider space, or no study file
        found.append(_range(name, parameter))
    return found


def _range(name: str, parameter: Parameter) -> dict[str, Any]:
    if parameter.choices is not None:
        return {"name": name, "choices": list(parameter.choices)}
    low, high = parameter.bounds()
    whole = parameter.integer
    return {"name": name, "low": low, "high": high, "log": parameter.log, "whole": whole}


def _tried(values: Sequence[Value]) -> Parameter:
    """The space that the tried values span: a range of numbers, or choices."""
    distinct = sorted({repr(v): v for v in values}.values(), key=lambda v: (str(type(v)), v))
    numbers = [v for v in distinct if isinstance(v, (int, float)) and not isinstance(v, bool)]
    if len(numbers) == len(distinct) > 6:
        wide = numbers[0] > 0 and numbers[-1] / numbers[0] > 20
        return Parameter(low=numbers[0], high=numbers[-1], log=wide)
    return Parameter(choices=tuple(distinct))


def _trial(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.trial,
        "state": attempt.state,
        "within": trials_view.within_limits(attempt),
        "configuration": attempt.configuration,
        "objectives": {name: short(value) for name, value in attempt.objectives.items()},
    }


def _point(point: Point, *, front: bool) -> dict[str, Any]:
    return {
        "trial": point.trial,
        "front": front,
        "runs": point.runs,
        "samples": point.test_samples,
        "configuration": point.configuration,
        "objectives": {name: ends_of(each) for name, each in point.objectives.items()},
        "measures": point.measures,
        "losses": point.losses,
        "calls": point.calls,
        "devices": {
            name: {
                "fits": device.fits,
                "fitting": device.fitting,
                "costs": {cost: ends_of(value) for cost, value in device.costs.items() if value},
                "slack": device.slack,
                "needs": {name: [short(x) for x in each] for name, each in device.needs.items()},
                "used": {name: [short(x) for x in each] for name, each in device.used.items()},
            }
            for name, device in point.devices.items()
        },
        "variants": {
            name: file.model_dump(
                include={"bytes", "measures", "inference_ms"}
                | ({"client_errors", "classes"} if name == "fp32" else set())
            )
            for name, file in point.variants.items()
        },
    }


def ends_of(estimate: Estimate) -> list[float]:
    """Value, low and high; the ends of an interval need few digits."""
    return [estimate.value, short(estimate.low), short(estimate.high)]


def short(value: float) -> float:
    """Six digits are enough for what is only drawn."""
    return float(f"{value:.6g}")


def _random(summary: Summary) -> dict[str, list[list[float]]]:
    """What random search was expected to attain, by trials and by what as many trials spend.

    A random trial is taken to spend what those of the study's start did on average.
    """
    if summary.outlook is None:
        return {}
    start = [a for a in summary.attempts if a.phase in ("explore", "")] or summary.attempts
    found = {}
    for name in spendings(summary):
        each = 1.0 if name == "trial" else sum(a.spent.get(name, 0.0) for a in start) / len(start)
        first = -1.0 if name == "trial" else 0.0  # the first trial is number 0
        found[name] = [
            [short(first + n * each), short(share)]
            for n, share in enumerate(summary.outlook.random)
            if n or name != "trial"
        ]
    return found


def _attainment(summary: Summary) -> list[dict[str, Any]]:
    return [
        {
            "trial": step.trial,
            "share": short(step.share),
            "grew": step.grew,
            **{name: short(value) for name, value in step.spent.items()},
        }
        for step in growth(summary)
    ]
