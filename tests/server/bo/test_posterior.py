"""What the models make of trials that were stopped, and of those that were not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from fieldtune.server.bo import GreySampler, Known
from fieldtune.server.bo.acquisition import AcquisitionSearch
from fieldtune.server.bo.candidates import ENOUGH, FormulaEvaluator, fill_pool, violation
from fieldtune.server.bo.encoding import Encoding
from fieldtune.server.bo.reference_point import FrontState
from fieldtune.server.bo.surrogate import Surrogate
from fieldtune.server.bo.transfer import Prior
from fieldtune.server.bo.trial_points import TrialPoints
from fieldtune.server.bo.trial_rows import History

SPACE = {"lr": optuna.distributions.FloatDistribution(1e-4, 1.0, log=True)}


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def error(p: Mapping[str, Any]) -> float:
    line = 1.5 * (math.log10(p["lr"]) + 1.5) ** 2 - 3.5 + 2 / math.sqrt(20)
    return 1 / (1 + math.exp(-line))


def test_stopped_trials_of_the_even_start_count_for_what_is_ordinary() -> None:
    """Those that go on from a rung are the best: of these alone, good would seem ordinary."""
    lrs = [10 ** (-4 + 4 * i / 11) for i in range(12)]

    def reference(*, rung: bool) -> float:
        study = optuna.create_study(sampler=GreySampler(space=SPACE, seed=0))
        for lr in lrs:
            found = error({"lr": lr})
            stopped = rung and found > 0.2
            study.add_trial(
                optuna.create_trial(
                    state=TrialState.PRUNED if stopped else TrialState.COMPLETE,
                    values=None if stopped else [found], params={"lr": lr}, distributions=SPACE,
                    user_attrs={"fieldtune:partial": {"share": 0.9, "values": [found]}}
                    if stopped else {},
                )
            )  # fmt: skip
        encoding = Encoding.of(SPACE)
        evaluator = FormulaEvaluator(encoding, lambda params: Known({}, {}), [1.0])
        rows = History(study).update(study.trials, -1)
        pool = evaluator.of(np.linspace(0.01, 0.99, 50)[:, None])
        told = {row.number: row.state for row in rows}
        assert ("stopped" in told.values()) == rung
        return float(
            Surrogate(
                TrialPoints(encoding, evaluator), rows, pool, 1, startup=12, kernels={}, refit=True,
                margin=None,
            ).front_state.reference[0]
        )  # fmt: skip

    assert reference(rung=True) == pytest.approx(reference(rung=False), rel=0.3)


def test_what_a_rung_says_of_the_end_is_learned_from_trials_that_have_both() -> None:
    """Results at the rung are worse by a factor; where whole trials tell, that is seen through."""
    rng = np.random.default_rng(3)
    drawn = [{"lr": float(10 ** rng.uniform(-4, 0))} for _ in range(24)]

    def final(p: Mapping[str, Any]) -> float:
        return error(p)

    def at_rung(p: Mapping[str, Any]) -> float:
        return min(0.98, 2.0 * final(p))

    def values_of_trials(*, curves: bool) -> float:
        study = optuna.create_study(sampler=GreySampler(space=SPACE, seed=0))
        for i, p in enumerate(drawn):
            early = {"share": 0.3, "values": [at_rung(p)]}
            whole = i % 3 == 0
            study.add_trial(
                optuna.create_trial(
                    state=TrialState.COMPLETE if whole else TrialState.PRUNED,
                    values=[final(p)] if whole else None, params=p, distributions=SPACE,
                    user_attrs={"fieldtune:curve": [early] if curves else []}
                    if whole else {"fieldtune:partial": early},
                )
            )  # fmt: skip
        encoding = Encoding.of(SPACE)
        points = TrialPoints(encoding, FormulaEvaluator(encoding, None, [1.0]))
        rows = History(study).update(study.trials, -1)
        grid = [{"lr": float(10**x)} for x in np.linspace(-3.8, -0.2, 40)]
        pool = FormulaEvaluator(encoding, None, [1.0]).of(
            np.array([encoding.unit(p) for p in grid])
        )
        surrogate = Surrogate(points, rows, pool, 1, startup=4, kernels={}, refit=True, margin=None)
        values = surrogate.models[0].values(surrogate.inputs(pool))
        return float(np.abs(values - [final(p) for p in grid]).mean())

    assert values_of_trials(curves=True) < 0.04
    assert values_of_trials(curves=True) < 0.75 * values_of_trials(curves=False)


def test_a_pool_is_filled_where_few_are_feasible() -> None:
    """In a ring of a hundredth of the space, from the few that evenly spread points hit."""
    space = {name: optuna.distributions.FloatDistribution(0.0, 1.0) for name in "xyz"}

    def known(p: Mapping[str, Any]) -> Known:
        off = (p["x"] - 0.5) ** 2 + (p["y"] - 0.5) ** 2 + (p["z"] - 0.5) ** 2 - 0.16
        return Known({}, {"ring": abs(off) / 0.002 - 1})

    encoding = Encoding.of(space)
    pool = fill_pool(encoding, FormulaEvaluator(encoding, known, [1.0]), 0).candidates
    feasible = pool.take(violation(pool) <= 0).units
    assert len(feasible) > ENOUGH / 2
    assert len(np.unique(feasible > 0.5, axis=0)) == 8  # all around


def test_the_search_leaves_little_that_a_dense_sample_would_find() -> None:
    """Of what is expected to be gained, by the models of one study of five parameters."""
    space = {name: optuna.distributions.FloatDistribution(0.0, 1.0) for name in "abcde"}

    def cost(p: Mapping[str, Any]) -> float:
        return float(sum(p.values()))

    def known(p: Mapping[str, Any]) -> Known:
        return Known({1: cost(p)}, {"cost": abs(cost(p) - 2.5) - 1})

    study = optuna.create_study(
        sampler=GreySampler(known=known, space=space, seed=0), directions=["minimize"] * 2
    )
    for _ in range(20):
        trial = study.ask(space)
        far = sum((value - 0.3) ** 2 for value in trial.params.values())
        study.tell(trial, [far, cost(trial.params)])
    encoding = Encoding.of(space)
    evaluator = FormulaEvaluator(encoding, known, [1.0, 1.0])
    rows = History(study).update(study.trials, -1)
    pool = fill_pool(encoding, evaluator, 0).candidates
    surrogate = Surrogate(
        TrialPoints(encoding, evaluator),
        rows,
        pool,
        2,
        startup=6,
        kernels={},
        refit=True,
        margin=None,
    )
    dense = evaluator.of(np.random.default_rng(0).random((20_000, 5)))
    dense = dense.take(surrogate.feasible(dense))
    search = AcquisitionSearch(encoding, evaluator, 0, Prior(encoding, space, [1.0, 1.0], []))
    best, gain = search._best_candidate(surrogate, pool, set(), {}, np.random.default_rng(0))
    assert gain > surrogate.improvement(dense).max()
    assert surrogate.improvement(evaluator.of(best[None]))[0] == pytest.approx(gain)


def test_as_good_in_a_known_objective_is_enough_and_in_a_learned_one_it_is_not() -> None:
    """Objective 0 is learned, 1 known."""
    front = np.array([[0.1, 4.0], [0.3, 1.0]])
    front_state = FrontState(front, np.array([0.5, 5.0]), np.array([0.1, 0.5]))
    goal = front_state.no_worse_than(np.array([0.2, 4.0]), np.array([np.inf, 4.0]))
    assert goal is not None
    assert goal.most.tolist() == [np.inf, 4.0]
    assert goal.boxes.upper.max(axis=0) == pytest.approx([0.2, 4.45])
    assert goal.room == pytest.approx(0.1 * 3.95)
    # Nothing is known to be better than the best error there is.
    assert front_state.no_worse_than(np.array([0.1, 4.0]), np.array([np.inf, 4.0])) is None
