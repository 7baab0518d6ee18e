"""What a report says, worked out of a summary before anything is written or drawn."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import get_args

from fieldtune.profiles.common.estimate import Estimate
from fieldtune.server.costs.budget import Account
from fieldtune.server.outcomes.decision import promised
from fieldtune.server.report.format import (
    DisplayUnit,
    budget_used,
    change,
    counted,
    display_unit,
    figure,
    label,
    listed,
    of_limit,
    setting,
)
from fieldtune.server.results.schema import Attempt, Point, Summary
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.objectives import Objective
from fieldtune.server.study.space import Parameter
from fieldtune.server.study.tuner_options import Phase


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


def objectives(summary: Summary) -> list[Objective]:
    """The study's objectives in the study's order; the metric is labelled by its own name."""
    own = summary.metric.rpartition(":")[2]  # of a function, without its module
    labels = {"metric": f"Metric ({own})"}
    if summary.metric != "accuracy":
        labels["error"] = f"Error (1 - {own})"
    return [replace(each, label=labels.get(each.name, each.label)) for each in summary.objectives]


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
        return f"Trial {next(iter(chosen))} is the choice for every device type of this fleet."
    each = [f"trial {trial} for {listed(devices)}" for trial, devices in chosen.items()]
    return f"{'; '.join(each)}.".replace("trial", "Trial", 1) if each else ""


def costs_of(point: Point) -> list[str]:
    """Names of the costs that some device type has a figure of."""
    return list(dict.fromkeys(name for seen in point.devices.values() for name in seen.costs))


def timed_on(summary: Summary) -> list[str]:
    """The device types whose clients timed a file of a recommended point."""
    return sorted(
        {
            device
            for point in summary.deployable
            if point.trial in recommended_for(summary)
            for file in point.variants.values()
            for device in file.inference_ms
        }
    )


def how_learned(summary: Summary) -> str:
    """How the learned measures are known."""
    return "simulated" if summary.simulated else "measured"


def how_known(summary: Summary, objective: Objective) -> str:
    """How an objective's figures are known: learned ones as reported, costs as predicted."""
    return summary.known_by.get(objective.name) or (
        how_learned(summary) if objective.learned else "predicted"
    )


def believed(summary: Summary) -> list[tuple[str, Point]]:
    """The recommended points and the defaults, each with a title."""
    chosen = [
        (f"trial {trial}, for {listed(devices)}", front_point(summary, trial))
        for trial, devices in recommended_for(summary).items()
    ]
    defaults = summary.defaults
    beside = defaults is not None and defaults.trial not in recommended_for(summary)
    return [*chosen, *([("the study's defaults", defaults)] if defaults and beside else [])]


def promises(summary: Summary) -> list[tuple[str, str, list[str]]]:
    """For each device type and objective: the gain over the defaults, its noise, what counts.

    Gains are written as the change of the value; of a share to be maximised, of what it lacks to 1.
    """
    return [
        (
            device,
            goal.label,
            [
                percent_of(gain.log),
                f"± {100 * math.expm1(gain.noise):.0f} %",
                "may be none" if gain.within_noise else percent_of(gain.counted),
            ],
        )
        for device, chosen in summary.recommended.items()
        if summary.defaults is None or chosen.trial != summary.defaults.trial
        for goal in objectives(summary)
        if (gain := chosen.gains.get(goal.name))
    ]


def percent_of(log_gain: float) -> str:
    """A log gain as the change of the value: 0.69 is ``−50 %``."""
    return change(math.exp(-log_gain), 1.0)


def more_trials(summary: Summary) -> str:
    """A sentence on what further trials are expected to bring; empty where it is not known."""
    if summary.outlook is None or not summary.front:
        return ""
    more = summary.outlook.more
    if not more:
        return "No further trial is expected to add 1 % to the front's hypervolume: it is settled."
    together = 100 * (math.prod(1 + gain for gain in more) - 1)
    return (
        f"The next trial is expected to add {100 * more[0]:.0f} % to the front's hypervolume, "
        f"the next {len(more)} together {together:.0f} %."
        if len(more) > 1
        else f"One more trial is expected to add {100 * more[0]:.0f} % to the front's hypervolume, "
        "and none after it 1 %."
    )


def failures(summary: Summary) -> list[tuple[str, int]]:
    """Reasons for which trials failed, the most frequent first."""
    return Counter(
        attempt.reason or "no reason given"
        for attempt in summary.attempts
        if attempt.state == "failed"
    ).most_common()


def front_point(summary: Summary, trial: int) -> Point:
    """A trial of the front, or the defaults."""
    return summary.point(trial)


def recommended_for(summary: Summary) -> dict[int, list[str]]:
    """Trial -> the device types that it is recommended for."""
    found: dict[int, list[str]] = {}
    for device, recommendation in summary.recommended.items():
        found.setdefault(recommendation.trial, []).append(device)
    return found


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


def completed(summary: Summary) -> list[Attempt]:
    """Attempts that were trained to their end, within the limits or not."""
    return [attempt for attempt in summary.attempts if attempt.state == "completed"]


def within_limits(attempt: Attempt) -> bool:
    """Whether no constraint is missed."""
    return all(value <= 0 for value in attempt.constraints.values())


def ruled_out_by(summary: Summary) -> list[tuple[str, int, int]]:
    """Limit, configurations ruled out by it most of all, configurations that miss it at all.

    The hardest limit comes first. Coverage is named only where no single limit is missed.
    """
    first: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    for attempt in summary.attempts:
        if attempt.state == "infeasible":
            over = {name for name, value in attempt.constraints.items() if value > 0}
            first[attempt.reason or "coverage"] += 1
            missed.update({*(over - {"coverage"}), attempt.reason or "coverage"})
    return sorted(
        ((name, first[name], missed[name]) for name in missed),
        key=lambda row: (-row[1], -row[2], row[0]),
    )


def counts(summary: Summary) -> str:
    """How many trials were trained, stopped, ruled out and failed, in one line."""
    stopped = f", {summary.stopped} of them stopped at a rung" if summary.stopped else ""
    return (
        f"{counted(summary.trials - summary.failed, 'trial')} trained{stopped}, "
        f"{summary.infeasible} ruled out by limits, {summary.failed} failed"
    )


def spent(summary: Summary) -> list[tuple[str, str]]:
    """What the study took of each device type: busy time, joules, bytes."""
    return [
        (
            device,
            f"{figure('busy_s', each.device_s)}, "
            + (f"{figure('energy_j', each.energy_j)}, " if each.energy_j is not None else "")
            + f"{figure('sent_bytes', each.sent_bytes)} sent",
        )
        for device, each in summary.spent.items()
    ]


def budgets(summary: Summary) -> list[str]:
    """How much of each budget is used, the number of trials aside."""
    return [
        budget_used(Account(each.budget, each.used, each.of))
        for each in summary.budget
        if each.budget != "trials"
    ]


def phases(summary: Summary) -> list[tuple[str, int]]:
    """Trials sent to devices in each phase, in the order of the phases."""
    counted_by = Counter(
        attempt.phase
        for attempt in summary.attempts
        if attempt.state != "infeasible" or attempt.rounds
    )
    return [(phase, counted_by[phase]) for phase in get_args(Phase) if counted_by[phase]]


def why_empty(summary: Summary) -> str:
    """One sentence on what left the front without a point."""
    if not summary.attempts:
        return "No trial has ended yet: the front is empty."
    limits = [
        f"{label(name).lower()} ({first})" for name, first, _ in ruled_out_by(summary) if first
    ]
    over = sum(not within_limits(attempt) for attempt in completed(summary))
    failures = Counter(
        a.reason or "no reason given" for a in summary.attempts if a.state == "failed"
    )
    causes = []
    if limits:
        out = [attempt for attempt in summary.attempts if attempt.state == "infeasible"]
        trained = sum(attempt.rounds > 0 for attempt in out)
        verb, later = "was" if len(out) == 1 else "were", f", {trained} of these only once trained"
        causes.append(
            f"{len(out)} {verb} ruled out by the limits on {listed(limits)}"
            + (later if trained else "")
        )
    if over:
        causes.append(f"{over} went over a limit once trained")
    if failures:
        reasons = [f"{reason} ({count})" for reason, count in failures.most_common(3)]
        causes.append(f"{sum(failures.values())} failed: {listed(reasons)}")
    tried_ones = counted(len(summary.attempts), "configuration")
    return f"The front is empty: of {tried_ones} tried, {'; '.join(causes) or 'none was trained'}."


def nothing_fits(summary: Summary, device: str) -> str:
    """Which limits of a device keep every point of the front from it."""
    slacks = [point.devices[device].slack for point in summary.front if device in point.devices]
    missed = {name for slack in slacks for name, value in slack.items() if value > 0}
    nearest = [
        f"{label(name).lower()} ({of_limit(min(s[name] for s in slacks if name in s))} of the cap)"
        for name in sorted(missed)
    ]
    because = f": at best {listed(nearest)}" if nearest else ""
    return f"no point of the front fits this device{because}"


def spread(points: Sequence[Point], name: str) -> bool:
    """Whether a hyperparameter takes more than one value among the points."""
    return len({repr(point.configuration.get(name)) for point in points}) > 1
