"""Which configuration to use on a device type: the one rule behind every recommendation.

Every objective of a configuration is compared with the study's defaults by its *log gain*,
``ln(default / value)``: 0.69 is half the error or half the energy, and the gains of several
objectives add up to the logarithm of their product. Scaling an objective changes no log gain.

1. A configuration may be recommended if it fits the device type and, with probability
   ``confidence``, is no worse than the defaults on what is learned, beyond ``tolerance``. The
   probability is that of the tuner's model, with a larger deviation for what was run only once or
   twice (:data:`_DOUBT`). What was run only once may not, where there is one besides the defaults
   that was run twice.
2. A gain counts as far as it exceeds its *noise*: what the model cannot tell of the two learned
   values, or what the cost model cannot tell between two configurations on one device. Of a gain
   ``g`` known to ``s``, ``g - s**2 / g`` is left: nothing where ``g <= s``, nearly all of a gain
   that is much larger (the positive-part estimate of James and Stein 1961, for one mean).
3. Of those that may be recommended, the one with the largest weighted sum of counted gains is. Of
   equal sums, the largest one without weights decides.

Without defaults on the device, gains are counted from the worst end of each objective among the
candidates, as shares of its range, and the largest product is taken (Nash 1950): a point in the
middle, where there is one, not one at an end. As a gain, a range counts as far as it exceeds its
noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fieldtune.profiles.common.estimate import OWN, Z95, Estimate, parts, ratio
from fieldtune.server.study.decision_options import DecisionSection
from fieldtune.server.study.objectives import Objective

_DOUBT = 1.0
"""A learned value that rests on ``n`` runs is taken to be ``1 + _DOUBT / n`` times as uncertain as
the model says: measured by ``simulations/benchmarks/tuner --part recommend``."""
_HOPE = 0.3
"""A candidate that is less probably no worse than the defaults is not run again."""
CONFIRMED = 2
"""Runs that a recommended configuration is to have."""
_PENDING = 2
"""Repetitions of a configuration that are trained at the same time, at most."""
_UNSTATED = 0.1
"""Standard deviation of a learned value without an interval, as a share of it."""
_LEAST_SHARE = 1e-4
"""Shares closer to 0 than this count as this large."""
_WITHIN_NOISE = 1e-3
"""Share of a gain, or of a range, that counts whatever its noise, so that of two otherwise equal
configurations the better one is taken."""
_BALANCE = 0.1
"""Without defaults: added to the share of each range, so that a worst value is no infinite loss."""


@dataclass(frozen=True)
class Candidate:
    """A configuration as one device type sees it.

    Attributes:
        trial: its number.
        values: objective -> learned values over the fleet with the model's 95 % interval (of equal
            ends where there is none), costs of this device type with their 90 % interval.
        runs: trials of this configuration.
        fits: whether it fits the device type.
    """

    trial: int
    values: Mapping[str, Estimate]
    runs: int = 1
    fits: bool = True


@dataclass(frozen=True)
class Gain:
    """One objective of a configuration against that of another."""

    log: float
    """``ln(other / this)``: above 0 where this one is better."""
    noise: float
    """A gain up to this size, either way, may be none."""

    @property
    def counted(self) -> float:
        """What is left of the gain given its noise; this is what a recommendation promises."""
        left = max(abs(self.log) - self.noise**2 / abs(self.log), 0.0) if self.log else 0.0
        return math.copysign(left, self.log)

    @property
    def within_noise(self) -> bool:
        """Whether there may be no difference."""
        return abs(self.log) <= self.noise


@dataclass(frozen=True)
class Rated:
    """A candidate and what the rule makes of it.

    Attributes:
        candidate: it.
        gains: objective -> gain over the defaults; empty where the device has none.
        no_worse: probability of being no worse than the defaults on what is learned; None without.
        allowed: whether it may be recommended.
        counted: objective -> what enters the score; the score is the sum of these times weights.
    """

    candidate: Candidate
    gains: Mapping[str, Gain]
    no_worse: float | None
    allowed: bool
    counted: Mapping[str, float]

    def score(self, options: DecisionSection) -> float:
        """The weighted sum of what counts."""
        return sum(options.weight(name) * counted for name, counted in self.counted.items())


@dataclass(frozen=True)
class Decision:
    """What to use on a device type."""

    rated: Sequence[Rated]
    """All candidates that fit, the best first: first those that may be recommended, by score."""
    against_defaults: bool
    """Whether they were compared with the defaults."""

    @property
    def chosen(self) -> Rated:
        """The recommended one."""
        return self.rated[0]


def decide(
    candidates: Sequence[Candidate],
    defaults: Candidate | None,
    objectives: Sequence[Objective],
    options: DecisionSection,
) -> Decision | None:
    """Apply the rule.

    Args:
        candidates: to choose from; the defaults may be among them.
        defaults: the study's own configuration, whether it fits this device type or not; None where
            it was not trained.
        objectives: of the study.
        options: the reader's weights, tolerance and confidence.

    Returns:
        None where no candidate fits.
    """
    fitting = [each for each in candidates if each.fits]
    if not fitting:
        return None
    if defaults is not None:
        rated = beside_defaults(fitting, defaults, objectives, options)
        if any(each.allowed for each in rated):
            rated = confirmed(rated, defaults)
            return Decision(_ranked(rated, options), against_defaults=True)
    return Decision(_ranked(_balanced(fitting, objectives), options), against_defaults=False)


def beside_defaults(
    candidates: Sequence[Candidate],
    defaults: Candidate | None,
    objectives: Sequence[Objective],
    options: DecisionSection,
) -> list[Rated]:
    """The candidates that fit, each beside the defaults, whatever is decided; without, uncounted.

    What counts without defaults depends on what else there is (:func:`balanced`).
    """
    fitting = [each for each in candidates if each.fits]
    if defaults is None:
        return [Rated(each, {}, None, True, {}) for each in fitting]
    return [_against(each, defaults, objectives, options) for each in fitting]


def confirmed(rated: Sequence[Rated], defaults: Candidate) -> list[Rated]:
    """What was run once is no longer allowed, if something else than the defaults was run twice."""
    own = defaults.trial
    if not any(r.allowed and r.candidate.runs >= CONFIRMED and r.candidate.trial != own
               for r in rated):  # fmt: skip
        return list(rated)
    return [
        replace(
            r, allowed=r.allowed and (r.candidate.runs >= CONFIRMED or r.candidate.trial == own)
        )
        for r in rated
    ]


def next_run(
    candidates: Sequence[Candidate],
    defaults: Candidate | None,
    objectives: Sequence[Objective],
    options: DecisionSection,
    pending: Mapping[int, int],
    *,
    last: bool = False,
) -> tuple[float, int] | None:
    """The trial whose repetition would do most to settle what is recommended, and how much.

    While a candidate would be worth more than the recommended one and is not yet sure enough to be
    no worse than the defaults, nor unlikely to be, it or the defaults are run again, whichever has
    fewer runs. After that, what is recommended is run a second time. Of the last trials, whatever
    comes next best is, so that nothing is recommended for a single run.

    Args:
        candidates: of one device type, the defaults among them.
        defaults: the study's own configuration; None where it was not trained.
        objectives: of the study.
        options: the reader's.
        pending: trial -> repetitions of it that are being trained.
        last: whether what would be tried instead could not be repeated any more.

    Returns:
        (expected weighted gain over what is recommended now, trial); None where it is settled.
    """
    decision = decide(candidates, defaults, objectives, options)
    if decision is None or not any(each.learned for each in objectives):
        return None
    chosen = decision.chosen
    if decision.against_defaults and defaults is not None:
        doubtful = [
            (each.no_worse * more, each.candidate)
            for each in decision.rated
            if not each.allowed and each.no_worse is not None and each.no_worse >= _HOPE
            if (more := each.score(options) - chosen.score(options)) > 0
            if pending.get(each.candidate.trial, 0) < _PENDING
        ]
        if doubtful:
            worth, best = max(doubtful, key=lambda each: (each[0], -each[1].trial))
            rival, own = (each.runs + pending.get(each.trial, 0) for each in (best, defaults))
            return worth, best.trial if rival < own else defaults.trial
    runs = {c.trial: c.runs + pending.get(c.trial, 0) for c in candidates}
    if runs[chosen.candidate.trial] < CONFIRMED:
        return 0.0, chosen.candidate.trial
    if not last:
        return None
    hopeful = [r for r in decision.rated if r.no_worse is None or r.no_worse >= _HOPE]
    once = [r for r in hopeful if runs[r.candidate.trial] < CONFIRMED]
    then = max(once, key=lambda r: (r.score(options), -r.candidate.trial), default=chosen)
    return -1.0, then.candidate.trial


def gain(candidate: Candidate, other: Candidate, objective: Objective) -> Gain:
    """The gain of a candidate over another one in an objective, on the same device type."""
    mine, theirs = candidate.values[objective.name], other.values[objective.name]
    if objective.learned:
        scale = _scale(objective, theirs.value)
        log = _line(objective, theirs.value, scale) - _line(objective, mine.value, scale)
        if candidate.trial == other.trial:
            return Gain(log, 0.0)
        return Gain(log, math.hypot(*(_deviation(each, objective, scale)
                                      for each in (candidate, other))))  # fmt: skip
    if mine.value <= 0 or theirs.value <= 0:  # a profile without a figure: nothing to compare
        return Gain(0.0, 0.0)
    between = ratio(theirs, mine)
    return Gain(math.log(between.value), between.half_width if between.value != 1 else 0.0)


def unsure_of(candidate: Candidate, objective: Objective) -> dict[str, float]:
    """What a value is unsure of: factor -> by how much, on the line on which gains are differences.

    Another candidate of the device type is wrong by the same factors, except ``own``. Of measures
    without a natural zero it is in their unit.
    """
    value = candidate.values[objective.name]
    if objective.learned:
        return {OWN: _deviation(candidate, objective, _scale(objective, 1.0))}
    found = {name: by for name, by in parts(value).items() if not name.startswith(OWN)}
    own = math.hypot(*(by for name, by in parts(value).items() if name.startswith(OWN)))
    return found | ({OWN: own} if own else {})


def noise_between(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """How far apart two values may seem without being so, of what each is unsure of."""
    shared = [one.get(name, 0.0) - other.get(name, 0.0) for name in sorted({*one, *other} - {OWN})]
    return math.hypot(*shared, one.get(OWN, 0.0), other.get(OWN, 0.0))


def balanced(
    objective: Objective, values: Sequence[float], unsure: Sequence[Mapping[str, float]]
) -> list[float]:
    """What counts of values of an objective without defaults: shares of their range, as logarithms.

    Args:
        objective: of the values.
        values: of candidates on one device type.
        unsure: see :func:`unsure_of`, of each of them.
    """
    if not objective.learned and min(values) <= 0:  # a profile without a figure
        return [0.0] * len(values)
    line = [_line(objective, each, _scale(objective, 1.0)) for each in values]
    low, high = min(line), max(line)
    if low == high:
        return [0.0] * len(values)
    ends = (
        [parts for at, parts in zip(line, unsure, strict=True) if at == end] for end in (low, high)
    )
    noise = noise_between(*(max(of, key=lambda parts: math.hypot(*parts.values())) for of in ends))
    weight = max(1 - (noise / (high - low)) ** 2, _WITHIN_NOISE)
    return [
        weight * math.log(((high - each) / (high - low) + _BALANCE) / (1 + _BALANCE))
        for each in line
    ]


def promised(objective: Objective, default: float, counted: float) -> float:
    """The value of an objective that a counted gain over the default promises."""
    scale = _scale(objective, default)
    if objective.unit == "share" and objective.maximised:
        return 1 - (1 - default) * math.exp(-counted)
    if scale:
        return default + counted * scale
    return default * math.exp(-counted)


def _against(
    candidate: Candidate,
    defaults: Candidate,
    objectives: Sequence[Objective],
    options: DecisionSection,
) -> Rated:
    gains = {each.name: gain(candidate, defaults, each) for each in objectives}
    no_worse = 1.0
    for each in objectives:
        if each.learned and candidate.trial != defaults.trial:
            found = gains[each.name]
            room = found.log + math.log1p(options.tolerance)
            no_worse *= _normal(room / found.noise) if found.noise else float(room >= 0)
    return Rated(
        candidate,
        gains,
        no_worse,
        no_worse >= options.confidence,
        {name: each.counted + _WITHIN_NOISE * each.log for name, each in gains.items()},
    )


def _balanced(candidates: Sequence[Candidate], objectives: Sequence[Objective]) -> list[Rated]:
    """Candidates rated by shares of each objective's range among them."""
    counted: list[dict[str, float]] = [{} for _ in candidates]
    for objective in objectives:
        values = [each.values[objective.name].value for each in candidates]
        shares = balanced(objective, values, [unsure_of(each, objective) for each in candidates])
        for each, share in zip(counted, shares, strict=True):
            each[objective.name] = share
    return [
        Rated(candidate, {}, None, True, each)
        for candidate, each in zip(candidates, counted, strict=True)
    ]


def _normal(z: float) -> float:
    """The standard normal distribution function."""
    return 0.5 * math.erfc(-z / math.sqrt(2))


def _ranked(rated: Sequence[Rated], options: DecisionSection) -> list[Rated]:
    return sorted(
        rated,
        key=lambda each: (
            not each.allowed,
            -each.score(options),
            -sum(each.counted.values()),
            each.candidate.trial,
        ),
    )


def is_linear(objective: Objective) -> bool:
    """Whether gains are shares of the other value, not logarithms: without a natural zero."""
    return objective.unit != "share" and objective.maximised


def _scale(objective: Objective, reference: float) -> float:
    """What a measure without a natural zero is divided by; 0 where logarithms are taken."""
    return (abs(reference) or 1.0) if is_linear(objective) else 0.0


def _line(objective: Objective, value: float, scale: float) -> float:
    """A learned value on the line on which differences are log gains, to be minimised."""
    if objective.unit == "share":
        return math.log(max(1 - value if objective.maximised else value, _LEAST_SHARE))
    if scale:
        return -value / scale
    return math.log(max(value, 1e-12))


def _deviation(candidate: Candidate, objective: Objective, scale: float) -> float:
    """Standard deviation of a learned value on the line."""
    estimate = candidate.values[objective.name]
    ends = [_line(objective, end, scale) for end in (estimate.low, estimate.high)]
    deviation = abs(ends[1] - ends[0]) / (2 * Z95)
    return (deviation or _UNSTATED) * (1 + _DOUBT / candidate.runs)
