"""The rule by which a configuration is recommended for a device type."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fieldtune.profiles.common.estimate import Estimate
from fieldtune.server.outcomes.decision import (
    Candidate,
    Decision,
    balanced,
    decide,
    gain,
    next_run,
    promised,
)
from fieldtune.server.study.decision_options import DecisionSection
from fieldtune.server.study.objectives import MEASURES

ERROR, LATENCY, ENERGY = MEASURES["error"], MEASURES["inference_ms"], MEASURES["energy_j"]
OBJECTIVES = (ERROR, LATENCY, ENERGY)
MANY = 10**6
"""Runs after which the model's own deviation is not enlarged."""


def candidate(
    trial: int,
    error: float,
    ms: float,
    joules: float,
    *,
    deviation: float = 0.001,
    noise: float = 0.001,
    runs: int = MANY,
) -> Candidate:
    """Deviation of the error and noise of the costs as logarithms; costs share a factor of two."""
    wide = math.exp(1.959964 * deviation)

    def cost(value: float) -> Estimate:
        factors = {"clock": math.log(2), f"own {trial}": noise / math.sqrt(2)}
        return Estimate(value, value / 2, value * 2, factors)

    values = {
        "error": Estimate(error, error / wide, error * wide),
        "inference_ms": cost(ms),
        "energy_j": cost(joules),
    }
    return Candidate(trial, values, runs)


DEFAULTS = candidate(0, 0.1, 10, 100)


def decided(
    *others: Candidate, defaults: Candidate | None = DEFAULTS, **options: object
) -> Decision:
    found = decide(
        [*others, *([defaults] if defaults else [])],
        defaults,
        OBJECTIVES,
        DecisionSection.model_validate(options),
    )
    assert found is not None
    return found


def chosen(*others: Candidate, defaults: Candidate | None = DEFAULTS, **options: object) -> int:
    return decided(*others, defaults=defaults, **options).chosen.candidate.trial


def test_sizes_count_and_not_how_many_objectives_are_won() -> None:
    assert chosen(candidate(1, 0.0988, 9.88, 98.8), candidate(2, 0.05, 9.95, 20)) == 2


def test_an_error_within_the_tolerance_does_not_rule_out_a_large_saving() -> None:
    assert chosen(candidate(1, 0.1002, 10, 15)) == 1
    assert chosen(candidate(1, 0.1002, 10, 15), tolerance=0.0) == 0
    assert chosen(candidate(1, 0.102, 10, 15)) == 0


def test_a_cost_that_the_profile_cannot_tell_apart_does_not_decide() -> None:
    """0.7 of 88 microseconds, where two configurations are known to 5 %."""
    some = candidate(24, 0.09, 0.0873, 99, noise=0.05)
    other = candidate(19, 0.088, 0.088, 96, noise=0.05)
    assert chosen(some, other, defaults=candidate(0, 0.1, 0.0881, 100, noise=0.05)) == 19
    assert gain(some, other, LATENCY).within_noise
    assert not gain(some, other, LATENCY).counted


def test_errors_that_configurations_on_a_device_share_cancel_in_their_ratio() -> None:
    """Either is known to a factor of two, their ratio to a thousandth."""
    found = gain(candidate(1, 0.1, 9, 100), DEFAULTS, LATENCY)
    assert found.noise == pytest.approx(0.001)
    assert found.counted == pytest.approx(math.log(10 / 9), rel=1e-3)


@pytest.mark.parametrize(("deviation", "trial"), [(0.02, 1), (0.2, 0)])
def test_the_probability_of_being_no_worse_must_reach_the_confidence(
    deviation: float, trial: int
) -> None:
    """Of .09 against .1 the log gain is .105 with .01 of tolerance: 4 and .4 deviations."""
    better = candidate(1, 0.09, 10, 50, deviation=deviation)
    exact = replace(DEFAULTS, values={**DEFAULTS.values, "error": Estimate(0.1, 0.0999, 0.1001)})
    assert chosen(better, defaults=exact) == trial
    probability = decided(better, defaults=exact).rated[trial == 0].no_worse
    z = (math.log(0.1 / 0.09) + math.log(1.01)) / deviation
    assert probability == pytest.approx(0.5 * math.erfc(-z / math.sqrt(2)), abs=1e-3)
    assert chosen(better, defaults=exact, confidence=0.6) == 1


def test_a_single_run_is_doubted_more_than_a_repeated_one() -> None:
    once = candidate(1, 0.09, 10, 50, deviation=0.06, runs=1)
    assert chosen(once) == 0
    assert chosen(replace(once, runs=6)) == 1


def test_what_is_promised_of_a_gain_shrinks_with_what_is_known_of_it() -> None:
    promised = [
        gain(candidate(1, 0.08, 10, 100, deviation=each), DEFAULTS, ERROR).counted
        for each in (0.01, 0.1, 0.2, 0.3)
    ]
    assert promised == sorted(promised, reverse=True)
    assert promised[0] == pytest.approx(math.log(1.25), rel=0.01)
    assert promised[-1] == 0


def test_a_measure_to_be_maximised_counts_by_what_it_lacks() -> None:
    accuracy = MEASURES["accuracy"]
    values = ((1, 0.99), (0, 0.98))
    some, other = (Candidate(n, {"accuracy": Estimate(v, v, v)}, MANY) for n, v in values)
    assert gain(some, other, accuracy).log == pytest.approx(math.log(2))
    own = MEASURES["metric"]
    some, other = (Candidate(n, {"metric": Estimate(v, v, v)}, MANY) for n, v in values)
    assert gain(some, other, own).log == pytest.approx(0.01 / 0.98)


@pytest.mark.parametrize("name", ["error", "accuracy", "loss", "metric"])
def test_a_promise_is_the_value_whose_gain_is_what_counts(name: str) -> None:
    kept = promised(MEASURES[name], 0.6, 0.25)
    some, other = (Candidate(n, {name: Estimate(v, v, v)}, MANY) for n, v in ((1, kept), (0, 0.6)))
    assert gain(some, other, MEASURES[name]).log == pytest.approx(0.25)


def test_what_does_not_fit_is_not_recommended() -> None:
    misfit = replace(candidate(1, 0.01, 1, 1), fits=False)
    assert chosen(misfit) == 0
    assert decide([misfit], DEFAULTS, OBJECTIVES, DecisionSection()) is None
    too_large = replace(DEFAULTS, fits=False)
    assert chosen(candidate(1, 0.05, 9, 90), defaults=too_large) == 1
    # Nothing is as good as defaults that do not fit: a compromise among what does.
    worse = decided(candidate(1, 0.2, 9, 90), candidate(2, 0.9, 1, 10), defaults=too_large)
    assert not worse.against_defaults


def test_without_defaults_the_knee_is_taken_and_not_an_end() -> None:
    front = [candidate(n, 0.05 + 0.3 / n, 10 + n * n, 50) for n in range(1, 9)]
    assert chosen(*front, defaults=None) in (2, 3, 4)
    assert not decided(*front, defaults=None).against_defaults


def test_of_what_differs_where_the_weight_is_0_only_the_better_one_is_taken() -> None:
    weights = {"energy_j": 0.0}
    assert chosen(candidate(1, 0.05, 5, 80), candidate(2, 0.05, 5, 40), weights=weights) == 2
    some, other = candidate(1, 0.05, 5, 80), candidate(2, 0.05, 5, 40)
    third = candidate(3, 0.3, 1, 90)
    assert chosen(some, other, third, defaults=None, weights={**weights, "error": 5.0}) == 2


def test_without_defaults_a_range_counts_as_far_as_it_exceeds_its_noise() -> None:
    """So no hair's breadth decides whether an objective counts."""
    shares = [
        balanced(LATENCY, [1.0, math.exp(size)], [{"own": 0.1}, {}])[1]
        for size in (0.05, 0.1 - 1e-9, 0.1 + 1e-9, 0.2, 10)
    ]
    full = math.log(0.1 / 1.1)
    assert shares == pytest.approx([each * full for each in (0.001, 0.001, 0.001, 0.75, 1)], 1e-3)


@pytest.mark.parametrize("order", [1, -1])
def test_without_defaults_the_order_of_equal_candidates_changes_nothing(order: int) -> None:
    """Two have no error at all, one of them by a single run: the range is known as it knows it."""
    values, unsure = [0.0, 0.0, 0.2], [{"own": 0.1}, {"own": 4.0}, {"own": 0.1}]
    shares = balanced(ERROR, values[::order], unsure[::order])[::order]
    range_, noise = math.log(0.2 / 1e-4), math.hypot(4.0, 0.1)
    assert shares[2] == pytest.approx((1 - (noise / range_) ** 2) * math.log(0.1 / 1.1))


# Properties. Candidates are drawn around the defaults; what is known of each is the same.

factors = st.floats(0.3, 3.0)
weights = st.fixed_dictionaries({each.name: st.floats(0.1, 5) for each in OBJECTIVES})


@st.composite
def candidates(draw: st.DrawFn, noise: float = 0.02) -> list[Candidate]:
    drawn = draw(st.lists(st.tuples(factors, factors, factors), min_size=1, max_size=8))
    return [
        candidate(n, 0.1 * e, 10 * ms, 100 * j, deviation=noise, noise=noise)
        for n, (e, ms, j) in enumerate(drawn, start=1)
    ]


def pool(
    others: Sequence[Candidate], *, with_defaults: bool
) -> tuple[list[Candidate], Candidate | None]:
    defaults = candidate(0, 0.1, 10, 100, deviation=0.02, noise=0.02)
    return ([*others, defaults], defaults) if with_defaults else (list(others), None)


@given(candidates(), weights, st.booleans())
def test_what_is_recommended_is_never_dominated_beyond_noise(
    others: list[Candidate], weight: dict[str, float], with_defaults: bool
) -> None:
    every, defaults = pool(others, with_defaults=with_defaults)
    decision = decide(every, defaults, OBJECTIVES, DecisionSection(weights=weight))
    assert decision is not None
    for other in decision.rated[1:]:
        gains = [gain(other.candidate, decision.chosen.candidate, each) for each in OBJECTIVES]
        dominates = all(each.log >= 0 for each in gains) and any(
            not each.within_noise and each.log > 0 for each in gains
        )
        assert not (other.allowed and dominates)


@given(candidates(), weights, st.floats(1e-3, 1e3), st.floats(1e-3, 1e3), st.booleans())
def test_scaling_a_cost_changes_nothing(
    others: list[Candidate], weight: dict[str, float], a: float, b: float, with_defaults: bool
) -> None:
    def scaled(each: Candidate) -> Candidate:
        values = dict(each.values)
        return replace(each, values={**values, "inference_ms": values["inference_ms"] * a,
                                     "energy_j": values["energy_j"] * b})  # fmt: skip

    options = DecisionSection(weights=weight)
    every, defaults = pool(others, with_defaults=with_defaults)
    before = decide(every, defaults, OBJECTIVES, options)
    after = decide(
        [scaled(each) for each in every], defaults and scaled(defaults), OBJECTIVES, options
    )
    assert before is not None
    assert after is not None
    scores = sorted((each.score(options) for each in before.rated if each.allowed), reverse=True)
    assume(len(scores) < 2 or scores[0] - scores[1] > 1e-9)  # a tie is broken by the number
    assert before.chosen.candidate.trial == after.chosen.candidate.trial


@given(candidates(), st.integers(0, 7), st.sampled_from(OBJECTIVES), st.booleans())
def test_a_hairs_breadth_never_decides(
    others: list[Candidate], index: int, objective: object, with_defaults: bool
) -> None:
    """A candidate that becomes better by a millionth is chosen only if it almost was before."""
    which, name = index % len(others), getattr(objective, "name")  # noqa: B009
    every, defaults = pool(others, with_defaults=with_defaults)
    options = DecisionSection()
    before = decide(every, defaults, OBJECTIVES, options)
    better = others[which]
    moved = replace(better, values={**better.values, name: better.values[name] * (1 - 1e-6)})
    every[which] = moved
    after = decide(every, defaults, OBJECTIVES, options)
    assert before is not None
    assert after is not None
    scores = {each.candidate.trial: each.score(options) for each in before.rated if each.allowed}
    assume(after.chosen.candidate.trial in scores)  # else it was on the edge of the confidence
    lost = scores[before.chosen.candidate.trial] - scores[after.chosen.candidate.trial]
    assert lost <= 1e-3


@given(candidates(), weights, st.sampled_from(OBJECTIVES), st.floats(1, 10), st.booleans())
def test_a_larger_weight_never_makes_its_objective_worse(
    others: list[Candidate],
    weight: dict[str, float],
    objective: object,
    times: float,
    with_defaults: bool,
) -> None:
    name = getattr(objective, "name")  # noqa: B009
    every, defaults = pool(others, with_defaults=with_defaults)
    before, after = (
        decide(every, defaults, OBJECTIVES, DecisionSection(weights=each))
        for each in (weight, {**weight, name: weight[name] * times})
    )
    assert before is not None
    assert after is not None
    assert after.chosen.counted.get(name, 0.0) >= before.chosen.counted.get(name, 0.0) - 1e-12


@given(st.lists(st.floats(0.02, 0.98), min_size=1, max_size=6, unique=True))
def test_without_defaults_a_convex_front_gives_no_end(places: list[float]) -> None:
    front = [(0.1 * (1 - t) ** 2 + 0.01, 10 * t**2 + 1) for t in sorted(places)]
    ends = [(0.11, 1.0), (0.01, 11.0)]
    assume(all(0.1 < t < 0.9 for t in places))
    every = [
        candidate(n, e, ms, 100, deviation=1e-6, noise=1e-6)
        for n, (e, ms) in enumerate([*ends, *front])
    ]
    assert chosen(*every, defaults=None) >= 2


def again(*candidates: Candidate, last: bool = False, **pending: int) -> int | None:
    """The trial to repeat; ``t1=2`` says that two repetitions of trial 1 are being trained."""
    found = next_run(
        candidates, candidates[-1], OBJECTIVES, DecisionSection(),
        {int(name[1:]): count for name, count in pending.items()}, last=last,
    )  # fmt: skip
    return None if found is None else found[1]


def test_a_single_run_is_not_recommended_beside_one_that_was_repeated() -> None:
    once = candidate(1, 0.05, 10, 10, runs=1)
    twice = candidate(2, 0.06, 10, 20, runs=2)
    defaults = candidate(0, 0.10, 10, 100, runs=3)
    assert chosen(once, defaults=defaults) == 1  # the budget allowed no repetition
    found = decided(once, twice, defaults=defaults)
    ranks = [(rated.candidate.trial, rated.allowed) for rated in found.rated]
    assert ranks == [(2, True), (0, True), (1, False)]
    assert again(once, twice, defaults) == 1
    assert again(once, twice, defaults, t1=2) is None  # being repeated


def test_the_last_trials_repeat_what_comes_next_best() -> None:
    best, second = candidate(1, 0.05, 10, 10, runs=2), candidate(2, 0.06, 10, 20, runs=1)
    defaults = candidate(0, 0.10, 10, 100, runs=3)
    assert again(best, second, defaults) is None
    assert again(best, second, defaults, last=True) == 2
    assert again(best, second, defaults, last=True, t2=1) == 1  # all have run twice
