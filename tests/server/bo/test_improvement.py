"""What a candidate is expected to add to a front."""

from __future__ import annotations

import moocore
import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm

from fieldtune.server.bo.ehvi import Boxes, expected_improvement
from fieldtune.server.bo.transforms import Transform, shortfall


def exact(values: np.ndarray):  # type: ignore[no-untyped-def]
    return lambda levels: np.maximum(levels - values[:, None], 0.0)


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_with_everything_known_it_is_the_gain_in_hypervolume(objectives: int) -> None:
    rng = np.random.default_rng(objectives)
    front, reference = rng.random((12, objectives)), np.full(objectives, 0.9)
    candidates = rng.random((40, objectives))
    gains = expected_improvement(
        Boxes.beyond(front, reference), [exact(column) for column in candidates.T]
    )
    before = moocore.hypervolume(front, ref=reference)
    for candidate, gain in zip(candidates, gains, strict=True):
        after = moocore.hypervolume(np.vstack([front, candidate]), ref=reference)
        assert gain == pytest.approx(after - before, abs=1e-12)


@pytest.mark.parametrize("learned", [1, 2])
def test_with_learned_objectives_it_is_the_mean_gain_over_draws(learned: int) -> None:
    rng = np.random.default_rng(learned)
    front = np.array([[0.05, 0.9, 0.5], [0.1, 0.5, 0.6], [0.2, 0.3, 0.2], [0.4, 0.1, 0.4]])
    reference = np.array([0.5, 1.0, 1.0])
    scale = Transform("logit", least=1e-6, mean=-2.0, deviation=0.8)
    mean, deviation = np.array([-0.2]), np.array([0.9])
    known = np.array([[0.4], [0.3]])
    draws = scale.backward(mean + deviation * rng.standard_normal((4000, 1)))[:, 0]
    points = np.tile([0.0, 0.4, 0.3], (4000, 1))
    points[:, 0] = draws
    objectives = [lambda t: shortfall(t, mean, deviation, scale), exact(known[0]), exact(known[1])]
    if learned == 2:
        objectives[1] = lambda t: shortfall(t, mean, deviation, scale)
        points[:, 1] = scale.backward(mean + deviation * rng.standard_normal((4000, 1)))[:, 0]
    (gain,) = expected_improvement(Boxes.beyond(front, reference), objectives)
    before = moocore.hypervolume(front, ref=reference)
    gains = [moocore.hypervolume(np.vstack([front, p]), ref=reference) - before for p in points]
    assert gain == pytest.approx(np.mean(gains), abs=4 * np.std(gains) / 4000**0.5)
    assert gain > 0


def test_without_a_front_all_below_the_reference_counts() -> None:
    boxes = Boxes.beyond(np.empty((0, 2)), np.array([2.0, 3.0]))
    (gain,) = expected_improvement(boxes, [exact(np.array([1.0])), exact(np.array([1.0]))])
    assert gain == pytest.approx(2.0)


def test_the_linear_shortfall_is_the_closed_form_even_far_out() -> None:
    # Jones, Schonlau and Welch 1998, equation 15.
    levels = np.linspace(-5.0, 7.0, 25)
    z = (levels - 1.0) / 0.7
    found = shortfall(levels, np.array([1.0]), np.array([0.7]), Transform("linear"))[0]
    tail = z > -6
    closed = 0.7 * (z * norm.cdf(z) + norm.pdf(z))
    assert found[tail] == pytest.approx(closed[tail], rel=0.02)
    assert np.isfinite(found).all()
    assert (np.diff(found) >= 0).all()


def test_scales_are_monotone_and_invert() -> None:
    for values in (np.array([0.02, 0.3, 0.9]), np.array([-0.98, -0.2]), np.array([1.0, 500.0]),
                   np.array([-3.0, 8.0]), np.array([5.0, 5.0]), np.array([0.0, 1.0])):  # fmt: skip
        scale = Transform.of(values)
        line = scale.forward(values)
        assert np.isfinite(line).all()
        assert (np.diff(line) >= 0).all()
        inner = (values > scale.offset) & (values < scale.offset + 1) | (scale.kind != "logit")
        assert scale.backward(line)[inner] == pytest.approx(values[inner])
    assert Transform.of(np.array([0.1, 0.4])).kind == "logit"
    assert expit(0.0) == 0.5
