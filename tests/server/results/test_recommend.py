"""The front and what is recommended from it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.profiles.common.estimate import Estimate
from fieldtune.server.results.recommend import recommend
from fieldtune.server.results.schema import OnDevice, Point
from fieldtune.server.results.summarize import wilson
from fieldtune.server.study.objectives import COST_MEASURES, MEASURES

OBJECTIVES = (MEASURES["error"], MEASURES["inference_ms"])


def point(trial: int, error: float, inference_ms: float, fitting: int = 1) -> Point:
    costs = dict.fromkeys(COST_MEASURES, 1.0) | {"inference_ms": inference_ms}
    return Point(
        trial=trial,
        configuration={},
        objectives={
            "error": Estimate(value=error, low=error, high=error),
            # The fleet's figure differs from what the device sees.
            "inference_ms": Estimate(value=99, low=99, high=99),
        },
        measures={"error": error},
        test_samples=100,
        devices={
            "pi": OnDevice(
                clients=1,
                fitting=fitting,
                costs={name: Estimate(value=v, low=v, high=v) for name, v in costs.items()},
                slack={},
            )
        },
    )


DEFAULTS = point(0, 0.2, 2.0)


def chosen(*points: Point, defaults: Point | None = DEFAULTS) -> tuple[int, str]:
    recommended = recommend(points, defaults, OBJECTIVES, "pi")
    assert recommended is not None
    return recommended.trial, recommended.why


def test_a_point_that_beats_the_defaults_on_everything_comes_first() -> None:
    trial, why = chosen(point(1, 0.05, 2.5), point(2, 0.19, 1.9), point(3, 0.5, 0.1))
    assert trial == 2
    assert why == "beats the defaults on error and inference_ms"


def test_of_several_the_largest_joint_gain_is_taken() -> None:
    trial, why = chosen(point(1, 0.11, 1.95), point(2, 0.15, 1.5), point(3, 0.19, 1.1))
    assert trial == 2
    assert "largest joint gain of the 3" in why


def test_a_hairs_breadth_does_not_make_up_for_a_gain_that_matters() -> None:
    assert chosen(point(1, 0.12, 1.996), point(2, 0.05, 1.999))[0] == 2


def test_what_differs_by_less_than_a_hundredth_is_as_good() -> None:
    """The first is better on both, if by nothing that anybody would notice."""
    trial, why = chosen(point(1, 0.19, 1.99), point(2, 0.05, 2.01))
    assert trial == 2
    assert why.startswith("beats the defaults on error, is as good on inference_ms;")


def test_where_everything_predicts_worse_a_little_worse_comes_before_much() -> None:
    assert chosen(point(1, 0.9, 0.1), point(2, 0.201, 1.0))[0] == 2
    trial, why = chosen(point(1, 0.9, 3.0), point(2, 0.21, 2.1))
    assert trial == 2
    assert why == "could not beat the defaults on error and inference_ms; the best compromise"


def test_to_be_as_good_comes_before_being_worse() -> None:
    """Both beat the defaults on one objective."""
    trial, why = chosen(point(1, 0.01, 2.1), point(2, 0.15, 2.0))
    assert trial == 2
    assert why == "beats the defaults on error, is as good on inference_ms"


def test_a_cheap_model_that_predicts_worse_is_not_recommended() -> None:
    trial, why = chosen(point(1, 0.9, 0.1), point(2, 0.1, 3.0))
    assert trial == 2
    assert "could not beat them on inference_ms" in why


def test_the_defaults_are_recommended_where_nothing_beats_them() -> None:
    trial, why = chosen(DEFAULTS, point(1, 0.9, 0.1))
    assert trial == 0
    assert "these are the study's defaults" in why


def test_a_point_that_does_not_fit_is_not_recommended() -> None:
    assert chosen(point(1, 0.01, 0.1, fitting=0), point(2, 0.15, 1.5))[0] == 2
    assert recommend([point(1, 0.1, 0.1, fitting=0)], DEFAULTS, OBJECTIVES, "pi") is None


def test_without_defaults_something_is_recommended_and_said_so() -> None:
    trial, why = chosen(point(1, 0.1, 2.0), point(2, 0.3, 1.0), defaults=None)
    assert trial in (1, 2)
    assert "were not trained, or fit no device" in why


# Brown, Cai and DasGupta 2001, Interval estimation for a binomial proportion: the score interval.
@pytest.mark.parametrize(
    ("share", "samples", "expected"),
    [(0.0, 10, (0.0, 0.2775)), (0.5, 10, (0.2366, 0.7634)), (0.9, 100, (0.8256, 0.9448))],
)
def test_the_interval_is_wilsons(share: float, samples: int, expected: tuple[float, float]) -> None:
    assert wilson(share, samples) == pytest.approx(expected, abs=1e-3)


@given(st.integers(0, 500), st.integers(1, 500))
def test_the_interval_holds_the_share(hits: int, more: int) -> None:
    share = hits / (hits + more)
    low, high = wilson(share, hits + more)
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1
    assert np.isfinite([low, high]).all()


@pytest.mark.parametrize(("slack", "fits"), [(-0.5, True), (0.0, True), (0.1, False)])
def test_for_a_device_type_that_nobody_is_of_what_is_predicted_decides(
    slack: float, fits: bool
) -> None:
    made = point(1, 0.1, 1.0)
    absent = made.devices["pi"].model_copy(
        update={"clients": 0, "fitting": 0, "slack": {"inference_ms": slack}}
    )
    seen = made.model_copy(update={"devices": {"pi": absent}})
    assert (recommend([seen], None, OBJECTIVES, "pi") is not None) == fits
