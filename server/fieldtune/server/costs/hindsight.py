"""Trials seen with what is known now, rather than when they were asked for.

The optimizer is told costs as the profiles predict them, so that trials compare whenever they were
made. Whoever reads the outcome wants the best that is known: costs corrected by all that the fleet
reported, and limits judged once more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from fieldtune.profiles.costmodel.calibration import Corrections, corrected
from fieldtune.profiles.costmodel.cost import Cost
from fieldtune.profiles.costmodel.limits import DeviceLimits, default_limits, slack
from fieldtune.profiles.device.load import load_profile
from fieldtune.server.costs.calibration import corrections
from fieldtune.server.costs.forecast import over_fleet
from fieldtune.server.outcomes.trial import Completed, DeviceForecast, Outcome
from fieldtune.server.study.config import COST_MEASURES, StudyConfig


class Hindsight:
    """What a study's outcomes teach of its device types, applied to those outcomes.

    Args:
        study: its limits and objectives.
        outcomes: all told so far.
    """

    def __init__(self, study: StudyConfig, outcomes: Sequence[Outcome]) -> None:
        self._study = study
        self.corrections: Mapping[str, Corrections] = corrections(outcomes)
        self._limits: dict[str, DeviceLimits] = {
            name: study.limits.for_device(name, default_limits(load_profile(name)))
            for name in self.corrections
        }

    def of(self, outcome: Completed) -> Completed:
        """The outcome with corrected costs, objectives, slack, and who it fits."""
        devices = {
            name: self._seen(name, device) for name, device in outcome.forecast.devices.items()
        }
        objectives = dict(outcome.objectives)
        for name in objectives.keys() & set(COST_MEASURES):
            objectives[name] = over_fleet(
                name,
                [
                    (getattr(devices[each].cost, name).value, device.fitting)
                    for each, device in outcome.forecast.devices.items()
                    if device.fitting
                ],
            )
        return replace(
            outcome,
            objectives=objectives,
            forecast=replace(
                outcome.forecast, devices=devices, constraints=self._constraints(outcome, devices)
            ),
        )

    def _seen(self, name: str, device: DeviceForecast) -> DeviceForecast:
        if name not in self.corrections:
            return device
        then = corrected(device.cost, device.corrections)
        now = corrected(device.cost, self.corrections[name])
        gaps = {
            limit: (1.0 + gap) * _value(now, limit) / _value(then, limit) - 1.0
            for limit, gap in device.slack.items()
        }
        # Judged on the type's mean client: that one fitted, and no longer does.
        limits = self._limits[name]
        lost = _fits(then, limits) and not _fits(now, limits)
        return DeviceForecast(
            clients=device.clients,
            fitting=0 if lost else device.fitting,
            cost=now,
            slack=gaps,
            corrections=self.corrections[name],
        )

    def _constraints(
        self, outcome: Completed, devices: Mapping[str, DeviceForecast]
    ) -> Mapping[str, float]:
        """As they were, unless devices that took part would be left out now."""
        before = outcome.forecast.constraints
        lost = [
            name
            for name, device in devices.items()
            if device.fitting < outcome.forecast.devices[name].fitting
        ]
        fleet = sum(device.clients for device in devices.values())
        needed = math.ceil(self._study.limits.coverage * fleet - 1e-9)
        if not lost or sum(device.fitting for device in devices.values()) >= needed:
            return before
        over = [gap for name in lost for gap in devices[name].slack.values()]
        return {**before, "coverage": max(*over, before.get("coverage", -1.0))}


def _value(cost: Cost, name: str) -> float:
    return float(getattr(cost, name).value)


def _fits(cost: Cost, limits: DeviceLimits) -> bool:
    return max(slack(cost, limits).values(), default=-1.0) <= 0
