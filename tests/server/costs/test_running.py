"""What is updated outcome by outcome is what is computed from all outcomes at once."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from fieldtune.profiles.common.estimate import Estimate
from fieldtune.server.costs.calibration import Calibrator, corrections
from fieldtune.server.outcomes.trial import (
    Completed,
    Forecast,
    Learned,
    Observation,
    Observed,
    Outcome,
    Proposal,
)
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
