"""Earlier studies as prior knowledge: worth something when related, harmless when not."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import moocore
import numpy as np
import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from fieldtune.server.bo import GreySampler, Known
from fieldtune.server.bo.candidates import FormulaEvaluator, fill_pool
from fieldtune.server.bo.encoding import Encoding, ParameterAxis
from fieldtune.server.bo.gp import GaussianProcess, Hyperparameters
from fieldtune.server.bo.shared_space import shared
from fieldtune.server.bo.transfer import TRANSFERRED, Earlier, Prior

pytestmark = pytest.mark.integration

SPACE: dict[str, BaseDistribution] = {
    "width": CategoricalDistribution([8, 16, 32, 64]),
    "epochs": IntDistribution(1, 20),
    "lr": FloatDistribution(1e-4, 1.0, log=True),
}
Error = Callable[[Mapping[str, Any]], float]


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def error(p: Mapping[str, Any], best_lr: float = -1.5) -> float:
    line = -1.5 + 1.5 * (math.log10(p["lr"]) - best_lr) ** 2 - 0.4 * math.log2(p["width"])
    return 1 / (1 + math.exp(-line - 2 / math.sqrt(p["epochs"])))


def energy(p: Mapping[str, Any]) -> float:
    return float(p["width"] * p["epochs"] / 100)


def known(p: Mapping[str, Any]) -> Known:
    return Known({1: energy(p)}, {"energy": energy(p) / 2 - 1})


def earlier(measured: Error, count: int = 30, seed: int = 0) -> Earlier:
    rng = np.random.default_rng(seed)
    tried = [
        {"width": int(rng.choice([8, 16, 32, 64])), "epochs": int(rng.integers(1, 21)),
         "lr": float(10 ** rng.uniform(-4, 0))}
        for _ in range(count)
    ]  # fmt: skip
    return Earlier(SPACE, tried, {0: [measured(p) for p in tried]})


def after(prior: Sequence[Earlier], trials: int, seed: int) -> float:
    """Hypervolume of what a study finds."""
    study = optuna.create_study(
        sampler=GreySampler(known=known, space=SPACE, seed=seed, prior=prior),
        directions=["minimize"] * 2,
    )
    rng = np.random.default_rng(seed)
    for _ in range(trials):
        trial = study.ask(SPACE)
        told = float(np.clip(error(trial.params) + rng.normal(0, 0.005), 0, 1))
        study.tell(trial, [told, energy(trial.params)])
    values = np.array([[error(t.params), energy(t.params)] for t in study.trials])
    return float(moocore.hypervolume(values[values[:, 1] <= 2], ref=[0.6, 2.0]))


def mean_after(prior: Sequence[Earlier], trials: int) -> float:
    return float(np.mean([after(prior, trials, seed) for seed in range(4)]))


@cache
def mean_without(trials: int) -> float:
    return mean_after([], trials)


def test_a_related_study_is_worth_several_trials() -> None:
    related = earlier(lambda p: error(p, best_lr=-1.2))
    assert mean_after([related], TRANSFERRED) > mean_after([], 2 * TRANSFERRED)


@pytest.mark.parametrize(
    "measured",
    [lambda p: 1 - error(p), lambda p: (hash(p["lr"]) % 997) / 997],
    ids=["opposed", "random"],
)
def test_an_unrelated_study_costs_next_to_nothing(measured: Error) -> None:
    assert mean_after([earlier(measured)], 18) > 0.95 * mean_without(18)


def test_a_study_that_ranks_results_wrongly_is_not_asked_what_to_try_next() -> None:
    encoding = Encoding.of(SPACE)
    opposed, related = earlier(lambda p: 1 - error(p)), earlier(error)
    evaluator = FormulaEvaluator(encoding, known, [1.0, 1.0])
    pool = fill_pool(encoding, evaluator, 0).candidates
    tried = earlier(error, count=3, seed=5).configurations
    units = np.array([encoding.unit(p) for p in tried])
    told = np.array([[error(p), energy(p)] for p in tried])

    def transferred(*studies: Earlier, results: int) -> int:
        prior = Prior(encoding, SPACE, [1.0, 1.0], studies)
        return len(prior.transferred(pool, evaluator, units[:results], told[:results]))

    for results in (0, 1, 3):
        assert 0 < transferred(related, results=results) <= TRANSFERRED
        assert (transferred(opposed, results=results) > 0) == (
            results < 2
        )  # one is in no order yet
    both = Prior(encoding, SPACE, [1.0, 1.0], [opposed, related]).transferred(
        pool, evaluator, units, told
    )
    alone = Prior(encoding, SPACE, [1.0, 1.0], [related]).transferred(pool, evaluator, units, told)
    assert np.array_equal(both.units, alone.units)


def test_among_several_the_related_one_is_found() -> None:
    encoding = Encoding.of(SPACE)
    opposed, related = earlier(lambda p: 1 - error(p)), earlier(error)
    prior = Prior(encoding, SPACE, [1.0, 1.0], [opposed, related])
    tried = earlier(error, count=12, seed=5)
    units = np.array([encoding.unit(p) for p in tried.configurations])
    line = np.array(tried.values[0])
    line = (line - line.mean()) / line.std()
    own = process(encoding, units, line)
    found = prior.expectation(0, units, line, own)
    assert found is not None
    trust, expected = found
    assert trust > 0.5
    assert np.corrcoef(expected(units), line)[0, 1] > 0.9
    alone = Prior(encoding, SPACE, [1.0, 1.0], [opposed]).expectation(0, units, line, own)
    assert alone is None


def process(encoding: Encoding, units: np.ndarray, line: np.ndarray) -> GaussianProcess:
    groups = list(range(len(encoding.groups)))
    return GaussianProcess(
        encoding.features(units), line, groups, Hyperparameters.prior(len(groups))
    )


def test_each_observation_is_predicted_as_if_it_had_not_been_made() -> None:
    encoding, tried = Encoding.of(SPACE), earlier(error, count=9)
    units = np.array([encoding.unit(p) for p in tried.configurations])
    line = np.array(tried.values[0])
    without = process(encoding, units, line).without_each(line)
    for i in range(len(line)):
        others = np.arange(len(line)) != i
        rest = process(encoding, units[others], line[others])
        mean, _ = rest.predict(encoding.features(units[i : i + 1]))
        assert without[i] == pytest.approx(mean[0], rel=1e-6)


def test_spaces_share_what_has_values_in_common() -> None:
    theirs = {
        "width": CategoricalDistribution([4, 16]),
        "epochs": FloatDistribution(0.5, 4.0),
        "lr": CategoricalDistribution(["low", "high"]),
        "momentum": FloatDistribution(0.0, 1.0),
    }
    common = shared(SPACE, theirs)
    assert set(common) == {"width", "epochs"}
    assert common["width"] == CategoricalDistribution([8, 16, 32, 64, 4])
    assert common["epochs"] == FloatDistribution(0.5, 20.0)


def test_a_value_keeps_its_place_on_a_wider_axis() -> None:
    ours, wider = ParameterAxis(SPACE["lr"]), ParameterAxis(FloatDistribution(1e-5, 10.0, log=True))
    units = np.array([0.0, 0.3, 1.0, np.nan])
    moved = ours.onto(wider, units)
    assert wider.values(moved)[:3] == pytest.approx(ours.values(units)[:3])
    assert math.isnan(moved[3])
    some = ParameterAxis(CategoricalDistribution(["b", "a"]))
    points = np.array([some.unit("b"), some.unit("a")])
    onto = some.onto(ParameterAxis(CategoricalDistribution(["a"])), points)
    assert math.isnan(onto[0])
    assert onto[1] == 0.5


def test_other_spaces_and_scales_do_not_matter_to_what_was_learned() -> None:
    rng = np.random.default_rng(1)
    tried = [{"lr": float(10 ** rng.uniform(-5, 1)), "kind": "x"} for _ in range(30)]
    theirs = Earlier(
        {"lr": FloatDistribution(1e-5, 10.0, log=True), "kind": CategoricalDistribution(["x"])},
        tried,
        {0: [100 * (math.log10(p["lr"]) + 1.5) ** 2 for p in tried]},
    )
    assert mean_after([theirs], TRANSFERRED) > mean_after([], TRANSFERRED)


def test_what_says_nothing_changes_nothing() -> None:
    def proposals(prior: Sequence[Earlier]) -> list[dict[str, Any]]:
        study = optuna.create_study(
            sampler=GreySampler(known=known, space=SPACE, prior=prior, seed=0),
            directions=["minimize"] * 2,
        )
        for _ in range(8):
            trial = study.ask(SPACE)
            study.tell(trial, [error(trial.params), energy(trial.params)])
        return [trial.params for trial in study.trials]

    constant, few = earlier(lambda _: 0.5), earlier(error, count=3)
    not_a_number, other = earlier(lambda _: math.nan), Earlier({"z": SPACE["lr"]}, [{"z": 0.1}], {})
    assert proposals([constant, few, not_a_number, other]) == proposals([])


def test_a_killed_study_goes_on_alike_after_an_earlier_one(tmp_path: Path) -> None:
    def run(storage: str, interrupted: bool) -> list[dict[str, Any]]:
        for part in range(9 if interrupted else 1):
            study = optuna.create_study(
                study_name="s",
                sampler=GreySampler(known=known, space=SPACE, prior=[earlier(error)], seed=0),
                directions=["minimize"] * 2,
                storage=storage,
                load_if_exists=part > 0,
            )
            for _ in range(1 if interrupted else 9):
                trial = study.ask(SPACE)
                study.tell(trial, [error(trial.params), energy(trial.params)])
        return [trial.params for trial in study.trials]

    whole = run(f"sqlite:///{tmp_path / 'whole.db'}", interrupted=False)
    assert run(f"sqlite:///{tmp_path / 'parts.db'}", interrupted=True) == whole
