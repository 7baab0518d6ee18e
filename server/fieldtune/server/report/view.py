"""What a report says of points and recommendations, before anything is written or drawn."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import permutations

from fieldtune.profiles.common.estimate import Estimate
from fieldtune.server.outcomes.decision import is_linear, promised
from fieldtune.server.report.format import (
    DisplayUnit,
    change,
    display_unit,
    label,
    listed,
    of_limit,
    phrase,
    whole,
)
from fieldtune.server.results.schema import Point, Summary
from fieldtune.server.study.objectives import COST_MEASURES, Objective


@dataclass(frozen=True)
class ComparedObjective:
    """One objective of a point as a device type sees it, beside the defaults there."""

    objective: Objective
    figure: Estimate
    default: float | None
    better: bool | None
    """None where it cannot be told from the default, or there is none."""
    promised: float | None = None
    """The value that is promised, of what is learned; None in results of earlier versions."""

    @property
    def unit(self) -> DisplayUnit:
        """One unit for the figure and its default, so that they compare at a glance."""
        now = self.figure.value
        return display_unit(
            self.objective.name, [now, now if self.default is None else self.default]
        )

    @property
    def more(self) -> int:
        """Digits more than usual that figure and default need to differ, where one is better."""
        if self.default is None or self.better is None:
            return 0
        return self.unit.digits_between(self.figure.value, self.default)


def objectives(summary: Summary) -> list[Objective]:
    """The study's objectives in the study's order; the metric is labelled by its own name."""
    return [replace(each, label=label_of(summary, each.name)) for each in summary.objectives]


def label_of(summary: Summary, name: str) -> str:
    """The label of a measure, that of the metric by its own name."""
    own = summary.metric.rpartition(":")[2]  # of a function, without its module
    labels = {"metric": f"Metric ({own})"}
    if summary.metric != "accuracy":
        labels["error"] = f"Error (1 - {own})"
    return labels.get(name) or label(name)


def front_rows(summary: Summary) -> list[tuple[str, Point]]:
    """The points of the front and the defaults below them, each with its title."""
    defaults = summary.defaults
    front = [
        (str(point.trial), point)
        for point in summary.front
        if defaults is None or point.trial != defaults.trial
    ]
    return [*front, *([("defaults", defaults)] if defaults else [])]


def front_digits(summary: Summary, units: Mapping[str, DisplayUnit]) -> dict[tuple[int, str], int]:
    """(Trial, objective) -> digits more than usual in the table of the front; 0 where not told.

    A point of the front whose advantage over another one is lost in rounding would seem to be
    dominated by it.
    """
    found: defaultdict[tuple[int, str], int] = defaultdict(int)
    for one, other in permutations(summary.front, 2):
        better = {}
        for goal in summary.objectives:
            mine, theirs = (point.objectives[goal.name].value for point in (one, other))
            if goal.sign * mine < goal.sign * theirs:
                better[goal.name] = units[goal.name].digits_between(mine, theirs)
        if better and all(better.values()):
            name = min(better, key=better.__getitem__)
            for point in (one, other):
                found[point.trial, name] = max(found[point.trial, name], better[name])
    return found


def how_known_together(summary: Summary) -> str:
    """How a figure of all objectives together is known: ``simulated, predicted``."""
    return ", ".join(dict.fromkeys(how_known(summary, each) for each in summary.objectives))


def on_device(point: Point, device: str, name: str) -> Estimate:
    """A measure of a point on a device: its own cost, or what the whole fleet learned."""
    return point.devices[device].costs.get(name) or point.objectives[name]


def compared_objectives(summary: Summary, device: str) -> list[ComparedObjective]:
    """Every objective of the point recommended for a device."""
    recommendation = summary.recommended[device]
    point = front_point(summary, recommendation.trial)
    against = {entry.objective: entry for entry in recommendation.against_defaults}
    seen = []
    for objective in objectives(summary):
        entry = against.get(objective.name)
        gain = recommendation.gains.get(objective.name)
        level = entry is None or entry.value == entry.default or (gain and gain.within_noise)
        seen.append(
            ComparedObjective(
                objective=objective,
                figure=on_device(point, device, objective.name),
                default=None if entry is None else entry.default,
                better=None if level or entry is None else entry.better,
                promised=promised(objective, entry.default, gain.counted)
                if gain and entry and objective.learned
                else None,
            )
        )
    return seen


def in_one_line(summary: Summary) -> str:
    """Which point goes where."""
    chosen = recommended_for(summary)
    if len(chosen) == 1 and len(summary.recommended) == len(summary.devices) > 1:
        (trial,) = chosen
        text = f"{named(summary, trial)} is the choice for every device type of this fleet"
    else:
        each = [f"{named(summary, n)} for {listed(devices)}" for n, devices in chosen.items()]
        text = "; ".join(each)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def named(summary: Summary, trial: int) -> str:
    """A trial in a sentence."""
    is_own = summary.defaults is not None and summary.defaults.trial == trial
    return f"trial {trial} (the defaults)" if is_own else f"trial {trial}"


def costs_of(point: Point) -> list[str]:
    """Names of the costs that some device type has a figure of."""
    return list(dict.fromkeys(name for seen in point.devices.values() for name in seen.costs))


def filed(summary: Summary) -> list[Point]:
    """The points whose files were measured, the recommended ones first."""
    chosen = recommended_for(summary)
    points = [point for point in summary.deployable if point.variants]
    return sorted(points, key=lambda point: point.trial not in chosen)


def timed_on(summary: Summary) -> list[str]:
    """The device types whose clients timed a file."""
    files = [file for point in filed(summary) for file in point.variants.values()]
    return sorted({device for file in files for device in file.inference_ms})


def how_learned(summary: Summary) -> str:
    """How the learned measures are known."""
    return "simulated" if summary.simulated else "measured"


def how_known(summary: Summary, objective: Objective) -> str:
    """How an objective's figures are known: learned ones as reported, costs as predicted."""
    return summary.known_by.get(objective.name) or (
        how_learned(summary) if objective.learned else "predicted"
    )


def whose(objective: Objective) -> str:
    """Of what an objective's figures are, in a table of device types."""
    return "this type" if objective.name in COST_MEASURES else "fleet"


def believed(summary: Summary) -> list[tuple[str, Point]]:
    """The recommended points and the defaults, each with a title."""
    chosen = [
        (f"trial {trial}, for {listed(devices)}", front_point(summary, trial))
        for trial, devices in recommended_for(summary).items()
    ]
    defaults = summary.defaults
    beside = defaults is not None and defaults.trial not in recommended_for(summary)
    return [*chosen, *([("the study's defaults", defaults)] if defaults and beside else [])]


def promises(summary: Summary) -> list[tuple[str, str, str, list[str]]]:
    """For each device type and objective: how it is known, the gain over the defaults, what counts.

    Gains are written as the change of the value; of a share to be maximised, as that of what it
    lacks to 1, and said so.
    """
    return [
        (
            device,
            f"{goal.label}, gap to 100 %"
            if goal.maximised and goal.unit == "share"
            else goal.label,
            how_known(summary, goal),
            [
                _percent_of(goal, gain.log),
                f"± {whole(100 * (gain.noise if is_linear(goal) else math.expm1(gain.noise)))}",
                ("may be none" if gain.log else "none")
                if gain.within_noise
                else _percent_of(goal, gain.counted),
            ],
        )
        for device, chosen in summary.recommended.items()
        if summary.defaults is None or chosen.trial != summary.defaults.trial
        for goal in objectives(summary)
        if (gain := chosen.gains.get(goal.name))
    ]


def _percent_of(objective: Objective, log_gain: float) -> str:
    """A log gain as the change of the value: 0.69 is ``−50 %``."""
    return change(1 + log_gain if is_linear(objective) else math.exp(-log_gain), 1.0)


def front_point(summary: Summary, trial: int) -> Point:
    """A trial of the front, or the defaults."""
    return summary.point(trial)


def recommended_for(summary: Summary) -> dict[int, list[str]]:
    """Trial -> the device types that it is recommended for."""
    found: dict[int, list[str]] = {}
    for device, recommendation in summary.recommended.items():
        found.setdefault(recommendation.trial, []).append(device)
    return found


def nothing_fits(summary: Summary, device: str) -> str:
    """Which limits of a device keep every point of the front from it."""
    slacks = [point.devices[device].slack for point in summary.front if device in point.devices]
    missed = {name for slack in slacks for name, value in slack.items() if value > 0}
    nearest = [
        f"{phrase(name)} ({of_limit(min(s[name] for s in slacks if name in s))} of the cap)"
        for name in sorted(missed)
    ]
    because = f": at best {listed(nearest)}" if nearest else ""
    return f"no point of the front fits this device{because}"
