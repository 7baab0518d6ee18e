"""A trial's figures by name: columns of ``trials.csv`` and attributes in ``study.db``."""

from __future__ import annotations

import math

from fieldtune.server.outcomes.trial import Completed, Failed, Outcome
from fieldtune.server.study.objectives import COST_MEASURES

_OBJECTIVE, _CONSTRAINT = "objective:", "constraint:"


def figures(outcome: Outcome) -> dict[str, float]:
    """The figures of a trial by name.

    ``objective:<name>`` for a completed trial; ``constraint:<name>`` (used / cap - 1) and
    ``<device type>:<measure>`` for all but failed ones. Left out are costs that a profile does not
    predict and objectives that are not finite.
    """
    if isinstance(outcome, Failed):
        return {}
    found: dict[str, float] = {}
    if isinstance(outcome, Completed):
        for name, value in outcome.objectives.items():
            if math.isfinite(value):
                found[_OBJECTIVE + name] = float(value)
    for name, value in outcome.forecast.constraints.items():
        found[_CONSTRAINT + name] = float(value)
    for device, forecast in outcome.forecast.devices.items():
        for name in COST_MEASURES:
            cost = getattr(forecast.cost, name)
            if cost is not None:
                found[f"{device}:{name}"] = float(cost.value)
    return found


def is_figure(name: str) -> bool:
    """Whether a name is one of those that :func:`figures` gives."""
    device, _, measure = name.rpartition(":")
    return name.startswith((_OBJECTIVE, _CONSTRAINT)) or bool(device and measure in COST_MEASURES)
