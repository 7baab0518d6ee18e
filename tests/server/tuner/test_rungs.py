"""Early stopping: who goes on from a rung."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from fieldtune.profiles.common.errors import StudyError
from fieldtune.server.outcomes.trial import Completed, Forecast, Learned, Outcome, Proposal, Stopped
from fieldtune.server.study.load import parse_study
from fieldtune.server.study.space import Configuration
from fieldtune.server.tuner.early_stopping import Rungs, among_best, at_rung, ranked

STUDY = """
[study]
name = "s"
trials = 9
rounds = 9
objectives = ["error", "-macro_f1"]
[task]
data = "digits"
model = "mlp"
[fleet]
clients = 4
devices = { "raspberry-pi-5" = 1.0 }
[space.client]
learning_rate = { low = 0.1, high = 1.0 }
[tuner]
name = "NAME"
"""
NOWHERE = Forecast({}, (), {})
POINTS = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=12, unique=True)


def measures(error: float, macro_f1: float = 0.5) -> dict[str, float]:
    return {"error": error, "macro_f1": macro_f1}


def trial(
    curve: Mapping[int, Mapping[str, float]], *, stopped: bool = False
) -> Completed | Stopped:
    last = max(curve)
    learned = Learned(
        curve[last], 1, 0, {}, simulated=True, rounds=last, curve=curve, stopped=stopped
    )
    about = Proposal(0, Configuration({}, {}, {})), NOWHERE, learned, dict(curve[last]), 0
    return Stopped(*about, last) if stopped else Completed(*about)


def test_fronts_come_first_and_within_one_what_adds_most() -> None:
    lone, near, nearer, dominated = (0.0, 1.0), (0.9, 0.05), (0.91, 0.04), (0.95, 0.9)
    assert ranked(np.array([dominated, near, lone, nearer]))[0] == 2
    assert ranked(np.array([dominated, near, lone, nearer]))[-1] == 0
    assert ranked(np.array([(0.5, 0.5), (0.5, 0.5)])) == [0, 1]


def test_one_in_three_goes_on_once_there_are_three_to_compare_with() -> None:
    others = np.array([[0.1, 0.1], [0.2, 0.2], [0.3, 0.3]])
    assert not among_best(np.array([0.4, 0.4]), others, 3.0)
    assert not among_best(np.array([0.25, 0.25]), others, 3.0)
    assert among_best(np.array([0.15, 0.15]), others, 3.0)
    assert among_best(np.array([0.4, 0.4]), others[:2], 3.0)


def test_one_objective_is_ranked_by_its_value_alone() -> None:
    assert ranked(np.array([[0.3], [0.1], [0.2], [0.1]])) == [1, 3, 2, 0]
    assert among_best(np.array([0.1]), np.array([[0.2], [0.3], [0.4]]), 3.0)
    assert not among_best(np.array([0.5]), np.array([[0.2], [0.3], [0.4]]), 3.0)


@given(POINTS)
def test_what_is_better_than_everyone_goes_on_and_what_is_worst_does_not(
    points: list[tuple[float, float]],
) -> None:
    others = np.array(points)
    assert among_best(others.min(axis=0) - 0.1, others, 3.0)
    assert among_best(others.max(axis=0) + 0.1, others, 3.0) == (len(others) < 3)


@given(POINTS, st.permutations(range(12)))
def test_the_order_of_the_others_does_not_matter(
    points: list[tuple[float, float]], order: list[int]
) -> None:
    others = np.array(points)
    shuffled = others[[i for i in order if i < len(others)]]
    own = others.mean(axis=0)
    assert among_best(own, others, 2.0) == among_best(own, shuffled, 2.0)


def test_trials_are_compared_by_what_they_were_at_the_same_rung() -> None:
    rungs = Rungs(parse_study(STUDY.replace("NAME", "mo-asha"), "s"))
    assert rungs.rounds == (1, 3)
    late = [trial({1: measures(0.6), 3: measures(0.5), 9: measures(0.1 + i / 100)}) for i in (1, 2)]
    early = trial({1: measures(0.9)}, stopped=True)
    assert rungs.goes_on(3, NOWHERE, measures(0.7), [*late, early])  # there are two
    assert not rungs.goes_on(1, NOWHERE, measures(0.7), [*late, early])
    assert rungs.goes_on(1, NOWHERE, measures(0.55), [*late, early])
    # A maximised objective counts the other way round.
    assert rungs.goes_on(1, NOWHERE, measures(0.7, macro_f1=0.9), [*late, early])
    assert not rungs.goes_on(1, NOWHERE, measures(float("nan")), [])


@pytest.mark.parametrize(
    ("name", "budget", "rounds", "rungs"),
    [
        ("grey", "trials = 9", 9, ()),  # stopping one of nine trials would buy no tenth
        ("grey", "device_hours = 9", 9, (3,)),
        ("grey", "trials = 9\nenergy_j = 9", 9, (3,)),
        ("grey", "sent_bytes = 9", 2, ()),
        ("mo-asha", "trials = 9", 9, (1, 3)),
        ("mo-asha", "trials = 9", 3, (1,)),
        ("random", "device_hours = 9", 9, ()),
    ],
)
def test_rungs_that_a_study_has_unless_it_names_them(
    name: str, budget: str, rounds: int, rungs: tuple[int, ...]
) -> None:
    text = STUDY.replace("NAME", name).replace("trials = 9", budget)
    text = text.replace("rounds = 9", f"rounds = {rounds}")
    assert parse_study(text, "s").rungs == rungs
    assert parse_study(text + "rungs = []", "s").rungs == ()


def test_what_diverged_before_a_rung_is_there_what_it_came_to() -> None:
    diverged = trial({2: measures(0.9)})
    diverged.learned.curve.clear()  # type: ignore[attr-defined]
    assert at_rung(diverged, 3) == measures(0.9)
    assert at_rung(trial({1: measures(0.9)}, stopped=True), 3) is None
    assert at_rung(trial({9: measures(0.9)}), 3) is None  # a finalist passes no rung


def test_each_outcome_is_read_back_as_what_it_was() -> None:
    adapter: TypeAdapter[Outcome] = TypeAdapter(Outcome)
    for outcome in (
        trial({1: measures(0.9)}, stopped=True),
        trial({1: measures(0.6), 9: measures(0.5)}),
    ):
        assert adapter.validate_json(adapter.dump_json(outcome)) == outcome


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("rungs = [3, 9]", "rungs has 9, but a trial has 9 rounds: a rung must come before"),
        ("rungs = [3, 1]", "list each round once, in ascending order"),
        ("rungs = [0]", "greater than or equal to 1"),
        ("reduction = 2.0", "no rungs at which it would hold: set tuner.rungs too"),
        ("rungs = [3]\nreduction = 1.0", "greater than 1"),
    ],
)
def test_rungs_that_make_no_sense_are_a_sentence(line: str, sentence: str) -> None:
    with pytest.raises(StudyError, match=sentence.replace("[", r"\[")):
        parse_study(STUDY.replace("NAME", "random") + line, "s")


def test_a_reduction_where_trials_are_too_short_for_a_rung_is_a_sentence() -> None:
    short = STUDY.replace("NAME", "mo-asha").replace("rounds = 9", "rounds = 1")
    with pytest.raises(StudyError, match="at which it would hold: leave it out"):
        parse_study(short + "reduction = 2.0", "s")
