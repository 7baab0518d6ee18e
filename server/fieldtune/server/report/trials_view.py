"""What a report says of all trials together: how they ended, what they took, what is missing."""

from __future__ import annotations

import math
from collections import Counter
from statistics import median
from typing import get_args

from fieldtune.server.costs.budget import Account
from fieldtune.server.report.format import budget_used, counted, figure, listed, phrase
from fieldtune.server.results.schema import Attempt, Summary
from fieldtune.server.study.tuner_options import Phase

_LOST = {
    "artefact_missing": "the device did not have the model",
    "bad_artefact": "the device could not load the model",
    "bad_data": "the device's data did not fit the model",
    "deadline": "it took longer than limits.round_s",
    "diverged": "the trained weights were not finite",
    "dropout": "the device stopped in the middle of its work",
    "error": "something else went wrong on the device",
    "implausible": "the report could not be true",
    "late": "it came after the end of its round, and was not waited for",
    "lost_upload": "the work was done, and its result did not arrive",
    "no_reply": "the device did not answer",
    "out_of_memory": "the device's memory did not suffice",
    "sits_out": "the device was not asked, after reports that were refused",
    "surplus": "enough others had come before",
}
"""Kind of failure -> what it is."""


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


def failures(summary: Summary) -> list[tuple[str, int]]:
    """Reasons for which trials failed, the most frequent first."""
    return Counter(
        attempt.reason or "no reason given"
        for attempt in summary.attempts
        if attempt.state == "failed"
    ).most_common()


def lost(summary: Summary) -> list[tuple[str, str, int, float]]:
    """Requests to clients without a result that was used, by kind, the most frequent first.

    Kind, what it is, how often, and the count as a share of that of the most frequent.
    """
    ordered = sorted(summary.failures.items(), key=lambda each: (-each[1], each[0]))
    return [(kind, _LOST.get(kind, ""), count, count / ordered[0][1]) for kind, count in ordered]


def counts(summary: Summary) -> str:
    """How many trials were trained, stopped, ruled out and failed, in one line."""
    stopped = f", {summary.stopped} of them stopped at a rung" if summary.stopped else ""
    return (
        f"{counted(summary.trials - summary.failed, 'trial')} trained{stopped}, "
        f"{summary.infeasible} ruled out by limits, {summary.failed} failed"
    )


def phases(summary: Summary) -> list[tuple[str, int]]:
    """Trials sent to devices in each phase, in the order of the phases."""
    counted_by = Counter(
        attempt.phase
        for attempt in summary.attempts
        if attempt.state != "infeasible" or attempt.rounds
    )
    return [(phase, counted_by[phase]) for phase in get_args(Phase) if counted_by[phase]]


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


def times(summary: Summary) -> list[tuple[str, str]]:
    """How long trainings took, and the devices' time that nothing came of."""
    known = [attempt.timing for attempt in summary.attempts if attempt.timing]
    if not known:
        return []
    taken = [timing["time_s"] for timing in known]
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(summary.failures.items()))
    rows = [
        (
            figure("time_s", median(taken)),
            f"for a training in the median, {figure('time_s', max(taken))} at most "
            + ("(simulated)" if summary.simulated else "(measured)"),
        )
    ]
    for name, what in (
        ("idle_s", "in which devices that were asked waited or were away"),
        ("wasted_s", "of devices' work that was not used" + (f" ({kinds})" if kinds else "")),
    ):
        if total := sum(timing[name] for timing in known):
            rows.append((figure(name, total), what))
    if kinds and not total:
        rows.append((str(sum(summary.failures.values())), f"requests without a result ({kinds})"))
    return rows


def budgets(summary: Summary) -> list[str]:
    """How much of each budget is used, the number of trials aside."""
    return [
        budget_used(Account(each.budget, each.used, each.of))
        for each in summary.budget
        if each.budget != "trials"
    ]


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


def why_empty(summary: Summary) -> str:
    """One sentence on what left the front without a point."""
    if not summary.attempts:
        return "No trial has ended yet: the front is empty."
    limits = [f"{phrase(name)} ({first})" for name, first, _ in ruled_out_by(summary) if first]
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
