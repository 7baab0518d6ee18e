"""Parameters that only some configurations have, and samplers and threads around the sampler."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState

from fieldtune.server.bo import GreySampler, Known
from fieldtune.server.bo.encoding import Encoding
from fieldtune.server.bo.structure import Structures

KINDS = {"mlp": "units", "cnn": "filters", "tree": "depth"}
SPACE: dict[str, BaseDistribution] = {
    "kind": CategoricalDistribution(list(KINDS)),
    "rate": FloatDistribution(0.0, 1.0),
    **{name: IntDistribution(1, 20) for name in KINDS.values()},
}
CONDITIONS = {name: {"kind": [kind]} for kind, name in KINDS.items()}


def cost(params: Mapping[str, Any]) -> float:
    return float(params[KINDS[params["kind"]]])  # a KeyError for a mixture of kinds


def known(params: Mapping[str, Any]) -> Known:
    return Known({1: cost(params)}, {"cost": cost(params) / 12 - 1})


def strict(params: Mapping[str, Any]) -> Known | None:
    """None for a mixture, as a user may write it."""
    return known(params) if set(params) == {"kind", "rate", KINDS[params["kind"]]} else None


def suggest(trial: optuna.Trial) -> None:
    kind = trial.suggest_categorical("kind", list(KINDS))
    trial.suggest_float("rate", 0.0, 1.0)
    trial.suggest_int(KINDS[kind], 1, 20)


def result(params: Mapping[str, Any]) -> tuple[float, float]:
    best = {"mlp": 0.2, "cnn": 0.5, "tree": 0.8}[params["kind"]]
    return best + (params["rate"] - best) ** 2 + 1 / cost(params), cost(params)


def objective(trial: optuna.Trial) -> tuple[float, float]:
    suggest(trial)
    return result(trial.params)


def study_of(**options: Any) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        sampler=GreySampler(**{"seed": 0, **options}), directions=["minimize"] * 2
    )


@pytest.mark.parametrize("formulas", [known, strict])
@pytest.mark.parametrize("seed", range(3))
def test_formulas_of_kinds_hold_and_each_kind_is_tried_in_the_start(
    formulas: Any, seed: int
) -> None:
    study = study_of(known=formulas, seed=seed)
    study.optimize(objective, n_trials=24)
    kinds = [trial.params["kind"] for trial in study.trials]
    assert set(kinds[:5]) == set(KINDS)
    # Of each kind, only the first trial is drawn without regard to limits.
    over = Counter(trial.params["kind"] for trial in study.trials if cost(trial.params) > 12)
    assert max(over.values(), default=0) <= 1
    assert kinds[12:].count("mlp") > 6  # which is the best


def test_of_a_declared_structure_limits_hold_from_the_first_trial_on() -> None:
    study = study_of(known=known, space=SPACE, conditions=CONDITIONS)
    study.optimize(objective, n_trials=12)
    assert max(cost(trial.params) for trial in study.trials) <= 12
    assert {trial.params["kind"] for trial in study.trials[:3]} == set(KINDS)


def test_a_condition_on_a_parameter_that_is_not_declared_is_a_sentence() -> None:
    with pytest.raises(ValueError, match="units names kind, which is not in space"):
        GreySampler(space={"units": SPACE["units"]}, conditions={"units": {"kind": ["mlp"]}})


def test_a_formula_that_fails_for_every_configuration_is_not_hidden() -> None:
    def misspelt(params: Mapping[str, Any]) -> Known:
        return Known({1: params["untis"]})

    space = {"rate": SPACE["rate"]}
    with pytest.raises(KeyError, match="untis"):
        study_of(known=misspelt, space=space).ask(space)
    with pytest.raises(ValueError, match="known returned None for every configuration"):
        study_of(known=lambda _: None, space=space).ask(space)


def test_nested_and_counted_parameters_are_learned_from_trials() -> None:
    """How many layers there are is a number; of two optimizers, one has a momentum."""
    space = {
        "layers": IntDistribution(1, 3),
        **{f"units_{n}": IntDistribution(1, 9) for n in range(3)},
        "optimizer": CategoricalDistribution(["sgd", "adam"]),
        "nesterov": CategoricalDistribution([False, True]),
        "momentum": FloatDistribution(0.0, 1.0),
    }
    encoding = Encoding.of(space, set(space) - {"layers", "optimizer", "units_0"})
    rng, trials = np.random.default_rng(0), list[dict[str, Any]]()
    for _ in range(24):
        layers, sgd, nesterov = int(rng.integers(1, 4)), rng.random() < 0.5, rng.random() < 0.5
        trial = {"layers": layers, **{f"units_{n}": 5 for n in range(layers)}}
        trial |= {"optimizer": "sgd", "nesterov": nesterov} if sgd else {"optimizer": "adam"}
        trials.append(trial | ({"momentum": 0.9} if sgd and nesterov else {}))
    structures = Structures(encoding)
    structures.learn(encoding.snap(np.array([encoding.unit(each) for each in trials])))
    whole = encoding.snap(rng.random((200, len(space))))
    restricted, seen = structures.restrict(whole)
    assert seen.all()
    for values in encoding.values(restricted):
        sgd = values["optimizer"] == "sgd"
        assert sum(name.startswith("units_") for name in values) == values["layers"]
        assert ("nesterov" in values) == sgd
        assert ("momentum" in values) == (sgd and values["nesterov"])


def test_a_trial_that_ended_before_it_had_all_parameters_is_no_structure() -> None:
    study = study_of(known=known)
    for number in range(12):
        trial = study.ask()
        if number % 3 == 1:
            trial.suggest_categorical("kind", list(KINDS))
            study.tell(trial, state=TrialState.FAIL)
        else:
            suggest(trial)
            study.tell(trial, result(trial.params))
    assert all(len(trial.params) in (1, 3) for trial in study.trials)


@pytest.mark.filterwarnings("ignore:PartialFixedSampler is experimental")
@pytest.mark.parametrize("declared", [True, False])
def test_what_a_partial_fixed_sampler_fixes_is_known_to_the_formulas(declared: bool) -> None:
    options = {"space": SPACE, "conditions": CONDITIONS} if declared else {}
    study = study_of(known=known, **options)
    study.sampler = optuna.samplers.PartialFixedSampler({"kind": "cnn"}, study.sampler)
    study.optimize(objective, n_trials=10)
    assert {trial.params["kind"] for trial in study.trials} == {"cnn"}
    assert max(trial.params["filters"] for trial in study.trials[1 - declared :]) <= 12


def test_without_a_seed_two_samplers_differ() -> None:
    first, second = (study_of(known=known, space=SPACE, seed=None) for _ in range(2))
    assert first.ask(SPACE).params != second.ask(SPACE).params


def test_threads_repeat_nothing_while_there_is_something_new() -> None:
    grid = {"x": IntDistribution(1, 6), "y": IntDistribution(1, 6)}
    study = study_of(known=lambda p: Known({1: float(p["x"])}), space=grid)

    def slowly(trial: optuna.Trial) -> tuple[float, float]:
        x, y = (trial.suggest_int(name, 1, 6) for name in grid)
        return (x - 3) ** 2 + (y - 4) ** 2, float(x)

    study.optimize(slowly, n_trials=24, n_jobs=4)
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 24


def test_what_is_proposed_is_in_flight_before_its_trial_has_stored_it() -> None:
    grid = {"x": IntDistribution(1, 3)}
    study = study_of(known=lambda p: Known({1: float(p["x"])}), space=grid)
    trials = [study.ask() for _ in range(3)]  # no parameter is taken yet
    assert {trial.suggest_int("x", 1, 3) for trial in trials} == {1, 2, 3}


def test_a_sampler_can_be_copied_to_another_process() -> None:
    study = study_of(space=SPACE, conditions=CONDITIONS)
    study.optimize(objective, n_trials=2)
    copied = copy.deepcopy(study)  # as pickle does it
    assert copied.ask().relative_params == study.ask().relative_params
