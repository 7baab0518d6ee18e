"""The model behind the sampler: parameters as numbers, and the Gaussian process."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from scipy.optimize import approx_fprime

from fieldtune.server.bo.candidates import perturb
from fieldtune.server.bo.encoding import Encoding
from fieldtune.server.bo.gp import (
    GaussianProcess,
    Hyperparameters,
    _negative_log_posterior,
    _Pairs,
    fit,
)

SPACE: dict[str, BaseDistribution] = {
    "lr": FloatDistribution(1e-4, 1.0, log=True),
    "momentum": FloatDistribution(0.0, 0.9),
    "stride": FloatDistribution(0.0, 1.0, step=0.1),
    "epochs": IntDistribution(1, 9, step=2),
    "units": IntDistribution(1, 300, log=True),
    "width": CategoricalDistribution([64, 8, 16]),
    "kind": CategoricalDistribution(["a", "b", None, True]),
    "only": CategoricalDistribution(["one"]),
    "fixed": FloatDistribution(2.0, 2.0),
}
ENCODING = Encoding.of(SPACE)


@given(st.lists(st.floats(0, 1), min_size=len(SPACE), max_size=len(SPACE)))
def test_every_place_is_a_configuration_and_comes_back_to_itself(place: list[float]) -> None:
    units = ENCODING.snap(np.array([place]))
    (values,) = ENCODING.values(units)
    for name, distribution in SPACE.items():
        assert distribution._contains(distribution.to_internal_repr(values[name])), name
    assert ENCODING.unit(values) == pytest.approx(units[0], abs=1e-9)
    features = ENCODING.features(units)
    assert features.shape == (1, len(ENCODING.groups))
    assert ((features >= -1e-12) & (features <= 1 + 1e-12)).all()


def test_choices_that_are_numbers_keep_their_order() -> None:
    axis = ENCODING.axes["width"]
    assert axis.values(np.array([0.1, 0.5, 0.9])) == [8, 16, 64]


def test_an_absent_parameter_is_told_apart() -> None:
    encoding = Encoding.of({"x": SPACE["momentum"], "y": SPACE["momentum"]}, ["y"])
    values: list[dict[str, Any]] = [{"x": 0.3}, {"x": 0.3, "y": 0.45}]
    units = np.array([encoding.unit(each) for each in values])
    assert encoding.values(units) == [{"x": 0.3}, {"x": 0.3, "y": pytest.approx(0.45)}]
    absent, present = encoding.features(units)
    assert encoding.groups == ("x", "y", "?y")
    assert absent.tolist() != present.tolist()


def test_a_perturbed_configuration_differs_in_few_parameters() -> None:
    rng = np.random.default_rng(0)
    parent = ENCODING.snap(rng.random((1, len(SPACE))))
    children = perturb(ENCODING, parent, 200, 0.05, rng)
    changed = (children != parent).sum(axis=1)
    assert np.median(changed) <= 3
    assert (changed > 0).mean() > 0.7  # a parameter with one value, or a choice drawn again, stays


def test_the_gradient_of_the_likelihood_is_right() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.random((12, 3)), rng.standard_normal(12)
    pairs = _Pairs.of(x, [0, 1, 2], 3)
    at = np.array([0.1, -0.5, 0.7, 0.2, -2.0])
    _, gradient = _negative_log_posterior(at, pairs, y)
    numeric = approx_fprime(at, lambda v: _negative_log_posterior(v, pairs, y)[0], 1e-6)
    assert gradient == pytest.approx(numeric, rel=1e-3, abs=1e-4)


def test_it_learns_a_function_and_which_parameter_does_not_matter() -> None:
    rng = np.random.default_rng(2)
    x = rng.random((60, 2))
    y = np.sin(6 * x[:, 0])
    y = (y - y.mean()) / y.std()
    found = fit(x, y, [0, 1], [Hyperparameters.prior(2)], 60)
    assert found.lengths[1] > found.lengths[0] + 1
    process = GaussianProcess(x[:40], y[:40], [0, 1], found)
    mean, deviation = process.predict(x[40:])
    assert np.abs(mean - y[40:]).max() < 0.2
    assert (deviation < 0.3).all()
    assert process.predict(np.array([[9.0, 9.0]]))[1] > deviation.max()


def test_equal_points_without_noise_do_no_harm() -> None:
    x = np.zeros((30, 1))
    process = GaussianProcess(x, np.ones(30), [0], Hyperparameters(np.zeros(1), 0.0, -40.0))
    mean, deviation = process.predict(x[:1])
    assert mean == pytest.approx(1.0, abs=0.05)
    assert np.isfinite(deviation).all()
