"""The sampler in plain Optuna studies: what it proposes, and what it puts up with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from fieldtune.server.bo import GreySampler, Known
from fieldtune.server.bo.encoding import Encoding
from fieldtune.server.bo.trial_choice import MOST_TRIALS

pytestmark = pytest.mark.integration  # runs studies

SPACE = {
    "width": optuna.distributions.CategoricalDistribution([8, 16, 32, 64]),
    "epochs": optuna.distributions.IntDistribution(1, 20),
    "kind": optuna.distributions.CategoricalDistribution(["a", "b"]),
    "lr": optuna.distributions.FloatDistribution(1e-4, 1.0, log=True),
}


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def energy(p: Mapping[str, Any]) -> float:
    return float(p["width"] * p["epochs"] / 100)


def known(p: Mapping[str, Any]) -> Known:
    return Known({1: energy(p)}, {"energy": energy(p) / 2 - 1})


def error(p: Mapping[str, Any], noise: float = 0.0) -> float:
    line = -1.5 + 1.5 * (math.log10(p["lr"]) + 1.5) ** 2 - 0.4 * math.log2(p["width"])
    line += 2 / math.sqrt(p["epochs"]) + 0.4 * (p["kind"] == "a") + noise
    return 1 / (1 + math.exp(-line))


def run(
    sampler: optuna.samplers.BaseSampler, trials: int, in_flight: int = 1, **options: Any
) -> optuna.Study:
    study = optuna.create_study(sampler=sampler, directions=["minimize"] * 2, **options)
    for _ in range(trials // in_flight):
        asked = [study.ask(SPACE) for _ in range(in_flight)]
        for trial in asked:
            study.tell(trial, [error(trial.params), energy(trial.params)])
    return study


def volume(study: optuna.Study) -> float:
    import moocore

    values = np.array([t.values for t in study.trials if energy(t.params) <= 2])
    return float(moocore.hypervolume(values, ref=[0.5, 2.0]))


def test_it_never_proposes_what_a_limit_rules_out() -> None:
    study = run(GreySampler(known=known, space=SPACE, seed=0), 30)
    assert max(energy(trial.params) for trial in study.trials) <= 2


def test_it_finds_more_than_a_random_search_within_the_same_limits() -> None:
    ours, theirs = [], []
    for seed in range(3):
        ours.append(volume(run(GreySampler(known=known, space=SPACE, seed=seed), 30)))
        study = optuna.create_study(directions=["minimize"] * 2)
        rng = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
        while len(study.trials) < 30:
            params = rng.ask(SPACE).params
            if energy(params) <= 2:
                study.add_trial(
                    optuna.create_trial(
                        values=[error(params), energy(params)], params=params, distributions=SPACE
                    )
                )
        theirs.append(volume(study))
    assert min(ours) > max(theirs)


def test_the_same_seed_gives_the_same_study_even_from_its_storage(tmp_path: Any) -> None:
    whole = run(GreySampler(known=known, seed=0), 12, study_name="s")
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    for _ in range(2):
        # A new sampler and a new connection for every six trials, as after a crash.
        run(
            GreySampler(known=known, seed=0),
            6,
            study_name="s",
            storage=storage,
            load_if_exists=True,
        )
    again = optuna.load_study(study_name="s", storage=storage)
    assert [t.params for t in again.trials] == [t.params for t in whole.trials]
    other = run(GreySampler(known=known, seed=1), 12)
    assert [t.params for t in other.trials] != [t.params for t in whole.trials]


def test_every_other_proposal_looks_for_what_beats_a_configuration_and_finds_more_of_it() -> None:
    today = {"width": 16, "epochs": 4, "kind": "b", "lr": 0.02}

    def beats(trial: optuna.trial.FrozenTrial) -> bool:
        cheap = energy(trial.params) <= energy(today)
        return bool(cheap and trial.values[0] < error(today))

    found: list[tuple[int, int]] = []
    for seed in range(3):
        ours, without = (
            run(GreySampler(known=known, space=SPACE, seed=seed, beat=beat), 24)
            for beat in (today, None)
        )
        found.append((sum(map(beats, ours.trials)), sum(map(beats, without.trials))))
        asked = [energy(trial.params) for trial in ours.trials]
        assert max(asked[6:16:2]) <= energy(today) < max(asked[7:16:2])
        assert max(asked[16::2]) > energy(today)  # there is no more to be gained
    assert sum(more for more, _ in found) > sum(fewer for _, fewer in found)


@pytest.mark.parametrize(
    ("beat", "sentence"),
    [
        ({"width": 16, "epochs": 4, "kind": "b"}, "to be beaten lacks the parameter lr"),
        ({"width": 12, "epochs": 4, "kind": "b", "lr": 0.1}, "has 12 for the parameter width"),
    ],
)
def test_a_configuration_to_be_beaten_that_is_none_of_the_space_is_a_sentence(
    beat: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        run(GreySampler(known=known, space=SPACE, beat=beat, seed=0), 12)


def test_trials_in_flight_differ() -> None:
    study = run(GreySampler(known=known, space=SPACE, seed=0), 24, in_flight=8)
    seen = [tuple(sorted(trial.params.items())) for trial in study.trials]
    assert len(set(seen)) == len(seen)


def test_without_formulas_it_learns_constraints_too() -> None:
    study = optuna.create_study(sampler=GreySampler(seed=0), directions=["minimize"] * 2)
    for _ in range(30):
        trial = study.ask(SPACE)
        trial.set_constraint("energy", energy(trial.params) / 2 - 1)
        study.tell(trial, [error(trial.params), energy(trial.params)])
    late = [energy(trial.params) <= 2 for trial in study.trials[12:]]
    early = [energy(trial.params) <= 2 for trial in study.trials[:6]]
    assert np.mean(late) > 0.75 > np.mean(early)


def test_formulas_that_are_wrong_by_a_third_are_mended_by_measurements() -> None:
    study = optuna.create_study(
        sampler=GreySampler(known=known, space=SPACE, seed=3), directions=["minimize"] * 2
    )
    for _ in range(30):
        trial = study.ask(SPACE)
        measured = 1.3 * energy(trial.params)
        trial.set_constraint("energy", measured / 2 - 1)
        study.tell(trial, [error(trial.params), measured])
    broken = [1.3 * energy(trial.params) > 2 for trial in study.trials]
    assert sum(broken[1:]) <= 1
    assert volume(study) > 0


def test_where_no_margin_is_left_it_tries_what_the_formulas_think_safest() -> None:
    def used(p: Mapping[str, Any]) -> float:
        return 0.9 + 0.0015 * float(p["width"])  # of 1: everything fits, nothing by much

    study = optuna.create_study(
        sampler=GreySampler(
            known=lambda p: Known({}, {"memory": used(p) - 1}), space=SPACE, seed=0
        ),
        directions=["minimize"],
    )
    for _ in range(20):
        trial = study.ask(SPACE)
        measured = used(trial.params) * (1 + 0.2 * math.sin(50 * math.log10(trial.params["lr"])))
        trial.set_constraint("memory", measured - 1)
        study.tell(trial, error(trial.params))
    # Not those of the least error, which the formulas allow as well.
    assert {trial.params["width"] for trial in study.trials} == {8}


@pytest.mark.parametrize("directions", [["minimize"], ["maximize", "minimize", "minimize"],
                                        ["minimize"] * 4])  # fmt: skip
def test_one_to_four_objectives_in_either_direction(directions: list[str]) -> None:
    study = optuna.create_study(sampler=GreySampler(seed=0), directions=directions)
    sign = -1 if directions[0] == "maximize" else 1
    for _ in range(14):
        trial = study.ask(SPACE)
        p = trial.params
        values = [sign * error(p), energy(p), p["epochs"], p["width"]]
        study.tell(trial, values[: len(directions)])
    best = min(sign * trial.values[0] for trial in study.trials)
    assert best < 0.35


def test_more_than_four_objectives_are_refused_at_the_first_ask() -> None:
    study = optuna.create_study(sampler=GreySampler(seed=0), directions=["minimize"] * 5)
    with pytest.raises(ValueError, match="at most 4 objectives, and this study has 5"):
        study.ask(SPACE)


def test_conditional_parameters_are_proposed_where_they_are_used() -> None:
    def objective(trial: optuna.Trial) -> tuple[float, float]:
        if trial.suggest_categorical("model", ["mlp", "cnn"]) == "cnn":
            kernel = trial.suggest_int("kernel", 1, 9)
            return (kernel - 5) ** 2 / 100 + 0.1, 2.0
        depth = trial.suggest_int("depth", 1, 4)
        return 0.4 / depth, depth / 2

    study = optuna.create_study(sampler=GreySampler(seed=0), directions=["minimize"] * 2)
    study.optimize(objective, n_trials=26)
    front = {tuple(trial.params.items()) for trial in study.best_trials}
    assert len(front) >= 3
    relative = [t for t in study.trials[8:] if t.params["model"] == "cnn"]
    assert min((abs(t.params["kernel"] - 5) for t in relative), default=0) <= 1


def test_limits_hold_for_conditional_parameters_once_a_trial_has_shown_who_has_them() -> None:
    def cost(params: Mapping[str, Any]) -> float:
        return float(params["width"] * params.get("epochs", 3))

    def said(params: Mapping[str, Any]) -> Known:
        return Known({1: cost(params)}, {"cost": cost(params) / 60 - 1})

    study = optuna.create_study(
        sampler=GreySampler(known=said, seed=1), directions=["minimize", "minimize"]
    )
    queue = {
        0: {"width": 4, "kind": "a", "epochs": 5},
        1: {"width": 4, "kind": "c"},
        # That these have epochs, or none, is shown after others were proposed.
        6: {"width": 4, "kind": "b", "epochs": 5},
        7: {"width": 4, "kind": "d"},
    }
    over = []
    for number in range(20):
        if number in queue:
            study.enqueue_trial(queue[number])
        trial = study.ask()
        width = trial.suggest_int("width", 1, 64, log=True)
        kind = trial.suggest_categorical("kind", ["a", "b", "c", "d"])
        if kind in ("a", "b"):
            trial.suggest_int("epochs", 1, 9, step=2)
        if number > 7 and cost(trial.params) > 60:
            over.append(trial.params)
        error = (0.2 if kind in ("b", "d") else 0.5) + 1 / (1 + width)
        study.tell(trial, [error, cost(trial.params)])
    assert not over


def test_failed_stopped_and_meaningless_trials_teach_it_to_go_elsewhere() -> None:
    study = optuna.create_study(
        sampler=GreySampler(known=known, seed=0), directions=["minimize"] * 2
    )
    for number in range(24):
        trial = study.ask(SPACE)
        if trial.params["kind"] == "a":
            study.tell(trial, state=TrialState.FAIL)
        elif number % 5 == 0:
            trial.set_user_attr(
                "fieldtune:partial", {"share": 0.3, "values": [error(trial.params), None]}
            )
            study.tell(trial, state=TrialState.PRUNED)
        elif number % 7 == 0:
            study.tell(trial, [math.inf, energy(trial.params)])
        else:
            study.tell(trial, [error(trial.params), energy(trial.params)])
    late = [trial.params["kind"] == "a" for trial in study.trials[12:]]
    assert np.mean(late) < 0.5


def test_a_study_of_which_every_trial_failed_goes_on() -> None:
    study = optuna.create_study(
        sampler=GreySampler(known=known, seed=0), directions=["minimize"] * 2
    )
    for _ in range(14):
        study.tell(study.ask(SPACE), state=TrialState.FAIL)
    assert len({tuple(trial.params.items()) for trial in study.trials}) == 14


def test_an_exhausted_space_and_a_single_point_repeat_themselves() -> None:
    small = {"kind": SPACE["kind"], "epochs": optuna.distributions.IntDistribution(1, 2)}
    for space in (small, {"kind": optuna.distributions.CategoricalDistribution(["a"])}):
        study = optuna.create_study(sampler=GreySampler(space=space, seed=0))
        for _ in range(9):
            trial = study.ask(space)
            study.tell(trial, float(trial.params.get("epochs", 1)))
        seen = {tuple(sorted(trial.params.items())) for trial in study.trials}
        assert len(seen) == (4 if space is small else 1)


def test_constant_objectives_do_no_harm() -> None:
    study = optuna.create_study(sampler=GreySampler(seed=0), directions=["minimize"] * 2)
    for _ in range(12):
        study.tell(study.ask(SPACE), [0.5, 1.0])
    assert len({tuple(trial.params.items()) for trial in study.trials}) == 12


def test_where_nothing_is_feasible_it_proposes_what_comes_nearest() -> None:
    def impossible(p: Mapping[str, Any]) -> Known:
        return Known({}, {"energy": energy(p) / 0.001 - 1})

    study = optuna.create_study(sampler=GreySampler(known=impossible, space=SPACE, seed=0))
    assert energy(study.ask(SPACE).params) == 0.08


def test_a_parameter_that_someone_has_fixed_stays_so() -> None:
    study = run(GreySampler(known=known, seed=0), 10)
    study.enqueue_trial({"width": 8, "epochs": 20})
    trial = study.ask(SPACE)
    assert (trial.params["width"], trial.params["epochs"]) == (8, 20)


def test_models_are_made_of_a_bounded_number_of_trials() -> None:
    rng = np.random.default_rng(0)
    study = optuna.create_study(
        sampler=GreySampler(known=known, seed=0), directions=["minimize"] * 2
    )
    drawn = [
        {"width": int(rng.choice([8, 16, 32, 64])), "epochs": int(rng.integers(1, 21)),
         "kind": str(rng.choice(["a", "b"])), "lr": float(10 ** rng.uniform(-4, 0))}
        for _ in range(700)
    ]  # fmt: skip
    study.add_trials(
        [
            optuna.create_trial(values=[error(p), energy(p)], params=p, distributions=SPACE)
            for p in drawn
        ]
    )
    study.ask(SPACE)
    sampler = study.sampler
    assert isinstance(sampler, GreySampler)
    (memory,) = sampler._memory.values()
    assert memory.search is not None
    assert len(memory.search._points._known) <= MOST_TRIALS


def test_fine_tuning_stays_close_to_the_front() -> None:
    study = run(GreySampler(known=known, space=SPACE, seed=0), 20)
    sampler = study.sampler
    assert isinstance(sampler, GreySampler)
    encoding = Encoding.of(SPACE)

    def distance(params: Mapping[str, Any]) -> float:
        """In the learning rate, to the nearest point of the front."""
        own = encoding.unit(params)[encoding_at("lr")]
        return min(abs(own - encoding.unit(t.params)[encoding_at("lr")]) for t in study.best_trials)

    def encoding_at(name: str) -> int:
        return list(encoding.axes).index(name)

    front = {(t.params["width"], t.params["epochs"]) for t in study.best_trials}
    sampler.phase = "tune"
    asked = [study.ask(SPACE) for _ in range(6)]
    assert all(energy(trial.params) <= 2 for trial in asked)
    assert max(distance(trial.params) for trial in asked) < 0.4
    assert front
    sampler.phase = "explore"
    anywhere = [study.ask(SPACE) for _ in range(6)]
    assert len({tuple(trial.params.items()) for trial in [*asked, *anywhere]}) == 12
