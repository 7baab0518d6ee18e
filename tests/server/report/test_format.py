"""How figures are written."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.profiles.common.estimate import Estimate
from fieldtune.server.report.format import (
    MOST_DIGITS,
    bounds,
    change,
    clients_of,
    counted,
    display_unit,
    figure,
    in_percent,
    listed,
    of_limit,
    phrase,
    setting,
    whole,
)
from fieldtune.server.study.objectives import COST_MEASURES, MEASURES

SIZES = {"µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "µJ": 1e-6, "mJ": 1e-3,
         "J": 1.0, "kJ": 1e3, "MJ": 1e6, "B": 1.0, "KiB": 2.0**10, "MiB": 2.0**20,
         "GiB": 2.0**30}  # fmt: skip
IN_BASE = {"inference_mj": 1e-3, "inference_ms": 1e-3, "memory_mib": 2.0**20,
           "inference_memory_mib": 2.0**20, "storage_mib": 2.0**20}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("inference_ms", 0.2123, "0.21 ms"),
        ("inference_ms", 0.0537, "54 µs"),
        ("inference_ms", 1234.0, "1.23 s"),
        ("round_s", 0.5, "500 ms"),
        ("round_s", 90.0, "90 s"),
        ("round_s", 600.0, "10.0 min"),
        ("energy_j", 3.14, "3.1 J"),
        ("power_w", 5.02, "5.0 W"),
        ("power_w", 0.35, "350 mW"),
        ("energy_j", 0.312, "310 mJ"),
        ("energy_j", 0.9997, "1.00 J"),
        ("energy_j", 0.0, "0 J"),
        ("memory_mib", 120.4, "120 MiB"),
        ("storage_mib", 0.25, "260 KiB"),
        ("sent_bytes", 1_500_000, "1.43 MiB"),
        ("error", 0.0764, "7.6 %"),
        ("error", 0.1236, "12.4 %"),
        ("error", 0.0042, "0.42 %"),
        ("error", 1.0, "100.0 %"),
        ("error", 0.9996, "99.96 %"),
        ("loss", 0.3456, "0.35"),
        ("metric", -12.34, "−12.3"),  # noqa: RUF001
        ("energy_j", math.inf, "∞ J"),
        ("energy_j", 5e-324, "4.9e−318 µJ"),  # noqa: RUF001
    ],
)
def test_figures_have_a_unit_that_suits_them(name: str, value: float, text: str) -> None:
    assert figure(name, value) == text


@given(st.sampled_from(COST_MEASURES), st.floats(1e-3, 1e7))
def test_rounding_moves_no_cost_by_more_than_its_digits_allow(name: str, value: float) -> None:
    text, unit = figure(name, value).split(" ")
    assert float(text) * SIZES[unit] == pytest.approx(value * IN_BASE.get(name, 1.0), rel=0.0251)


@given(st.sampled_from(COST_MEASURES), st.floats(1e-3, 1e7))
def test_a_figure_shows_two_or_three_significant_digits(name: str, value: float) -> None:
    digits = figure(name, value).split(" ")[0].replace(".", "").lstrip("0").rstrip("0")
    assert len(digits) <= 3


@given(st.sampled_from(sorted(MEASURES)), st.floats(1e-3, 0.999), st.floats(0.999, 1.001))
def test_different_figures_are_told_apart_by_more_digits(
    name: str, value: float, factor: float
) -> None:
    other = value * factor
    unit = display_unit(name, [value])
    more = unit.digits_between(value, other)
    written = [unit.write(each, more) for each in (value, other)]
    assert written[0] != written[1] or more == MOST_DIGITS or value == other
    assert more == 0 or unit.write(value, more - 1) == unit.write(other, more - 1)
    assert unit.digits_between(value, value) == 0


def test_nothing_and_all_are_said_of_nothing_and_all_only() -> None:
    assert [whole(each) for each in (0.0, 0.3, 1.0, 99.4, 99.96, 100.0, 100.04, 100.6)] == [
        "0 %", "0.3 %", "1 %", "99 %", "99.96 %", "100 %", "100.04 %", "101 %",
    ]  # fmt: skip
    assert [in_percent(each) for each in (0.0, 0.004, 0.996, 1.0)] == [
        "0 %", "< 1 %", "99.6 %", "100 %",
    ]  # fmt: skip
    assert change(0.4, 100) == "−99.6 %"  # noqa: RUF001
    assert of_limit(0.003) == "100.3 %"


def test_an_abbreviation_keeps_its_capitals_in_a_sentence() -> None:
    names = ("macro_f1", "auc", "energy_j", "coverage")
    assert [phrase(each) for each in names] == ["macro F1", "AUC", "training energy", "coverage"]


SHARES = [each.name for each in MEASURES.values() if each.unit == "share"]


@given(st.sampled_from(SHARES), st.floats(0.0, 1.0))
def test_shares_are_written_in_per_cent(name: str, value: float) -> None:
    text, unit = figure(name, value).split(" ")
    assert unit == "%"
    assert float(text.replace("−", "-").replace("e-", "e-")) == pytest.approx(  # noqa: RUF001
        100 * value, rel=0.05, abs=1e-9
    )


def test_an_interval_is_written_in_the_unit_of_its_value() -> None:
    assert bounds("inference_ms", Estimate(value=0.21, low=0.15, high=0.33)) == "0.150–0.33"  # noqa: RUF001
    assert bounds("error", Estimate(value=0.076, low=0.054, high=0.106)) == "5.4–10.6"  # noqa: RUF001


def test_an_interval_without_extent_is_left_out() -> None:
    assert bounds("loss", Estimate(value=0.3, low=0.3, high=0.3)) == ""


def test_values_side_by_side_share_the_unit_of_the_middle_one() -> None:
    assert display_unit("energy_j", [0.09, 0.5, 40.0]).unit == "mJ"
    assert display_unit("energy_j", []).unit == "J"


@pytest.mark.parametrize(
    ("value", "before", "text"),
    [(7, 10, "−30 %"), (13, 10, "+30 %"), (1.001, 1, "+0.1 %"), (1, 0, ""), (1, 1, "±0 %")],  # noqa: RUF001
)
def test_a_change_is_relative_to_what_was_before(value: float, before: float, text: str) -> None:
    assert change(value, before) == text


def test_slack_becomes_the_share_of_a_limit_that_is_used() -> None:
    assert [of_limit(slack) for slack in (-0.78, 0.5, -0.999, -1.0)] == [
        "22 %",
        "150 %",
        "< 1 %",
        "0 %",
    ]


def test_settings_lists_and_counts_read_well() -> None:
    assert [setting(value) for value in (True, 16, 0.123456, "cnn")] == [
        "yes",
        "16",
        "0.123",
        "cnn",
    ]
    assert [listed(words) for words in (["a"], ["a", "b"], ["a", "b", "c"])] == [
        "a",
        "a and b",
        "a, b and c",
    ]
    assert [counted(1, "trial"), counted(2, "trial")] == ["1 trial", "2 trials"]


def test_a_device_type_that_nobody_is_of_is_marked_as_predicted() -> None:
    assert clients_of(2) == "2 clients"
    assert clients_of(0) == "none there: predicted from its profile"
