"""Descriptions that no board of that type can have, and devices that count for too much."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.client.contract.messages import Description, EvaluateReport, TrainReport
from fieldtune.server.federation.descriptions import (
    SampleCaps,
    implausible,
    other_board,
    other_meaning,
    outliers,
)
from fieldtune.server.federation.evaluation import inconsistent


def member(client: int = 0, **changes: Any) -> Description:
    told: dict[str, Any] = {
        "client": client, "profile": "raspberry-pi-zero-2w", "train_samples": 50,
        "test_samples": 20, "input_shape": (8, 8, 1), "runtime": "x 1",
    }  # fmt: skip
    return Description(**(told | changes))


def test_more_samples_than_a_board_of_that_type_has_memory_for_are_implausible() -> None:
    assert implausible(member(train_samples=8_000_000)) == ""
    why = implausible(member(train_samples=9_000_000))
    assert why.endswith("a raspberry-pi-zero-2w has at most 2048 MiB of memory")
    assert implausible(member(train_samples=9_000_000, profile="raspberry-pi-5")) == ""
    assert implausible(member(train_samples=9_000_000, profile="of-my-own")) == ""


def test_a_device_type_is_not_taken_for_the_path_of_a_file(tmp_path: Path) -> None:
    """Such as ``/dev/zero``, which has no end."""
    os.mkfifo(tmp_path / "never.toml")
    for path in (tmp_path / "never.toml", Path("/dev/zero"), Path("/dev/../dev/zero")):
        assert implausible(member(train_samples=9_000_000, profile=str(path))) == ""


def test_a_device_with_far_more_samples_than_the_others_is_an_outlier() -> None:
    fleet = {client: member(client) for client in range(4)}
    assert outliers(fleet) == {}
    fleet[3] = member(3, test_samples=2001)
    (why,) = outliers(fleet).values()
    assert "2001 test samples, more than 100 times the fleet's median of 20" in why
    assert outliers({3: fleet[3], 0: fleet[0]}) == {}  # of two, either may be usual


def test_devices_agree_on_the_names_of_classes_and_on_scaling() -> None:
    fleet = {
        0: member(0, labels=("cat", "dog"), scale=255.0),
        1: member(1, labels=("cat", "dog"), scale=255.0),
        2: member(2, scale=255.0),
    }
    assert other_meaning(fleet) == {}
    assert other_meaning({}) == {}
    fleet[3] = member(3, labels=("dog", "cat"), scale=255.0)
    fleet[4] = member(4)
    assert other_meaning(fleet) == {
        3: "its classes are dog, cat, those of the others cat, dog; give labels in data.toml the "
        "same order on every device",
        4: "its values are (value - 0) / 1, those of the others (value - 0) / 255; set offset and "
        "scale in data.toml alike on every device",
    }


@pytest.mark.parametrize(
    ("profile", "board", "said"),
    [
        ("raspberry-pi-5", "Raspberry Pi 5 Model B Rev 1.0", ""),
        ("raspberry-pi-4b-4gb", "Raspberry Pi 4 Model B Rev 1.4", ""),
        ("raspberry-pi-5", "Raspberry Pi Zero 2 W Rev 1.0", "is a raspberry-pi-zero-2w"),
        ("raspberry-pi-5", "VirtualBox", "is not in the catalogue"),
        ("x86-mini-pc", "Some board", ""),
        ("raspberry-pi-5", None, ""),
    ],
)
def test_a_device_of_another_type_than_its_firmware_says_is_noticed(
    profile: str, board: str | None, said: str
) -> None:
    found = other_board(member(profile=profile, board=board))
    assert said in found
    assert bool(found) == bool(said)


def test_a_device_counts_as_at_most_ten_times_the_median() -> None:
    fleet = [*(member(client) for client in range(4)), member(4, train_samples=900)]
    caps = SampleCaps.of(fleet)
    assert (caps.train, caps.test) == (500, 200)
    assert caps.over(fleet[0]) == ""
    assert caps.over(fleet[4]).startswith("900 training samples count as 500")
    counted = caps.apply(TrainReport(trial=0, round=0, samples=900))
    assert counted.samples == 500
    usual = TrainReport(trial=0, round=0, samples=50)
    assert caps.apply(usual) is usual


@given(
    st.lists(
        st.tuples(*[st.integers(0, 3000)] * 3), min_size=2, max_size=6
    ).filter(lambda rows: sum(row[0] for row in rows) > 200)
)  # fmt: skip
def test_a_large_evaluation_scaled_down_still_adds_up(rows: list[tuple[int, int, int]]) -> None:
    actual = [row[0] for row in rows]
    predicted = actual[1:] + actual[:1]
    hits = [min(a, p, row[1]) for a, p, row in zip(actual, predicted, rows, strict=True)]
    report = EvaluateReport(
        trial=0, round=0, samples=sum(actual), loss_sum=9.0, hits=tuple(hits),
        predicted=tuple(predicted), actual=tuple(actual),
    )  # fmt: skip
    assert inconsistent(report, len(rows)) is None
    fewer = SampleCaps(test=200).apply(report)
    assert isinstance(fewer, EvaluateReport)
    assert inconsistent(fewer, len(rows)) is None
    assert 200 - 1 <= fewer.samples <= 200
    assert fewer.loss_sum / fewer.samples == pytest.approx(9.0 / report.samples, rel=0.02)
