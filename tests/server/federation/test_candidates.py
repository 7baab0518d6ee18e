"""Which client configurations share a training, and who may have which."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.server.federation.fedex_candidates import Candidate, candidates_around, who_may_train
from fieldtune.server.outcomes.trial import Forecast
from fieldtune.server.study.space import Configuration, Parameter, Space

SPACE = Space(
    model={"width": Parameter(choices=(8, 16))},
    client={
        "learning_rate": Parameter(low=0.01, high=1.0, log=True),
        "batch_size": Parameter(choices=(8, 16, 32)),
        "local_epochs": Parameter(low=1, high=8),
        "momentum": Parameter(choices=(0.9,)),
    },
)
ASKED = SPACE.configuration(
    {"width": 16, "learning_rate": 0.1, "batch_size": 8, "local_epochs": 4, "momentum": 0.9}
)
FITS = Forecast({}, (0, 1, 2), {"coverage": -0.5})


def around(
    asked: Configuration = ASKED, *, space: Space = SPACE, count: int = 9, radius: float = 1.0,
    most_epochs: int = 8, seed: int = 0,
) -> list[Candidate]:  # fmt: skip
    """Candidates, where more local epochs than these are ruled out."""

    def forecast(configuration: Configuration) -> Forecast:
        over = int(configuration.client["local_epochs"]) / most_epochs - 1
        return replace(FITS, constraints={"round_s": over})

    first = Candidate(asked, forecast(asked))
    return candidates_around(
        first, space=space, count=count, radius=radius, forecast=forecast, seed=seed
    )


def test_the_one_asked_for_comes_first_and_the_others_differ_on_the_client_alone() -> None:
    found = [candidate.configuration for candidate in around()]
    assert found[0] == ASKED
    assert len({each.key for each in found}) == 9
    for each in found:
        assert (each.model, each.server) == (ASKED.model, ASKED.server)
        assert all(SPACE.client[name].contains(value) for name, value in each.client.items())
        assert list(each.client) == list(ASKED.client)


def test_the_same_seed_gives_the_same_ones_and_another_seed_others() -> None:
    assert around(seed=1) == around(seed=1) != around(seed=2)


@given(st.floats(0.01, 1.0), st.integers(0, 99))
def test_none_is_further_away_than_the_radius_or_the_next_value(radius: float, seed: int) -> None:
    for candidate in around(radius=radius, seed=seed):
        for name, parameter in SPACE.client.items():
            ours, theirs = (
                parameter.fraction(each.client[name]) for each in (candidate.configuration, ASKED)
            )
            step = 1 / (parameter.count() or 1e9)
            # From the middle of a value's stretch to the middle of another's.
            assert abs(ours - theirs) <= max(radius, step) + step / 2 + 1e-6


def test_with_radius_one_every_part_of_the_space_is_as_likely() -> None:
    rate = SPACE.client["learning_rate"]
    edge = replace(ASKED, client={**ASKED.client, "learning_rate": 0.01})
    places = [
        rate.fraction(candidate.configuration.client["learning_rate"])
        for seed in range(200)
        for candidate in around(edge, count=5, seed=seed)[1:]
    ]
    counts = np.histogram(places, bins=4, range=(0, 1))[0]
    assert counts == pytest.approx(np.full(4, 200), rel=0.2)


def test_what_the_limits_rule_out_is_not_among_them() -> None:
    epochs = {int(each.configuration.client["local_epochs"]) for each in around(most_epochs=5)}
    assert epochs <= {1, 2, 3, 4, 5}
    assert len(epochs) > 2


def test_a_space_with_few_values_leaves_fewer() -> None:
    small = Space(client={"batch_size": SPACE.client["batch_size"], "local_epochs": Parameter(
        choices=(1,))})  # fmt: skip
    asked = small.configuration({"batch_size": 16, "local_epochs": 1})
    found = around(asked, space=small)
    assert found[0].configuration == asked
    assert {each.configuration.client["batch_size"] for each in found} == {8, 16, 32}


def test_each_client_may_train_with_what_fits_it() -> None:
    candidates = [
        Candidate(ASKED, replace(FITS, participants=participants))
        for participants in ((0, 1, 2), (2,), (1, 2, 5))
    ]
    assert who_may_train(candidates) == {0: (0,), 1: (0, 2), 2: (0, 1, 2), 5: (2,)}
