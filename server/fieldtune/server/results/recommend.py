"""Which point a device type should use, its price against others, and the reasons in words.

The rule itself is :func:`fieldtune.server.outcomes.decision.decide`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fieldtune.profiles.common.estimate import Estimate
from fieldtune.server.outcomes.decision import (
    Candidate,
    Decision,
    Gain,
    Rated,
    beside_defaults,
    decide,
    gain,
    unsure_of,
)
from fieldtune.server.results.schema import Point
from fieldtune.server.results.stored_choices import (
    Against,
    Alternative,
    GainOf,
    Recommendation,
    Standing,
)
from fieldtune.server.study.decision_options import DecisionSection
from fieldtune.server.study.objectives import MEASURES, Objective

MOST_ALTERNATIVES = 5
_MOST_DIGITS = 6
Compared = Mapping[str, Mapping[int, Estimate]]
"""Learned objective -> trial -> the value with which points are compared."""


def recommend(
    front: Sequence[Point],
    defaults: Point | None,
    objectives: Sequence[Objective],
    device: str,
    options: DecisionSection | None = None,
    compared: Compared | None = None,
    dominated: Sequence[Point] = (),
) -> Recommendation | None:
    """The point to use on a device type; None where none fits it.

    Args:
        front: to choose from, together with the defaults.
        defaults: the study's own configuration; None where it was not trained.
        objectives: of the study.
        device: the device type, whose own costs count.
        options: ``[decision]`` of the study file, of which the device type's own weights count;
            None for its defaults.
        compared: learned values with the interval of the model alone, which is narrower than the
            one that the points show; None to compare by the latter.
        dominated: trials to rate for narrower limits; none of them is recommended.
    """
    options = (options or DecisionSection()).for_device(device)
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
    # Another confidence may compare with the defaults where this one does not.
    beside = beside_defaults(list(candidates.values()), own, objectives, options)
    rated_of = {each.candidate.trial: each for each in beside}
    behind = [_candidate(each, objectives, device, compared or {}) for each in dominated]
    return Recommendation(
        trial=chosen.candidate.trial,
        why=_why(decision, own, objectives)
        + _weighted(objectives, options)
        + _rests_on_one(chosen.candidate, objectives),
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
            _standing(rated_of[each.candidate.trial] if own else each, own, objectives)
            for each in decision.rated
        ],
        dominated=[
            _standing(each, own, objectives)
            for each in beside_defaults(behind, own, objectives, options)
        ],
    )


def _standing(
    rated: Rated, defaults: Candidate | None, objectives: Sequence[Objective]
) -> Standing:
    return Standing(
        trial=rated.candidate.trial,
        no_worse=rated.no_worse,
        runs=rated.candidate.runs,
        is_defaults=defaults is not None and rated.candidate.trial == defaults.trial,
        counted=dict(rated.counted),
        unsure={
            each.name: {
                name: float(f"{by:.6g}") for name, by in unsure_of(rated.candidate, each).items()
            }
            for each in objectives
        },
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
    if not rated.allowed and (rated.no_worse or 0.0) >= options.confidence:
        return "run only once, while others were run again"
    if not rated.allowed:
        return (
            "no worse than the defaults on what is learned with probability "
            f"{_probability(rated.no_worse, options.confidence)} only; "
            f"{options.confidence:g} is asked for"
        )
    if all(each.within_noise for each in gains.values()):
        return "cannot be told from the recommended one"
    clear = {_named(MEASURES[n]): each.log for n, each in gains.items() if not each.within_noise}
    worse = [name for name, log in clear.items() if log < 0]
    better = [name for name, log in clear.items() if log > 0]
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
            return "these are the study's defaults: the front has no other point that fits"
        if not allowed:
            return (
                "these are the study's defaults: for no other point is it certain enough that "
                "it predicts as well"
            )
        return "these are the study's defaults: no point that predicts as well is worth more"
    groups: dict[str, list[str]] = {"better": [], "equal": [], "worse": []}
    for each in objectives:
        found = chosen.gains[each.name]
        kind = "equal" if found.within_noise else "better" if found.log > 0 else "worse"
        groups[kind].append(_named(each))
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
    learned = [_named(each) for each in objectives if each.learned]
    if learned and chosen.no_worse is not None:
        text += f"; no worse on {_listed(learned)} with probability {_probability(chosen.no_worse)}"
    if allowed > 1:
        text += f"; the largest joint gain of {allowed} such points"
    elif len(rest) > 1:
        text += "; of no other point is that sure enough"
    return text


def _named(objective: Objective) -> str:
    """An objective in a sentence."""
    return objective.phrase


def _weighted(objectives: Sequence[Objective], options: DecisionSection) -> str:
    """The weights other than 1; empty where there are none."""
    weights = {each.name: options.weight(each.name) for each in objectives}
    said = [f"{name} {weight:g}" for name, weight in weights.items() if weight != 1]
    return f" (weights: {', '.join(said)})" if said else ""


def _rests_on_one(chosen: Candidate, objectives: Sequence[Objective]) -> str:
    """That what was learned of it is the luck of a single training, where it is."""
    once = chosen.runs == 1 and any(each.learned for each in objectives)
    return "; trained only once" if once else ""


def _probability(found: float | None, asked: float = 0.0) -> str:
    """To two decimals, never as certain, and never as what is asked for where it is less."""
    if found is None or found < 0.005:
        return "below 0.01"
    digits = 2
    while found < asked <= round(found, digits) and digits < _MOST_DIGITS:
        digits += 1
    return "above 0.99" if found > 0.995 and digits == 2 else f"{found:.{digits}f}"


def _listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
