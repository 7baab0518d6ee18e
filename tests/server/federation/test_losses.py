"""One device cannot give the fleet's loss any value."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fieldtune.client.contract.messages import EvaluateReport, EvaluateRequest
from fieldtune.server.federation.plausible import Bounds
from support.reports import evaluated, member

SAMPLES, HONEST = 10, (0.9, 1.0, 1.1, 1.2)


def judged(
    losses: tuple[float, ...], *, named: bool = True, private: bool = False
) -> tuple[list[float], list[str]]:
    """The mean losses that count, and what is said, where devices report these ones."""
    notes: list[str] = []
    names = [f"pi-{client}" if named else "" for client in range(len(losses))]
    bounds = Bounds([member(client, name=name) for client, name in enumerate(names)], notes.append)
    request = EvaluateRequest(
        trial=3, round=2, artefact="a" * 64, weights=np.ones(4, np.float32), metric="accuracy"
    )
    asked = bounds.ask(dict.fromkeys(range(len(losses)), request), by_itself=private)
    answers = {
        client: evaluated(samples=SAMPLES, loss_sum=SAMPLES * loss)
        for client, loss in enumerate(losses)
    }
    found = bounds.judge(asked, answers).values()
    assert all(isinstance(each, EvaluateReport) and not each.failure for each in found)
    return [each.loss_sum / SAMPLES for each in found], notes  # type: ignore[union-attr]


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("lie", [20.0, 1e15, 1e307])
def test_a_loss_counts_up_to_ten_times_the_median_and_its_device_is_named(
    lie: float, private: bool
) -> None:
    counted, notes = judged((*HONEST, lie), private=private)
    assert counted == pytest.approx([*HONEST, 11.0])
    assert [note.split(",")[0] for note in notes] == ["pi-4"]
    assert "loss counted as 11 (said once): its loss is" in notes[0]


@pytest.mark.parametrize("lie", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_among_finite_ones_is_named(lie: float) -> None:
    counted, notes = judged((*HONEST, lie))
    assert counted[:4] == pytest.approx(HONEST)
    assert [note.split(",")[0] for note in notes] == ["pi-4"]


@pytest.mark.parametrize("honest", [0.0, -0.0009])
def test_a_loss_among_those_of_a_perfect_model_is_limited_too(honest: float) -> None:
    counted, notes = judged((honest,) * 4 + (1e300,))
    assert counted == pytest.approx([honest] * 4 + [0.0])
    assert [note.split(",")[0] for note in notes] == ["pi-4"]


def test_two_devices_do_not_raise_the_limit_for_each_other() -> None:
    counted, notes = judged((*HONEST, 1e15, 1e15))
    assert counted == pytest.approx([*HONEST, 11.5, 11.5])
    assert len(notes) == 2


def test_losses_of_two_devices_with_harder_data_are_taken_as_they_are() -> None:
    losses = (0.001, 0.001, 0.001, 0.3, 0.3)
    assert judged(losses) == (pytest.approx(losses), [])


def test_losses_of_weights_that_have_diverged_or_of_two_devices_are_taken_as_they_are() -> None:
    for losses in ((math.inf, math.nan, math.nan, 1.0), (1.0, 1e9), HONEST):
        counted, notes = judged(losses)
        assert counted == pytest.approx(losses, nan_ok=True)
        assert notes == []


def test_simulated_clients_are_honest() -> None:
    assert judged((*HONEST, 1e15), named=False) == (pytest.approx([*HONEST, 1e15]), [])
