"""Which trials a study still lacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from fieldtune.server.bo import Known
from fieldtune.server.outcomes.trial import Completed, Forecast, Learned, Proposal
from fieldtune.server.study.objectives import MEASURES
from fieldtune.server.study.space import Parameter, Space
from fieldtune.server.tuner.suggestions import prospects, random_draws

SPACE = Space(
    model={"width": Parameter(choices=(1, 2, 3, 4, 5, 6, 7, 8))},
    client={"rate": Parameter(low=0.0, high=1.0)},
)


def known(values: Mapping[str, Any]) -> Known:
    return Known({1: float(values["width"])}, {"width": values["width"] / 6 - 1})


def outcomes(widths: list[int]) -> list[Completed]:
    found = []
    for i, width in enumerate(widths):
        rate = (i * 0.381966) % 1.0
        error = 0.5 / width + 0.1 * (rate - 0.5) ** 2
        found.append(
            Completed(
                Proposal(i, SPACE.configuration({"width": width, "rate": rate})),
                Forecast({}, (), {}),
                Learned({"error": error}, 500, 0.0, {}, simulated=True),
                {"error": error, "inference_ms": float(width)},
                0,
            )
        )
    return found


def found(widths: list[int]) -> list[tuple[int, float]]:
    goals = [MEASURES["error"], MEASURES["inference_ms"]]
    return [
        (int(each.configuration.model["width"]), each.gain)
        for each in prospects(SPACE, goals, outcomes(widths), known, seed=0, most=8)
    ]


def test_what_was_never_tried_comes_first_and_limits_hold() -> None:
    lacking = found([1, 1, 2, 2, 3, 3, 1, 2, 3, 2])
    assert lacking
    assert all(width <= 6 for width, _ in lacking)
    assert lacking[0][0] in (4, 5, 6)
    assert all(gain > 0.01 for _, gain in lacking)


def test_the_better_known_a_front_the_fewer_trials_it_lacks() -> None:
    assert len(found([1, 2, 3, 4, 5, 6] * 6)) < len(found([1, 1, 2, 2, 3, 3, 1, 2, 3, 2]))


def test_without_trials_there_is_nothing_to_go_by() -> None:
    assert found([]) == []


def test_random_configurations_are_drawn_from_what_the_trials_taught() -> None:
    goals = [MEASURES["error"], MEASURES["inference_ms"]]
    tried = outcomes([1, 2, 3, 4, 5, 6] * 3)
    draws = random_draws(SPACE, goals, tried, known, seed=0, count=200)
    assert draws == random_draws(SPACE, goals, tried, known, seed=0, count=200)
    fitting = [draw for draw in draws if draw is not None]
    assert len(fitting) / len(draws) == pytest.approx(6 / 8, abs=0.1)  # widths 7 and 8 are over
    errors = {width: [e for e, cost in fitting if cost == width] for width in range(1, 7)}
    means = [sum(each) / len(each) for each in errors.values()]
    assert means == pytest.approx([0.5 / width + 0.1 / 12 for width in errors], abs=0.03)


@pytest.mark.parametrize(
    "narrowed",
    [
        Space(model=SPACE.model, client={"rate": Parameter(low=0.0, high=0.4)}),
        Space(model=SPACE.model, client={"rate": Parameter(choices=(0.25,))}),
        Space(model={"width": Parameter(choices=(1, 2, 4))}, client=SPACE.client),
        Space(
            model={"width": Parameter(choices=(1, 2, 4))},
            client={"rate": Parameter(choices=(0.25,))},
        ),
    ],
)
def test_trials_from_before_the_space_became_narrower_are_learned_from(narrowed: Space) -> None:
    goals = [MEASURES["error"], MEASURES["inference_ms"]]
    tried = outcomes([1, 2, 3, 3, 1, 2, 3, 6, 2, 5])
    draws = random_draws(narrowed, goals, tried, known, seed=0, count=50)
    widths = narrowed.parameters()["width"].choices or ()
    assert {draw[1] for draw in draws if draw} <= set(widths)
    wanted = prospects(narrowed, goals, tried, known, seed=0, most=8)
    for each in wanted:
        for name, value in each.configuration.flat().items():
            assert narrowed.parameters()[name].contains(value)
