"""Parameters and spaces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fieldtune.server.study.settings import of_each
from fieldtune.server.study.space import Configuration, Parameter, Space

ints = st.integers(1, 50)


@st.composite
def parameters(draw: st.DrawFn) -> Parameter:
    kind = draw(st.sampled_from(["choices", "int", "float"]))
    if kind == "choices":
        return Parameter(choices=tuple(draw(st.lists(ints, min_size=1, max_size=5, unique=True))))
    low, extent, log = draw(ints), draw(st.integers(0, 40)), draw(st.booleans())
    if kind == "int":
        step = None if log else draw(st.sampled_from([None, 2, 3]))
        return Parameter(low=low, high=low + extent, log=log, step=step)
    return Parameter(low=low * 0.01, high=(low + extent) * 0.01, log=log)


@given(parameters(), st.floats(0, 1, exclude_max=True))
def test_every_fraction_gives_a_value_that_the_parameter_contains(
    parameter: Parameter, fraction: float
) -> None:
    assert parameter.contains(parameter.at(fraction))


@given(parameters(), st.floats(0, 1, exclude_max=True))
def test_a_value_lies_where_its_fraction_says(parameter: Parameter, fraction: float) -> None:
    value = parameter.at(fraction)
    place = parameter.fraction(value)
    assert 0 <= place <= 1
    assert parameter.at(place) == pytest.approx(value)
    if parameter.count() is None:
        assert place == pytest.approx(fraction, abs=1e-6)


@given(parameters())
def test_the_default_is_a_value_of_the_parameter(parameter: Parameter) -> None:
    assert parameter.contains(parameter.default_value())


def test_a_range_of_whole_numbers_reaches_both_ends_evenly() -> None:
    dice = Parameter(low=1, high=6)
    assert [dice.at(k / 6) for k in range(6)] == [1, 2, 3, 4, 5, 6]
    assert dice.count() == 6


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({}, "needs either choices"),
        ({"choices": []}, "has no choices"),
        ({"choices": [1, 1]}, "lists a choice twice"),
        ({"choices": [1], "low": 2}, "both choices and a range"),
        ({"low": 3, "high": 2}, "low = 3 above high = 2"),
        ({"low": 0, "high": 2, "log": True}, "must be above 0"),
        ({"low": 0.5, "high": 2.0, "step": 1}, "only a range of whole numbers"),
        ({"low": 1, "high": 4, "default": 9}, "does not contain"),
    ],
)
def test_a_wrong_parameter_is_refused_with_its_reason(
    wrong: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Parameter.model_validate(wrong)


def test_a_sample_depends_on_its_seed_alone() -> None:
    space = Space(
        model={"width": Parameter(choices=(8, 16))},
        client={"learning_rate": Parameter(low=1e-3, high=1.0, log=True)},
    )
    assert space.sample(20, seed=3) == space.sample(20, seed=3)
    assert space.sample(20, seed=3) != space.sample(20, seed=4)
    assert {c.model["width"] for c in space.sample(50, seed=0)} == {8, 16}


def test_what_is_made_of_a_configuration_is_made_once_for_all_clients_that_share_it() -> None:
    shared, own = (Configuration({}, {"learning_rate": rate}, {}) for rate in (0.1, 0.2))
    made: list[Configuration] = []

    def make(configuration: Configuration) -> int:
        made.append(configuration)
        return len(made)

    assert of_each({1: shared, 2: own, 3: shared}, make) == {1: 1, 2: 2, 3: 1}
    assert made == [shared, own]
