"""The benchmark's judge: scores, picks, peers and tests of significance."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from fieldtune.profiles.common.errors import UsageError
from fieldtune.server.bo.known import Known
from fieldtune.server.study.space import Parameter
from fieldtune.server.tuner.early_stopping import ranked
from tuner.asha import MoAsha
from tuner.experiment import Job, Variation, run, score, until, work
from tuner.optuna_peers import OptunaPeer, RungPeer, random
from tuner.peer import Filtered
from tuner.peers import chosen_peers
from tuner.problem import Evaluation, Reference, Values
from tuner.scoring import Tried, by_posterior, by_value, hypervolume, true_hypervolume
from tuner.significance import holm, no_worse_p, paired_p, spread

pytestmark = pytest.mark.integration

UNIT = Reference((0.0, 0.0), (1.0, 1.0), 1.21, "the unit square")


class Toy:
    """Error falls with x and with rounds, cost rises with x; half of the space is over a limit."""

    name = "toy"
    space: Mapping[str, Parameter] = {"x": Parameter(low=0.0, high=1.0)}
    objectives = ("error", "cost")
    shares = frozenset({0})
    rounds = 9
    trials = 12
    reference = UNIT
    noise = 0.0

    def truth(self, values: Values) -> Evaluation:
        x = float(values["x"])
        return Evaluation((0.1 + 0.8 * (1 - x) ** 2, x), {"cost": x / 0.5 - 1}, 9.0)

    def known(self, values: Values) -> Known:
        true = self.truth(values)
        return Known({1: true.objectives[1]}, true.constraints)

    def evaluate(self, values: Values, rounds: int, seed: int) -> Evaluation:
        true = self.truth(values)
        error = true.objectives[0] + 0.1 * (1 - rounds / 9)
        error += float(np.random.default_rng([seed]).normal(0, self.noise))
        return Evaluation((error, true.objectives[1]), true.constraints, float(rounds))


def tried(problem: Toy, *points: tuple[float, int]) -> list[Tried]:
    """One evaluation an (x, seed), each of all rounds."""
    return [
        Tried({"x": x}, 9, problem.evaluate({"x": x}, 9, seed), n + 1.0, 9.0 * (n + 1))
        for n, (x, seed) in enumerate(points)
    ]


def test_the_hypervolume_of_a_reference_front_is_one_and_worthless_points_add_nothing() -> None:
    assert hypervolume(UNIT, np.array([[0.0, 0.0]])) == pytest.approx(1.0)
    half = hypervolume(UNIT, np.array([[0.5, 0.5]]))
    assert half == pytest.approx(0.6**2 / 1.21)
    worthless = np.array([[0.5, 0.5], [0.0, 1.2], [2.0, 0.0], [np.nan, 0.0], [0.6, 0.6]])
    assert hypervolume(UNIT, worthless) == pytest.approx(half)
    assert hypervolume(UNIT, worthless[1:4]) == 0.0


def test_a_recommendation_over_a_limit_is_worth_nothing() -> None:
    assert true_hypervolume(Toy(), [{"x": 0.6}]) == 0.0
    assert true_hypervolume(Toy(), [{"x": 0.6}, {"x": 0.4}]) == true_hypervolume(
        Toy(), [{"x": 0.4}]
    )


def test_picking_by_noisy_values_claims_more_than_it_is_worth_and_a_model_less_so() -> None:
    problem = Toy()
    problem.noise = 0.08
    excess: dict[str, list[float]] = {"value": [], "model": []}
    for repeat in range(4):
        rng = np.random.default_rng(repeat)
        seen = tried(problem, *((float(x), 50 * repeat + n) for n, x in enumerate(rng.random(40))))
        for name, pick in (("value", by_value), ("model", by_posterior)):
            found = score(problem, seen, pick)
            excess[name].append(found.claimed - found.true)
    assert np.mean(excess["value"]) > 0.03
    assert abs(np.mean(excess["model"])) < np.mean(excess["value"]) / 2


def test_partial_and_infeasible_evaluations_are_never_recommended() -> None:
    problem = Toy()
    partial = Tried({"x": 0.45}, 3, problem.evaluate({"x": 0.45}, 3, 0), 1, 9)
    seen = [*tried(problem, (0.2, 1), (0.9, 2)), partial]
    for pick in (by_value, by_posterior):
        assert pick(problem, seen).values == [{"x": 0.2}]
    assert by_value(problem, [partial]).values == []
    assert score(problem, [partial], by_value).true == 0.0


def test_the_filter_spends_nothing_on_what_formulas_rule_out() -> None:
    problem = Toy()
    free = run(problem, OptunaPeer(problem, random, 0), 0, 12)
    filtered = run(problem, Filtered(OptunaPeer(problem, random, 0), problem), 0, 12)
    assert not all(each.evaluation.feasible for each in free)
    assert all(each.evaluation.feasible for each in filtered)
    assert len(filtered) == 12


def test_the_filter_gives_up_where_nothing_is_allowed() -> None:
    problem = Toy()
    problem.space = {"x": Parameter(low=0.6, high=1.0)}
    peer = Filtered(OptunaPeer(problem, random, 0), problem)
    assert float(peer.ask().values["x"]) >= 0.6


def test_successive_halving_pays_for_further_rounds_only_and_stays_in_its_budget() -> None:
    problem = Toy()
    seen = run(problem, Filtered(MoAsha(problem, 1), problem), 0, 12)
    assert {each.rounds for each in seen} == {1, 3, 9}
    assert 12 <= seen[-1].paid < 13
    assert seen[-1].device_s == pytest.approx(9 * seen[-1].paid)
    counts = [sum(each.rounds == rounds for each in seen) for rounds in (1, 3, 9)]
    assert counts[0] > counts[1] > counts[2] > 0


def test_ranking_puts_whole_fronts_first_and_the_larger_contribution_before_the_smaller() -> None:
    points = np.array([[1.0, 1.0], [0.0, 0.9], [0.9, 0.0], [0.5, 0.5], [0.49, 0.52]])
    order = list(ranked(points))
    assert order[-1] == 0
    assert order.index(4) > order.index(3)


def test_a_budget_cuts_a_run_where_it_is_spent() -> None:
    seen = tried(Toy(), *((0.1 * n, n) for n in range(5)))
    assert len(until(seen, 3.0)) == 3
    assert len(until(seen, 0.2)) == 1  # a run has always tried something


def test_all_peers_at_one_seed_are_repeatable() -> None:
    job = Job("tnk", Variation(), ("random", "tpe+filter", "mo-asha", "fedex"), 7, 12, None)
    first, notes = work(job)
    assert first == work(job)[0]
    assert [outcome.peer for outcome in first] == ["random", "tpe+filter"]
    assert notes == [
        "mo-asha is left out: tnk has no partial evaluations",
        "fedex is left out: tnk has no clients to try several configurations",
    ]
    assert first[1].infeasible <= first[0].infeasible
    assert first[0].final == first[0].value_pick


def test_a_peer_whose_packages_are_missing_says_how_to_get_them() -> None:
    (entry,) = chosen_peers(["botorch"])
    why = entry.unavailable(Toy(), "/no/such/python")
    assert why is not None
    assert "/no/such/python cannot be run" in why


def test_an_unknown_peer_is_refused_with_a_hint() -> None:
    with pytest.raises(UsageError, match="did you mean 'random'"):
        chosen_peers(["randon"])


def test_p_values_are_exact_for_few_pairs() -> None:
    # All of five pairs higher: one of 2^5 sign patterns.
    assert paired_p([2, 3, 4, 5, 6], [1, 1.5, 1.8, 2.1, 2.4]) == pytest.approx(1 / 32)
    assert paired_p([1, 2], [1, 2]) == 1.0
    assert paired_p([1, 1.5, 1.8], [2, 3, 4]) == 1.0


def test_not_worse_is_shown_by_an_equivalence_test_alone() -> None:
    theirs = [0.50, 0.60, 0.70, 0.80, 0.90]
    equal = [0.51, 0.59, 0.71, 0.79, 0.905]
    assert paired_p(equal, theirs) > 0.05
    assert no_worse_p(equal, theirs, 0.05) == pytest.approx(1 / 32)
    assert no_worse_p([0.4, 0.9, 0.6, 0.9, 0.8], theirs, 0.05) > 0.05  # not worse, but not shown


def test_holm_multiplies_and_never_decreases() -> None:
    # Holm 1979: 0.01 x 3, then max(0.03, 0.02 x 2), then max(0.04, 0.03 x 1)
    assert holm({"a": 0.01, "b": 0.02, "c": 0.03}) == pytest.approx(
        {"a": 0.03, "b": 0.04, "c": 0.04}
    )
    assert holm({}) == {}


def test_a_spread_names_mean_and_standard_deviation() -> None:
    assert spread([1.0, 2.0, 3.0]) == "2.000 ± 1.000"
    assert spread([0.5]) == "0.500"
    assert spread([]) == "-"


def test_a_trial_that_goes_on_from_a_rung_is_continued_and_only_then_paid_for() -> None:
    problem = Toy()
    seen = run(problem, RungPeer(problem, random, 3), 0, 12)
    rungs = [each for each in seen if each.rounds == 3]
    whole = [each for each in seen if each.rounds == 9]
    assert seen[-1].paid == (3 * len(rungs) + 6 * len(whole)) / 9
    assert len(whole) < len(rungs) / 2 + 3
    assert all(each.values in [rung.values for rung in rungs] for each in whole)
