"""Which point a device type should use, its price against others, and the reasons in words.

The rule itself is :func:`fieldtune.server.outcomes.decision.decide`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fieldtune.profiles.common.estimate import Estimate
from fieldtune.server.outcomes.decision import Candidate, Decision, Gain, Rated, decide, gain
from fieldtune.server.results.schema import (
    Against,
    Alternative,
    GainOf,
    Point,
    Recommendation,
    Standing,
)
from fieldtune.server.study.decision_options import DecisionSection
from fieldtune.server.study.objectives import Objective

MOST_ALTERNATIVES = 5
Compared = Mapping[str, Mapping[int, Estimate]]
"""Learned objective -> trial -> the value with which points are compared."""


def recommend(
    front: Sequence[Point],
    defaults: Point | None,
    objectives: Sequence[Objective],
    device: str,
    options: DecisionSection | None = None,
    compared: Compared | None = None,
) -> Recommendation | None:
    """The point to use on a device type; None where none fits it.

    Args:
        front: to choose from, together with the defaults.
        defaults: the study's own configuration; None where it was not trained.
        objectives: of the study.
        device: the device type, whose own costs count.
        options: ``[decision]`` of the study file; None for its defaults.
        compared: learned values with the interval of the model alone, which is narrower than the
            one that the points show; None to compare by the latter.
    """
    options = options or DecisionSection()
    points = {point.trial: point for point in [*front, *([defaults] if defaults else [])]}
    candidates = {
        trial: _candidate(point, objectives, device, compared or {})
        for trial, point in points.items()
    }
    own = candidates[defaults.trial] if defaults else None
    decision = decide(list(candidates.values()), own, objectives, options)
    if decision is None:
        return None
    chosen = decision.chosen
    against = own if decision.against_defaults else None
    return Recommendation(
        trial=chosen.candidate.trial,
        why=_why(decision, own, objectives),
        against_defaults=[_beside(each, chosen.candidate, against) for each in objectives]
        if against
        else [],
        no_worse=chosen.no_worse,
        gains={name: _stored(each) for name, each in chosen.gains.items()},
        alternatives=[
            _alternative(each, decision, own, objectives, options)
            for each in _worth_showing(decision, own, objectives)
        ],
        standings=[
            Standing(trial=each.candidate.trial, no_worse=each.no_worse, counted=dict(each.counted))
            for each in decision.rated
        ],
    )


def _candidate(
    point: Point, objectives: Sequence[Objective], device: str, compared: Compared
) -> Candidate:
    """A point as a device type sees it: learned values of the fleet, costs of the device."""
    seen, values = point.devices[device], dict[str, Estimate]()
    for each in objectives:
        cost = None if each.learned else seen.costs.get(each.name)
        learned = compared.get(each.name, {}).get(point.trial) if each.learned else None
        values[each.name] = cost or learned or point.objectives[each.name]
    return Candidate(point.trial, values, point.runs, seen.fits)


def _beside(objective: Objective, chosen: Candidate, defaults: Candidate) -> Against:
    value, default = (each.values[objective.name].value for each in (chosen, defaults))
    better = objective.sign * value < objective.sign * default
    return Against(objective=objective.name, value=value, default=default, better=better)


def _stored(found: Gain) -> GainOf:
    return GainOf(
        log=found.log,
        noise=found.noise,
        counted=found.counted,
        within_noise=found.within_noise,
    )


def _worth_showing(
    decision: Decision, defaults: Candidate | None, objectives: Sequence[Objective]
) -> list[Rated]:
    """The next best, the best in each objective, and the defaults; the best first."""
    others = list(decision.rated[1:])
    wanted = [*others[:2]]
    for objective in objectives:
        wanted += sorted(
            others, key=lambda each: objective.sign * each.candidate.values[objective.name].value
        )[:1]
    wanted += [each for each in others if defaults and each.candidate.trial == defaults.trial]
    wanted += others
    numbers = list(dict.fromkeys(each.candidate.trial for each in wanted))[:MOST_ALTERNATIVES]
    return [each for each in others if each.candidate.trial in numbers]


def _alternative(
    rated: Rated,
    decision: Decision,
    defaults: Candidate | None,
    objectives: Sequence[Objective],
    options: DecisionSection,
) -> Alternative:
    chosen = decision.chosen
    gains = {each.name: gain(rated.candidate, chosen.candidate, each) for each in objectives}
    return Alternative(
        trial=rated.candidate.trial,
        no_worse=rated.no_worse,
        gains={name: _stored(each) for name, each in gains.items()},
        why_not=_why_not(rated, gains, options),
    )


def _why_not(rated: Rated, gains: Mapping[str, Gain], options: DecisionSection) -> str:
    if not rated.allowed:
        return (
            f"no worse than the defaults on what is learned with probability {rated.no_worse:.2f} "
            f"only; {options.confidence:g} is asked for"
        )
    if all(each.within_noise for each in gains.values()):
        return "cannot be told from the recommended one"
    worse = [name for name, each in gains.items() if not each.within_noise and each.log < 0]
    better = [name for name, each in gains.items() if not each.within_noise and each.log > 0]
    if worse and better:
        return f"better on {_listed(better)}, which does not make up for {_listed(worse)}"
    return f"worse on {_listed(worse)}" if worse else "its gains are less certain"


def _why(decision: Decision, defaults: Candidate | None, objectives: Sequence[Objective]) -> str:
    chosen = decision.chosen
    if not decision.against_defaults:
        if defaults is None:
            reason = "the study's defaults were not trained, or fit no device"
        else:
            reason = "the defaults do not fit this device, and nothing is surely as good as they"
        return f"the best compromise; {reason}"
    assert defaults is not None
    rest = [each for each in decision.rated if each.candidate.trial != defaults.trial]
    allowed = sum(each.allowed for each in rest)
    if chosen.candidate.trial == defaults.trial:
        if not rest:
            return "these are the study's defaults: nothing else fits"
        if not allowed:
            return (
                "these are the study's defaults: of no other point is it sure enough that it "
                "predicts as well"
            )
        return "these are the study's defaults: no point that predicts as well is worth more"
    groups: dict[str, list[str]] = {"better": [], "equal": [], "worse": []}
    for each in objectives:
        found = chosen.gains[each.name]
        kind = "equal" if found.within_noise else "better" if found.log > 0 else "worse"
        groups[kind].append(each.name)
    said = [
        f"{verb} {_listed(groups[kind])}"
        for kind, verb in (
            ("better", "beats the defaults on"),
            ("equal", "is as good on"),
            ("worse", "is worse on"),
        )
        if groups[kind]
    ]
    text = ", ".join(said) if groups["better"] else f"{', '.join(said)} as the defaults"
    learned = [each.name for each in objectives if each.learned]
    if learned and chosen.no_worse is not None:
        text += f"; no worse on {_listed(learned)} with probability {chosen.no_worse:.2f}"
    if allowed > 1:
        text += f"; the largest joint gain of {allowed} such points"
    elif len(rest) > 1:
        text += "; of no other point is that sure enough"
    return text


def _listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
