"""What is updated outcome by outcome is what is computed from all outcomes at once."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from fieldtune.profiles.common.estimate import Estimate
from fieldtune.server.costs.calibration import Calibrator, corrections
from fieldtune.server.costs.cost_model import CostModel
from fieldtune.server.costs.rescore import Rescorer, rescore
from fieldtune.server.costs.usage import RunningUsage, total_usage
from fieldtune.server.outcomes.front import RunningFront, non_dominated
from fieldtune.server.outcomes.trial import (
    Completed,
    Expense,
    Forecast,
    Infeasible,
    Learned,
    Observation,
    Observed,
    Outcome,
    Proposal,
)
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.objectives import MEASURES
from fieldtune.server.study.space import Configuration

positive = st.floats(0.1, 10.0)
observations = st.builds(
    Observation,
    predicted=positive.map(lambda value: Estimate(value, value / 2, 2 * value)),
    reported=st.one_of(positive, st.just(0.0)),
    reports=st.just(3),
    simulated=st.booleans(),
)
observed = st.dictionaries(
    st.sampled_from(["a", "b"]),
    st.builds(
        Observed,
        st.dictionaries(st.sampled_from(["training", "memory"]), observations),
        left_out=st.just(0),
    ),
)


def trial(number: int, seen: dict[str, Observed]) -> Outcome:
    proposal = Proposal(number, Configuration({}, {}, {}))
    learned = Learned({}, 1, 1.0, {}, simulated=False)
    return Completed(proposal, Forecast({}, (), {}), learned, {}, 0, seen)


@given(st.lists(observed, max_size=8), st.data())
def test_corrections_are_the_same_bit_for_bit(
    seen: list[dict[str, Observed]], data: st.DataObject
) -> None:
    outcomes = [trial(number, each) for number, each in enumerate(seen)]
    running = Calibrator()
    for _ in range(6):
        count = data.draw(st.integers(0, len(outcomes)))
        assert running.corrections(outcomes[:count]) == corrections(outcomes[:count])
    if outcomes:  # one was trained again
        outcomes[0] = replace(outcomes[0], observed={})
        assert running.corrections(outcomes) == corrections(outcomes)


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(0, 12), st.booleans())
def test_usage_is_the_same_bit_for_bit(seconds: list[int], told: int, again: bool) -> None:
    outcomes = [
        replace(
            cast(Completed, trial(number, {})),
            expense={"a": Expense(each / 7, None if each == 9 else 0.1, each)},
        )
        for number, each in enumerate(seconds)
    ]
    running = RunningUsage()
    running.total(outcomes[:told])
    if again and outcomes:
        outcomes[0] = replace(outcomes[0], expense={"b": Expense(5, 5, 5)})
    assert running.total(outcomes) == total_usage(outcomes)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.booleans()), max_size=20),
    st.integers(0, 20),
    st.booleans(),
)
def test_the_front_is_the_same(values: list[tuple[int, int, bool]], told: int, again: bool) -> None:
    goals = MEASURES["accuracy"], MEASURES["energy_j"]
    study = cast(StudyConfig, SimpleNamespace(study=SimpleNamespace(objectives=goals)))
    outcomes = [
        replace(
            cast(Completed, trial(number, {})),
            objectives={"accuracy": float(accuracy), "energy_j": float(energy_j)},
            forecast=Forecast({}, (), {"coverage": -1.0 if feasible else 1.0}),
        )
        for number, (accuracy, energy_j, feasible) in enumerate(values)
    ]
    running = RunningFront(study)
    running.of(outcomes[:told])
    if again and outcomes:
        outcomes[0] = replace(outcomes[0], objectives={"accuracy": 9.0, "energy_j": 0.0})
    feasible = [each for each in outcomes if each.forecast.feasible]
    assert running.of(outcomes) == non_dominated(study, feasible)


class PretendedCosts:
    """Of models that are compiled, which become more."""

    def __init__(self) -> None:
        self.compiled: set[int] = set()
        self.forecasts = 0

    def knows(self, configuration: Configuration) -> bool:
        return configuration.model["width"] in self.compiled

    def forecast(self, configuration: Configuration, calibration: Any) -> Forecast:
        self.forecasts += 1
        return Forecast({}, (), {"width": float(configuration.model["width"])})


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=12), st.data())
def test_outcomes_are_re_evaluated_once(told: list[tuple[int, bool]], data: st.DataObject) -> None:
    outcomes: list[Outcome] = []
    for number, (width, feasible) in enumerate(told):
        proposal = Proposal(number, Configuration({"width": width}, {}, {}))
        outcomes.append(
            replace(cast(Completed, trial(number, {})), proposal=proposal)
            if feasible
            else Infeasible(proposal, Forecast({}, (), {}))
        )
    pretended = PretendedCosts()
    costs = cast(CostModel, pretended)
    running, shown = Rescorer(costs), list[Outcome]()
    while len(shown) < len(outcomes):
        pretended.compiled.add(data.draw(st.integers(0, 3)))
        left = [each for each in outcomes if each not in shown]
        shown.append(data.draw(st.sampled_from(left)))
        shown.sort(key=lambda each: each.proposal.number)
        assert running.rescore(shown, {}) == rescore(shown, costs, {})
    pretended.compiled |= {0, 1, 2, 3}
    running.rescore(outcomes, {})
    pretended.forecasts = 0
    again = running.rescore(outcomes, {})
    assert not pretended.forecasts
    assert again == rescore(outcomes, costs, {})
