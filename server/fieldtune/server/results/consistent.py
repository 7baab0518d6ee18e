"""Whether the parts of a ``pareto.json`` refer to each other, which a damaged file's do not."""

from __future__ import annotations

from collections.abc import Iterator

from fieldtune.server.results.schema import Attempt, Point, Summary


def contradiction(summary: Summary) -> str:
    """The first part that refers to something that is not there, as words; empty without any."""
    return next(_contradictions(summary), "")


def _contradictions(summary: Summary) -> Iterator[str]:
    goals = {objective.name for objective in summary.objectives}
    # The defaults are a part of their own, even where they are on the front.
    own = [summary.defaults] if summary.defaults is not None else []
    points = [*summary.front, *own, *summary.dominated]
    trials = {point.trial for point in summary.deployable}
    behind = {point.trial for point in summary.dominated}
    every: list[Point | Attempt] = [*points, *summary.attempts]
    known = {name for each in every for name in each.configuration}
    for each in every:
        if lacking := known - each.configuration.keys():
            yield f"trial {each.trial} lacks the hyperparameter {min(lacking)!r}"
        is_judged = isinstance(each, Point) or each.state == "completed"
        if is_judged and (lacking := goals - each.objectives.keys()):
            yield f"trial {each.trial} lacks the objective {min(lacking)!r}"
    for point in points:
        for name, file in point.variants.items():
            if ("error" in point.measures) != ("error" in file.measures):
                yield f"{name} of trial {point.trial} has other measures than the trial"
        if lacking := summary.devices.keys() - point.devices.keys():
            yield f"trial {point.trial} lacks the device type {min(lacking)!r}"
        if point.calls and min(point.calls) < 1:
            yield f"trial {point.trial} has a batch, epochs or a call of less than 1"
        for device, seen in point.devices.items():
            counts = {len(used) for used in seen.used.values()}
            if counts - {len(summary.samples.get(device, []))}:
                yield f"trial {point.trial} says of other clients of {device!r} what they need"
    for device, chosen in summary.recommended.items():
        if device not in summary.devices:
            yield f"recommends something for {device!r}, which is not in the fleet"
        others = {each.trial for each in chosen.alternatives}
        others |= {each.trial for each in chosen.standings}
        if unknown := {chosen.trial, *others} - trials:
            yield f"recommends trial {min(unknown)}, which is not on the front"
        if unknown := {each.trial for each in chosen.dominated} - behind:
            yield f"ranks trial {min(unknown)}, which is not among the dominated ones"
        for against in chosen.against_defaults:
            if against.objective not in goals:
                yield f"compares the objective {against.objective!r}, which is none"
