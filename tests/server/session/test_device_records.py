"""What each real device did in a training: in its outcome, its checkpoint and the report."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from fieldtune.client.contract.messages import Description, TrainReport, TrainRequest
from fieldtune.server.federation.plausible import Bounds
from fieldtune.server.outcomes.trial import Completed, DeviceRecord
from fieldtune.server.report.html import render_html
from fieldtune.server.report.table import print_summary
from fieldtune.server.results import device_rows
from fieldtune.server.results.all_trials import devices_seen
from fieldtune.server.results.schema import DeviceSeen, Point, Summary
from fieldtune.server.results.stored_files import DeviceError, VariantFile
from support.timed_training import Scene

ROUNDS = 3


def step(client: int, request: TrainRequest) -> TrainReport:
    """Client 2 moves four times as far as the others; client 3 never trains."""
    failure = "error" if client == 3 else None
    length = 4.0 if client == 2 else 1.0
    return TrainReport(
        trial=request.trial, round=request.round, samples=client + 1, loss=1.0, failure=failure,
        weights=None if failure else request.weights + np.float32(length), simulated=True,
    )  # fmt: skip


class Devices(Scene):
    """The same on real devices: they have names."""

    def _bounds(self, members: list[Description]) -> Bounds:
        named = [each.model_copy(update={"name": f"pi-{each.client}"}) for each in members]
        return super()._bounds(named)


def scene(folder: Path | None = None) -> Devices:
    return Devices(
        clients=4, rounds=ROUNDS, client=step, folder=folder, server={"clients_per_round": 4}
    )


EXPECTED = {
    "pi-0": DeviceRecord(ROUNDS, 0.0),
    "pi-1": DeviceRecord(ROUNDS, 0.0),
    "pi-2": DeviceRecord(ROUNDS, 2.0 * ROUNDS),
    "pi-3": DeviceRecord(0, 0.0, {"error": ROUNDS}),
}


def test_a_training_records_the_size_of_updates_and_the_failures_of_each_device() -> None:
    outcome = scene().completed()
    assert outcome.devices == pytest.approx(EXPECTED)
    seen = devices_seen([outcome, outcome])
    assert seen["pi-2"] == DeviceSeen(updates=2 * ROUNDS, update_norm=4.0, failures={})
    assert seen["pi-3"] == DeviceSeen(updates=0, update_norm=None, failures={"error": 2 * ROUNDS})


def test_of_simulated_clients_nothing_is_recorded() -> None:
    assert Scene(clients=4, rounds=ROUNDS, client=step).completed().devices == {}


def test_a_training_that_is_resumed_counts_nothing_twice(tmp_path: Path) -> None:
    assert scene(tmp_path).run(answers=6) is None
    outcome = scene(tmp_path).run()
    assert isinstance(outcome, Completed)
    assert outcome.devices == pytest.approx(EXPECTED)


def summary(*, simulated: bool) -> Summary:
    errors = {
        "kitchen": DeviceError(error=0.1, samples=80),
        "attic": DeviceError(error=1, samples=9),
    }
    file = VariantFile(bytes=1, sha256="", measures={}, test_samples=1, device_errors=errors)
    point = Point(
        trial=3, configuration={}, objectives={}, measures={}, test_samples=1, devices={},
        variants={"fp32": file},
    )  # fmt: skip
    seen = {"kitchen": DeviceSeen(updates=9, update_norm=1.27, failures={"no_reply": 2})}
    return Summary(
        study="s", seed=0, objectives=(), metric="accuracy", devices={}, simulated=simulated,
        trials=1, infeasible=0, failed=1, front=[point], recommended={}, defaults=None,
        attempts=[], seen=seen, refused={"attic": {"clipped": 3}},
    )  # fmt: skip


def test_the_report_has_a_row_for_each_real_device() -> None:
    assert device_rows.rows(summary(simulated=True)) == []
    attic, kitchen = device_rows.rows(summary(simulated=False))
    assert attic == ("attic", "100.0 % (70.1 to 100.0 %)", "-", "-", "clipped 3")
    assert kitchen == ("kitchen", "10.0 % (5.2 to 18.5 %)", "x 1.27", "no_reply 2", "-")
    console = Console(file=io.StringIO(), width=80)
    print_summary(summary(simulated=False), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for shown in (text, render_html(summary(simulated=False))):
        assert "no_reply 2" in shown
        assert "5.2 to 18.5" in shown
