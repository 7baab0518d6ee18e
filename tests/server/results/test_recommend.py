"""The front and what is recommended from it."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.profiles.common.estimate import Estimate
from fieldtune.profiles.common.shares import wilson
from fieldtune.server.results.recommend import recommend
from fieldtune.server.results.rerank import choose
from fieldtune.server.results.schema import OnDevice, Point, Summary
from fieldtune.server.results.stored_choices import Recommendation
from fieldtune.server.study.decision_options import DecisionSection, DeviceWeights
from fieldtune.server.study.objectives import COST_MEASURES, MEASURES

OBJECTIVES = (MEASURES["error"], MEASURES["inference_ms"])


def point(trial: int, error: float, inference_ms: float, fitting: int = 1) -> Point:
    """Learned values are certain; two latencies on the device are known to differ or not to 1 %."""

    def cost(value: float) -> Estimate:
        return Estimate(value, value / 2, value * 2, {"clock": 0.7, f"own {trial}": 0.007})

    costs = dict.fromkeys(COST_MEASURES, 1.0) | {"inference_ms": inference_ms}
    return Point(
        trial=trial,
        configuration={},
        objectives={
            "error": Estimate(error, error * 0.9999, error * 1.0001),
            # The fleet's figure differs from what the device sees.
            "inference_ms": Estimate(value=99, low=99, high=99),
        },
        measures={"error": error},
        test_samples=100,
        devices={
            "pi": OnDevice(
                clients=1,
                fitting=fitting,
                costs={name: cost(value) for name, value in costs.items()},
                slack={},
            )
        },
    )


DEFAULTS = point(0, 0.2, 2.0)


def recommended(*points: Point, defaults: Point | None = DEFAULTS) -> Recommendation:
    found = recommend(points, defaults, OBJECTIVES, "pi")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("points", "trial", "why"),
    [
        (
            [point(1, 0.05, 2.5), point(2, 0.19, 1.9)],
            1,
            "beats the defaults on error, is worse on inference; no worse on error with "
            "probability above 0.99; the largest joint gain of 2 such points",
        ),
        (
            [point(1, 0.05, 2.01), point(2, 0.9, 1.99)],
            1,
            "beats the defaults on error, is as good on inference; no worse on error with "
            "probability above 0.99; of no other point is that sure enough",
        ),
        (
            [DEFAULTS, point(1, 0.9, 0.1)],
            0,
            "these are the study's defaults: for no other point is it certain enough that it "
            "predicts as well",
        ),
        (
            [point(1, 0.2, 2.5)],
            0,
            "these are the study's defaults: no point that predicts as well is worth more",
        ),
        (
            [point(1, 0.1, 0.1, fitting=0)],
            0,
            "these are the study's defaults: the front has no other point that fits",
        ),
    ],
)
def test_the_reason_is_said_in_words(points: list[Point], trial: int, why: str) -> None:
    found = recommended(*points)
    assert (found.trial, found.why) == (trial, f"{why}; trained only once")
    if trial:
        repeated = [each.model_copy(update={"runs": 2}) for each in points]
        assert recommended(*repeated).why == why


def test_too_small_a_probability_never_reads_as_the_one_that_is_asked_for() -> None:
    points = [point(1, 0.1, 2.0), point(2, 0.1999, 0.5)]
    spread = {"error": {0: Estimate(0.2, 0.1, 0.4), 2: Estimate(0.1999, 0.1, 0.4)}}
    first = recommend(points, DEFAULTS, OBJECTIVES, "pi", None, spread)
    assert first is not None
    found = next(each.no_worse for each in first.standings if each.trial == 2)
    assert found is not None
    asked = DecisionSection(confidence=found + 1e-4)
    second = recommend(points, DEFAULTS, OBJECTIVES, "pi", asked, spread)
    assert second is not None
    why_not = next(each.why_not for each in second.alternatives if each.trial == 2)
    said = re.search(r"probability ([0-9.]+) only", why_not)
    assert said is not None
    assert float(said[1]) < asked.confidence


def test_what_is_shown_beside_the_defaults_is_what_the_device_sees() -> None:
    found = recommended(point(1, 0.1, 1.0))
    assert found.no_worse == pytest.approx(1)
    assert [(each.value, each.default, each.better) for each in found.against_defaults] == [
        (0.1, 0.2, True),
        (1.0, 2.0, True),
    ]
    assert found.gains["inference_ms"].log == pytest.approx(np.log(2))
    assert 0 < found.gains["inference_ms"].counted < np.log(2)


def test_alternatives_have_their_price_against_the_recommended_point() -> None:
    found = recommended(
        point(1, 0.10, 1.0), point(2, 0.15, 0.8), point(3, 0.9, 0.01), point(4, 0.101, 1.001)
    )
    assert found.trial == 1
    assert [each.trial for each in found.standings] == [1, 4, 2, 0, 3]
    near, cheaper, defaults, cheapest = found.alternatives
    assert [each.trial for each in found.alternatives] == [4, 2, 0, 3]
    assert near.why_not == "its gains are less certain" or "worse on error" in near.why_not
    assert near.gains["inference_ms"].within_noise
    assert cheaper.gains["inference_ms"].log == pytest.approx(np.log(1 / 0.8))
    assert cheaper.gains["error"].log == pytest.approx(np.log(0.1 / 0.15))
    assert cheaper.why_not == "better on inference, which does not make up for error"
    assert defaults.why_not == "worse on error and inference"
    assert cheapest.no_worse == pytest.approx(0)
    assert cheapest.why_not == (
        "no worse than the defaults on what is learned with probability below 0.01 only; 0.9 is "
        "asked for"
    )


def test_a_learned_value_is_compared_with_the_interval_of_the_model_alone() -> None:
    """The few test samples are the same for all points."""
    wide = {"error": {0: Estimate(0.2, 0.1, 0.4), 1: Estimate(0.15, 0.07, 0.3)}}
    some = [point(1, 0.15, 1.0)]
    assert recommended(*some).trial == 1
    found = recommend(some, DEFAULTS, OBJECTIVES, "pi", compared=wide)
    assert found is not None
    assert found.trial == 0


def test_a_point_that_does_not_fit_is_not_recommended() -> None:
    assert recommended(point(1, 0.01, 0.1, fitting=0), point(2, 0.15, 1.5)).trial == 2
    misfit = DEFAULTS.model_copy(update={"devices": point(0, 0.2, 2.0, fitting=0).devices})
    assert recommend([point(1, 0.1, 0.1, fitting=0)], misfit, OBJECTIVES, "pi") is None


def test_without_defaults_something_is_recommended_and_said_so() -> None:
    found = recommended(point(1, 0.1, 2.0), point(2, 0.3, 1.0), defaults=None)
    assert found.trial in (1, 2)
    assert found.why.endswith("were not trained, or fit no device; trained only once")
    assert found.against_defaults == []
    assert found.no_worse is None


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


def test_a_device_type_may_have_weights_of_its_own() -> None:
    points = [point(1, 0.10, 1.0), point(2, 0.15, 0.7), point(3, 0.05, 1.9)]
    options = DecisionSection(
        weights={"error": 3.0}, devices={"pi": DeviceWeights(weights={"error": 0.0})}
    )
    on_its_own = recommend(
        points, DEFAULTS, OBJECTIVES, "pi", DecisionSection(weights={"error": 0})
    )
    general = recommend(points, DEFAULTS, OBJECTIVES, "pi", DecisionSection(weights={"error": 3}))
    found = recommend(points, DEFAULTS, OBJECTIVES, "pi", options)
    assert found == on_its_own != general
    assert found is not None
    assert found.why.endswith(" (weights: error 0); trained only once")


def test_another_confidence_compares_with_defaults_that_do_not_fit_as_a_study_with_it() -> None:
    def unsure(trial: int, error: float, inference_ms: float, fitting: int = 1) -> Point:
        made = point(trial, error, inference_ms, fitting)
        values = {**made.objectives, "error": Estimate(error, error * 0.8, error * 1.2)}
        return made.model_copy(update={"objectives": values})

    front, own = [unsure(1, 0.2, 1.9), unsure(2, 0.21, 1.0)], unsure(0, 0.2, 2.0, fitting=0)
    chosen = {
        confidence: recommend(front, own, OBJECTIVES, "pi", DecisionSection(confidence=confidence))
        for confidence in (0.5, 0.9)
    }
    studies = {confidence: each.trial for confidence, each in chosen.items() if each}
    assert studies == {0.5: 1, 0.9: 2}
    for each in chosen.values():
        assert each
        summary = Summary(
            study="s", seed=0, objectives=OBJECTIVES, metric="accuracy", devices={"pi": 1},
            simulated=True, trials=3, infeasible=0, failed=0, front=front,
            recommended={"pi": each}, defaults=own, attempts=[],
        )  # fmt: skip
        for confidence, trial in studies.items():
            assert choose(summary, {"pi": {}}, confidence) == {"pi": trial}
