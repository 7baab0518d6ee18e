"""The phases of a study, and which finalists are run again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import optuna
import pytest

from fieldtune.profiles.common.errors import StudyError
from fieldtune.server.outcomes.trial import Completed, Forecast, Infeasible, Learned, Proposal
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.load import parse_study
from fieldtune.server.study.objectives import MEASURES
from fieldtune.server.study.space import Configuration
from fieldtune.server.study.tuner_options import FEWEST_PREDICTED
from fieldtune.server.tuner import GreySampler
from fieldtune.server.tuner.predictions import Predictions, estimates
from fieldtune.server.tuner.schedule import Schedule, defaults_again, merged, next_finalist

STUDY = """
[study]
name = "s"
trials = 40
rounds = 9
objectives = ["error", "loss"]
[task]
data = "digits"
model = "mlp"
[fleet]
clients = 4
devices = { "raspberry-pi-5" = 1.0 }
[space.client]
learning_rate = { low = 0.0, high = 1.0 }
[tuner]
name = "NAME"
phases = PHASES
"""


def study(phases: str = "{}", name: str = "grey") -> StudyConfig:
    return parse_study(STUDY.replace("PHASES", phases).replace("NAME", name), "s")


def configuration(rate: float) -> Configuration:
    return Configuration({}, {"learning_rate": rate}, {})


def completed(number: int, rate: float, error: float, loss: float) -> Completed:
    measures = {"error": error, "loss": loss}
    learned = Learned(measures, 100, 0, {}, simulated=True)
    return Completed(
        Proposal(number, configuration(rate)), Forecast({}, (), {}), learned, measures, number
    )


def predicted(known: Sequence[Completed]) -> Predictions:
    if len(known) < FEWEST_PREDICTED:
        return {"error": {}, "loss": {}}
    stored = optuna.create_study(directions=["minimize"] * 2)
    space = {"learning_rate": optuna.distributions.FloatDistribution(0, 1)}
    for each in known:
        params, values = each.proposal.configuration.flat(), list(each.objectives.values())
        stored.add_trial(optuna.create_trial(params=params, distributions=space, values=values))
    numbers = {each.proposal.number: each.proposal.configuration.flat() for each in known}
    return {
        name: estimates(MEASURES[name], of_objective, known, sampling=False)
        for name, of_objective in zip(
            ("error", "loss"), GreySampler(seed=0).predict(stored, numbers), strict=True
        )
        if of_objective
    }


def next_one(known: Sequence[Completed], flying: Sequence[Proposal] = ()) -> Configuration | None:
    return next_finalist(study(), known, known, flying, predicted(known))


def test_a_phase_follows_from_the_share_of_the_budget_that_is_used() -> None:
    schedule = Schedule(study("{ explore = 0.1, tune = 0.2, validate = 0.1 }"))
    phases = [schedule.phase(trial, trial / 40) for trial in range(40)]
    assert phases == ["explore"] * 4 + ["refine"] * 24 + ["tune"] * 8 + ["validate"] * 4


def test_without_phases_the_space_is_explored_evenly_and_then_refined() -> None:
    schedule = Schedule(study())
    assert [schedule.phase(trial, trial / 40) for trial in range(40)][3:5] == ["explore", "refine"]
    assert schedule.phase(39, 39 / 40) == "refine"


@pytest.mark.parametrize(
    ("phases", "name", "sentence"),
    [
        ("{ explore = 0.7, tune = 0.7 }", "grey", "take 1.4 of the budget: shares must sum to 1"),
        ("{ explore = 0.2, refine = 0.2 }", "grey", "take 0.4 of the budget"),
        ("{ tune = 0.2 }", "tpe", "has the phase tune, which 'tpe' does not know: choose 'grey'"),
        ("{ polish = 0.2 }", "grey", "polish"),
    ],
)
def test_phases_that_make_no_sense_are_a_sentence(phases: str, name: str, sentence: str) -> None:
    with pytest.raises(StudyError, match=sentence):
        study(phases, name)
    assert study("{ validate = 0.2 }", "tpe").tuner.phases


def spread(count: int, noise: float) -> list[Completed]:
    """Trials along a line on which error falls and loss rises."""
    rng = np.random.default_rng(0)
    return [
        completed(i, rate, 0.1 + 0.5 * (1 - rate) + float(rng.normal(0, noise)), 1 + rate)
        for i, rate in enumerate(np.linspace(0, 1, count).tolist())
    ]


def test_the_finalist_in_doubt_that_was_run_least_comes_next() -> None:
    known = spread(20, noise=0.03)
    first = next_one(known)
    assert first is not None
    again = Proposal(20, first)
    second = next_one(known, [again])
    assert second not in (None, first)


def test_of_finalists_run_as_often_what_beats_the_defaults_comes_first() -> None:
    (rate,) = study().full_space.defaults().client.values()
    defaults = completed(0, float(rate), 0.3, 2.0)
    known = [defaults, completed(1, 0.2, 0.2, 3.0), completed(2, 0.6, 0.25, 1.9)]
    assert next_one(known) == configuration(0.6)
    again = Proposal(3, configuration(0.6))
    assert next_one(known, [again]) == configuration(0.2)


def test_the_defaults_are_run_again_after_ten_trials_and_after_twenty() -> None:
    defaults = study().full_space.defaults()
    known = [replace(completed(0, 0.5, 0.2, 2.0), proposal=Proposal(0, defaults))]
    again = []
    for number in range(1, 40):
        asked = defaults_again(study(), len(known), known, known, [])
        again += [number] if asked else []
        proposal = Proposal(number, asked or configuration(number / 100))
        known.append(replace(completed(number, 0.5, 0.2, 2.0), proposal=proposal))
    assert again == [10, 20]
    flying = [Proposal(10, defaults)]
    assert defaults_again(study(), 10, known[:10], known[:10], []) == defaults
    assert defaults_again(study(), 11, known[:10], known[:10], flying) is None
    infeasible = [Infeasible(Proposal(0, defaults), Forecast({}, (), {})), *known[1:]]
    assert defaults_again(study(), 39, infeasible, infeasible, []) is None


def test_what_the_limits_have_come_to_rule_out_is_no_finalist() -> None:
    known = spread(20, noise=0.03)
    first = next_one(known)
    assert first is not None
    ruled_out = Infeasible(Proposal(20, first), Forecast({}, (), {}))
    assert next_finalist(study(), known, [*known, ruled_out], [], predicted(known)) != first


def test_nothing_is_in_doubt_where_one_beats_all_others_by_far() -> None:
    known = [
        completed(i, rate, 0.05 + 0.9 * rate, 1 + 3 * rate)
        for i, rate in enumerate(np.linspace(0, 1, 20).tolist())
    ]
    assert next_one(known) is None


def test_with_too_few_trials_for_a_model_the_front_is_run_again() -> None:
    known = [completed(0, 0.5, 0.2, 2.0), completed(1, 0.6, 0.3, 3.0)]
    assert next_one(known) == configuration(0.5)


def test_runs_of_one_configuration_are_one_point_with_their_mean() -> None:
    known = [
        completed(0, 0.5, 0.2, 2.0),
        completed(1, 0.6, 0.3, 3.0),
        completed(2, 0.5, 0.4, 4.0),
    ]
    (once, twice), (other, single) = merged(known)
    assert (once.proposal.number, twice, other.proposal.number, single) == (0, 2, 1, 1)
    assert once.objectives == once.learned.measures == pytest.approx({"error": 0.3, "loss": 3.0})
    assert once.learned.samples == 100
