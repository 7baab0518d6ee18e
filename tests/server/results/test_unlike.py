"""A device whose labels are shifted is named; one whose data are harder is not."""

from __future__ import annotations

import pytest

from fieldtune.profiles.common.shares import unlike_others
from fieldtune.server.report.notes import notes
from fieldtune.server.results.schema import Point, Summary
from fieldtune.server.results.stored_files import DeviceError, VariantFile
from fieldtune.server.results.unlike import unlike_devices

USUAL = {"a": (0.06, 80), "b": (0.1, 60), "c": (0.08, 90)}


@pytest.mark.parametrize(
    ("errors", "named"),
    [
        ({**USUAL, "d": (0.97, 70)}, {"d": 0.08}),
        ({**USUAL, "d": (0.16, 70)}, {}),
        ({**USUAL, "d": (1.0, 1)}, {}),
        ({"a": (0.0, 50), "b": (0.9, 50)}, {}),
        ({"a": (0.6, 90), "b": (0.62, 90), "c": (0.99, 90)}, {"c": 0.61}),
        ({}, {}),
    ],
)
def test_who_is_surely_far_above_the_others_is_unlike_them(
    errors: dict[str, tuple[float, int]], named: dict[str, float]
) -> None:
    assert unlike_others(errors) == pytest.approx(named)


def summary(*files: dict[str, tuple[float, int]]) -> Summary:
    points = [
        Point(
            trial=trial, configuration={}, objectives={}, measures={}, test_samples=1, devices={},
            variants={
                "fp32": VariantFile(
                    bytes=1, sha256="", measures={}, test_samples=1,
                    device_errors={n: DeviceError(error=e, samples=s) for n, (e, s) in f.items()},
                )
            },
        )
        for trial, f in enumerate(files)
    ]  # fmt: skip
    return Summary(
        study="s", seed=0, objectives=(), metric="accuracy", devices={}, simulated=False, trials=1,
        infeasible=0, failed=0, front=points, recommended={}, defaults=None, attempts=[],
    )  # fmt: skip


def test_the_report_names_a_device_that_is_unlike_the_others_on_most_files() -> None:
    wrong = {**USUAL, "d": (0.97, 70)}
    found = unlike_devices(summary(wrong, wrong, USUAL))
    assert found == [
        "d is unlike the others: its error is 97.0 % on 70 samples, theirs 8.0 %; check the labels "
        "and the sensor there"
    ]
    assert found[0] in notes(summary(wrong))["Devices unlike the others"]
    assert unlike_devices(summary(wrong, USUAL)) == []
    assert "Devices unlike the others" not in notes(summary(USUAL))
