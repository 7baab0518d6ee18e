from math import exp, log

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fieldtune.profiles.common.estimate import Estimate
from fieldtune.profiles.costmodel.calibration import (
    IDENTITY,
    Correction,
    Corrections,
    corrected,
    correction,
)
from fieldtune.profiles.costmodel.cost import Cost

ratios = st.floats(0.1, 10)
values = st.floats(1e-3, 1e6)


@st.composite
def estimates(draw):
    value = draw(values)
    return Estimate(value, value / draw(st.floats(1.01, 20)), value * draw(st.floats(1.01, 20)))


@given(estimates())
def test_without_reports_a_prediction_stays_as_it_is(predicted):
    assert correction([]) == IDENTITY
    assert correction([]).apply(predicted) == predicted


@given(estimates(), ratios)
def test_many_reports_bring_the_prediction_to_what_they_say(predicted, ratio):
    found = correction([(predicted, ratio * predicted.value)] * 1_000)
    assert found.factor == pytest.approx(ratio, rel=0.01)
    assert found.apply(predicted).value == pytest.approx(ratio * predicted.value, rel=0.01)


@given(estimates(), ratios)
def test_one_report_moves_a_prediction_towards_it_and_not_past_it(predicted, ratio):
    found = correction([(predicted, ratio * predicted.value)])
    assert min(ratio, 1.0) * (1 - 1e-9) <= found.factor <= max(ratio, 1.0) * (1 + 1e-9)


@given(estimates(), ratios, st.integers(1, 20))
def test_the_more_say_the_same_the_nearer_the_prediction_comes(predicted, ratio, count):
    pair = (predicted, ratio * predicted.value)
    fewer, more = correction([pair] * count), correction([pair] * (count + 1))
    assert abs(log(more.factor / ratio)) <= abs(log(fewer.factor / ratio)) + 1e-9


@given(st.lists(st.tuples(estimates(), values), max_size=8), st.randoms())
def test_the_order_of_reports_does_not_matter(pairs, random):
    shuffled = list(pairs)
    random.shuffle(shuffled)
    assert correction(shuffled) == correction(pairs)


@given(estimates(), ratios, st.integers(1, 30))
def test_a_corrected_interval_is_in_order_and_holds_its_value(predicted, ratio, count):
    found = correction([(predicted, ratio * predicted.value)] * count).apply(predicted)
    assert found.low <= found.value * (1 + 1e-9)
    assert found.value <= found.high * (1 + 1e-9)
    assert found.low > 0


@given(estimates(), ratios)
def test_a_profile_that_is_sure_of_itself_is_moved_less_unless_it_is_wrong(predicted, ratio):
    assume(abs(log(ratio)) > 0.01)
    v = predicted.value
    sure, unsure = Estimate(v, v / 1.05, v * 1.05), Estimate(v, v / 10, v * 10)
    moved = [abs(log(correction([(p, ratio * v)]).factor)) for p in (sure, unsure)]
    assert moved[0] <= moved[1]
    # Within one report's scatter the sure one is believed.
    assert moved[0] < moved[1] or abs(log(ratio)) > 0.3


def test_reports_that_scatter_leave_a_wider_interval_than_reports_that_agree():
    predicted = Estimate(10.0, 5.0, 20.0)
    agree = correction([(predicted, 20.0)] * 6)
    scatter = correction([(predicted, 20.0 * exp(x)) for x in (-1, 1, -1, 1, -1, 1)])
    assert scatter.high / scatter.low > agree.high / agree.low


@pytest.mark.parametrize("reported", [0.0, -1.0, float("nan"), float("inf")])
def test_a_report_that_tells_no_ratio_is_passed_over(reported):
    assert correction([(Estimate(1.0, 0.5, 2.0), reported)]) == IDENTITY


def test_a_corrected_cost_keeps_what_is_not_computing_as_it_was():
    names = Cost.__dataclass_fields__
    values = {"round_s": 10.0, "training_s": 4.0, "energy_j": 50.0, "training_j": 20.0}
    cost = Cost(**{n: Estimate(v := values.get(n, 1.0), v / 2, 2 * v) for n in names})
    seen = corrected(
        cost,
        Corrections(training=Correction(1.5, 1.4, 1.6, 9), power=Correction(2.0, 1.9, 2.1, 9)),
    )
    assert seen.round_s == Estimate(12.0, 6.0, 24.0)
    assert seen.energy_j == Estimate(90.0, 45.0, 180.0)
    assert seen.step_ms.value == pytest.approx(1.5)
    assert seen.sent_bytes == cost.sent_bytes
    assert corrected(cost, Corrections()) == cost


def test_simulated_reports_move_a_prediction_and_leave_its_interval_as_wide():
    predicted = Estimate(10.0, 5.0, 30.0)
    found = correction([(predicted, 20.0)] * 50, simulated=True).apply(predicted)
    assert found.value == pytest.approx(20.0, rel=0.01)
    assert (found.low / found.value, found.high / found.value) == pytest.approx((0.5, 3.0))


@pytest.mark.parametrize("truth", [0.5, 2.0])
@pytest.mark.parametrize("half_width", [1.1, 1.5, 4.0])
def test_ten_reports_pin_a_device_type_that_the_catalogue_has_wrong_by_two(truth, half_width):
    rng = np.random.default_rng(0)
    true_ms = 0.05 * truth * np.exp(rng.normal(0, 0.08, 400))  # calls of models below 1 ms

    def stated(ms):
        # Models differ, and so do their predictions.
        value = ms / truth * np.exp(rng.normal(0, 0.05))
        return Estimate(value, value / half_width, value * half_width)

    predictions = [stated(ms) for ms in true_ms]
    found = correction(zip(predictions[:10], true_ms[:10], strict=True))
    later = [found.apply(each) for each in predictions[10:]]
    off = [each.value / ms for each, ms in zip(later, true_ms[10:], strict=True)]
    assert np.median(off) == pytest.approx(1, abs=0.1)
    holds = [e.low <= ms <= e.high for e, ms in zip(later, true_ms[10:], strict=True)]
    assert np.mean(holds) >= 0.85


@pytest.mark.parametrize("half_width", [1.07, 1.25])
def test_reports_that_scatter_more_than_the_catalogue_says_widen_its_interval(half_width):
    """The catalogue is right, but calls of one model differ by 20 % from trial to trial."""
    rng = np.random.default_rng(0)
    predicted = Estimate(10.0, 10 / half_width, 10 * half_width)
    held = []
    for _ in range(200):
        *reported, later = 10 * np.exp(rng.normal(0, 0.2, 11))
        stated = correction((predicted, ms) for ms in reported).apply(predicted)
        held.append(stated.low <= later <= stated.high)
    assert 0.83 <= np.mean(held) <= 0.97
    # Reports that agree do not.
    agree = correction([(predicted, 10.0)] * 10).apply(predicted)
    assert agree.high / agree.low <= half_width**2 * (1 + 1e-9)
