"""The phases of a study, and which finalists are run again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fieldtune.profiles.common.errors import StudyError
from fieldtune.profiles.common.estimate import Estimate
from fieldtune.server.outcomes.trial import (
    Completed,
    DeviceForecast,
    Forecast,
    Infeasible,
    Learned,
    Outcome,
    Proposal,
)
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.load import parse_study
from fieldtune.server.study.space import Configuration
from fieldtune.server.tuner.finalists import merged, next_finalist
from fieldtune.server.tuner.schedule import VALIDATED, Schedule, defaults_again, untried_model

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
    cost: Any = None  # both objectives are learned
    devices = {"raspberry-pi-5": DeviceForecast(4, 4, cost, {})}
    return Completed(
        Proposal(number, configuration(rate)), Forecast(devices, (), {}), learned, measures, number
    )


def test_a_phase_follows_from_the_share_of_the_budget_that_is_used() -> None:
    schedule = Schedule(study("{ explore = 0.1, tune = 0.2, validate = 0.1 }"))
    phases = [schedule.phase(trial, trial / 40) for trial in range(40)]
    assert phases == ["explore"] * 4 + ["refine"] * 24 + ["tune"] * 8 + ["validate"] * 4
    assert schedule.phase(38, 38 / 40, settled=True) == "tune"


def test_without_phases_the_space_is_explored_evenly_and_then_refined() -> None:
    schedule = Schedule(study())
    assert [schedule.phase(trial, trial / 40) for trial in range(40)][3:5] == ["explore", "refine"]


@pytest.mark.parametrize(
    ("phases", "name", "share"),
    [
        ("{}", "grey", VALIDATED),
        ("{}", "random", VALIDATED),
        ("{}", "fedex", 0.0),
        ("{ explore = 0.5, tune = 0.4 }", "grey", 0.1),
        ("{ explore = 0.5, refine = 0.5 }", "grey", 0.0),
        ("{ validate = 0.05 }", "grey", 0.05),
        ("{ validate = 0.0 }", "grey", 0.0),
    ],
)
def test_a_share_of_the_budget_is_for_repetitions(phases: str, name: str, share: float) -> None:
    schedule = Schedule(study(phases, name))
    repeated = [schedule.phase(trial, trial / 100) for trial in range(100)].count("validate")
    assert repeated == round(100 * share)


def test_in_a_long_study_it_is_looked_rarely_for_what_to_repeat() -> None:
    schedule = Schedule(study())
    assert all(schedule.looks(trials, 0.9, "refine") for trials in range(1, 256))
    assert sum(schedule.looks(trials, 0.9, "refine") for trials in range(4000, 4800)) <= 800 / 16
    assert schedule.looks(4001, 0.9, "validate")  # more may be needed after a repetition
    assert not schedule.looks(4999, 4999 / 5010, "refine")
    assert schedule.looks(4999, 4999 / 5000, "refine")  # the last chance


@pytest.mark.parametrize("size", [500, 5_000, 16_000, 30_000, 100_000])
def test_however_long_a_study_is_it_is_looked_in_its_last_fifth(size: int) -> None:
    schedule, last_fifth = Schedule(study()), range(size - size // 5, size - 50)
    looks = [n for n in last_fifth if schedule.looks(n, n / size, "refine")]
    assert len(looks) >= 3
    assert not any(schedule.is_last(n, n / size) for n in looks)


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


def started(*known: Completed) -> list[Completed]:
    """The study's defaults as trial 0, and more trials."""
    defaults = Proposal(0, study().full_space.defaults())
    return [replace(completed(0, 0.5, 0.3, 2.0), proposal=defaults), *known]


def test_by_default_nothing_is_repeated_before_there_is_a_model() -> None:
    known = started(completed(1, 0.6, 0.29, 1.9))
    assert next_finalist(study(), known, known, [], {"error": {}, "loss": {}}) is None
    stated = study("{ validate = 0.5 }")
    assert next_finalist(stated, known, known, [], {"error": {}, "loss": {}}) is not None


def test_what_may_be_worth_more_is_run_again_and_the_defaults_as_often() -> None:
    """Error and loss are learned; trial 1 is better in both, if one run can be believed."""
    known = started(completed(1, 0.6, 0.25, 1.5), completed(2, 0.9, 0.9, 9.0))
    doubt = {
        name: {o.proposal.number: Estimate(v, v / 1.2, v * 1.2) for o in known
               for v in [o.objectives[name]]}
        for name in ("error", "loss")
    }  # fmt: skip
    defaults = known[0].proposal
    rival = known[1].proposal.configuration
    assert next_finalist(study(), known, known, [], doubt) == defaults.configuration
    flying = [Proposal(3, defaults.configuration)]
    assert next_finalist(study(), known, known, flying, doubt) == rival
    # What limits have come to rule out is not repeated.
    ruled_out = [*known, Infeasible(Proposal(4, rival), Forecast({}, (), {}))]
    assert next_finalist(study(), known, ruled_out, flying, doubt) is None


def test_once_settled_what_is_recommended_has_run_twice() -> None:
    known = started(completed(1, 0.6, 0.05, 0.5), completed(2, 0.9, 0.9, 9.0))
    certain = {
        name: {o.proposal.number: Estimate(v, v / 1.01, v * 1.01) for o in known
               for v in [o.objectives[name]]}
        for name in ("error", "loss")
    }  # fmt: skip
    best = known[1].proposal.configuration
    assert next_finalist(study(), known, known, [], certain) == best
    assert next_finalist(study(), known, known, [Proposal(3, best)], certain) is None
    # With the last trials, the defaults are: trial 2 is too bad for that.
    again = next_finalist(study(), known, known, [Proposal(3, best)], certain, last=True)
    assert again == known[0].proposal.configuration


def test_what_is_new_is_tried_as_long_as_it_can_be_repeated() -> None:
    """Four trials are trained at a time: trial 35 is known when trial 39, the last, is proposed."""
    schedule = Schedule(study())
    assert [n for n in range(41) if schedule.is_last(n, n / 40)] == [36, 37, 38, 39, 40]


def test_each_model_is_tried_once_unless_limits_forbid_it() -> None:
    text = STUDY.replace('"mlp"', '["mlp", "cnn", "gru"]').replace(
        "[tuner]", "local_epochs = { low = 1, high = 9 }\n[space.model]\nwidth = [8, 64]\n[tuner]"
    )
    text = text.replace("width = [8, 64]", "width = { choices = [8, 64], default = 64 }")
    several = parse_study(text.replace("PHASES", "{}").replace("NAME", "grey"), "s")
    assert untried_model(study(), [], [Proposal(0, configuration(0.5))]) is None
    known: list[Outcome] = [
        replace(completed(0, 0.5, 0.3, 2.0), proposal=Proposal(0, several.full_space.defaults()))
    ]
    found = []
    while (new := untried_model(several, known, [])) is not None:
        proposal = Proposal(len(known), new)
        values = new.flat()
        found.append((values["model"], values["width"], values["local_epochs"]))
        flying = untried_model(several, known, [proposal])
        assert flying is None or flying.model["model"] != values["model"]
        outcome: Outcome = replace(completed(len(known), 0.5, 0.3, 2.0), proposal=proposal)
        if values["model"] == "cnn":  # limits forbid it, however small
            outcome = Infeasible(proposal, Forecast({}, (), {}))
        known.append(outcome)
    assert found == [("cnn", 64, 5), ("cnn", 8, 5), ("cnn", 8, 1), ("gru", 64, 5)]


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
