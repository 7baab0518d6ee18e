import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.profiles.common.estimate import Estimate, Quantity, Span, ratio

sizes = st.floats(1e-3, 1e3)
factors = st.floats(1.0, 20.0)


@st.composite
def quantities(draw, names="abc"):
    total = Quantity(draw(sizes))
    for name in names:
        value = draw(sizes)
        span = Span(value / draw(factors), value, value * draw(factors))
        total = total + Quantity.of(name, span) * draw(sizes)
    return total


def test_a_factor_alone_has_its_own_interval():
    found = Quantity.of("power", Span(2.0, 4.0, 12.0)).estimate()
    assert found == Estimate(4.0, pytest.approx(2.0), pytest.approx(12.0))


def test_independent_factors_add_by_the_root_of_their_squares():
    total = Quantity.of("a", Span(1, 1, 4)) + Quantity.of("b", Span(2, 2, 6))
    assert total.estimate().high == pytest.approx(3 + math.hypot(3, 4))


def test_a_factor_in_two_terms_is_off_in_both_alike():
    a = Quantity.of("a", Span(1, 2, 4))
    assert (a + a).estimate() == Estimate(4, pytest.approx(2), pytest.approx(8))


def test_a_factor_multiplied_by_itself_is_off_twice():
    a = Quantity.of("a", Span(1, 2, 4))
    assert (a * a).estimate() == Estimate(4, pytest.approx(1), pytest.approx(16))


def test_a_product_of_two_factors_is_less_off_than_both_ends_together():
    product = (Quantity.of("a", Span(1, 2, 4)) * Quantity.of("b", Span(1, 2, 4))).estimate()
    assert product.high < 16
    assert product.low > 1


@given(quantities())
def test_an_interval_holds_its_value_and_stays_above_zero(quantity):
    found = quantity.estimate()
    assert 0 < found.low <= found.value <= found.high


@given(quantities("ab"), quantities("bc"))
def test_the_order_of_terms_does_not_matter(one, other):
    first, second = (one + other).estimate(), (other + one).estimate()
    assert first.low == pytest.approx(second.low)
    assert first.high == pytest.approx(second.high)


@given(quantities(), sizes)
def test_a_term_that_is_certain_moves_every_end_up(quantity, more):
    before, after = quantity.estimate(), (quantity + more).estimate()
    assert after.low >= before.low * (1 - 1e-9)
    assert after.high >= before.high * (1 - 1e-9)


def test_a_ratio_on_one_device_is_known_better_than_either_figure():
    device = Quantity.of("speed", Span(1, 2, 4))
    a = (device * 3.0 * Quantity.of("own", Span(0.9, 1, 1.1))).estimate()
    b = (device * Quantity.of("own", Span(0.9, 1, 1.1))).estimate()
    found = ratio(a, b)
    assert found.value == pytest.approx(3)
    assert math.log(found.high / found.low) / 2 == pytest.approx(math.hypot(0.1003, 0.1003), 1e-3)
    # What was read from a file shares nothing: the interval is as wide as both.
    alone = ratio(Estimate(a.value, a.low, a.high), b)
    assert alone.high > a.high / a.value * found.value


def test_a_ratio_is_unsure_where_two_configurations_differ_in_kind():
    speed, dispatch = Quantity.of("speed", Span(1, 2, 4)), Quantity.of("dispatch", Span(1, 2, 4))
    alike, unlike = (
        ratio(speed.estimate(), speed.estimate()),
        ratio(speed.estimate(), dispatch.estimate()),
    )
    assert (alike.low, alike.high) == (1, 1)
    assert unlike.low == pytest.approx(1 / unlike.high)
    assert unlike.high > 2
    with pytest.raises(ValueError, match="above 0"):
        ratio(Estimate(0, 0, 0), Estimate(1, 1, 1))


@given(quantities(), sizes)
def test_other_ends_keep_the_share_that_is_shared(quantity, factor):
    found = (quantity.estimate() * factor).within(quantity.value * factor, quantity.value * factor)
    assert not any(found.factors.values())
    assert ratio(quantity.estimate() * factor, quantity.estimate()).value == pytest.approx(factor)
