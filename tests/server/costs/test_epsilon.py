"""Epsilon: against closed forms and other accountants, as objective, limit and sum."""

from __future__ import annotations

import math
import sys

import dp_accounting
import numpy as np
import pytest
from dp_accounting.rdp import RdpAccountant
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.profiles.common.errors import MissingExtraError
from fieldtune.server.costs import epsilon as module
from fieldtune.server.costs.epsilon import Rounds, epsilon, epsilon_of_all


@pytest.mark.parametrize("noise", [1.0, 2.0, 5.0])
def test_without_sampling_it_is_the_closed_form_of_the_gaussian_mechanism(noise: float) -> None:
    """Rényi divergence ``T a / (2 s^2)`` (Mironov 2017, proposition 7), made an epsilon as by
    Canonne, Kamath and Steinke 2020, proposition 12."""
    orders = np.linspace(1.01, 200, 20_000)
    bounds = (
        20 * orders / (2 * noise**2) + np.log1p(-1 / orders) - np.log(1e-5 * orders) / (orders - 1)
    )
    found = epsilon(Rounds(1.0, noise, 20), 1e-5)
    assert bounds.min() * (1 - 1e-9) <= found <= bounds.min() * 1.03


@pytest.mark.parametrize(("chance", "noise"), [(0.2, 1.0), (0.05, 0.7), (0.3, 2.0), (0.2, 4.0)])
def test_with_sampling_it_is_at_most_five_per_cent_above_more_orders(
    chance: float, noise: float
) -> None:
    accountant = RdpAccountant()
    accountant.compose(
        dp_accounting.PoissonSampledDpEvent(chance, dp_accounting.GaussianDpEvent(noise)), 20
    )
    exact = accountant.get_epsilon(1e-5)
    assert exact <= epsilon(Rounds(chance, noise, 20), 1e-5) <= 1.05 * exact


@given(
    chance=st.floats(0.01, 1), noise=st.floats(0.3, 10), count=st.integers(1, 100),
    more=st.floats(1.03, 3),
)  # fmt: skip
def test_more_noise_costs_less_and_more_rounds_or_devices_cost_more(
    chance: float, noise: float, count: int, more: float
) -> None:
    own = epsilon(Rounds(chance, noise, count), 1e-5)
    assert epsilon(Rounds(chance, noise * more, count), 1e-5) <= own
    assert epsilon(Rounds(min(1, chance * more), noise, count), 1e-5) >= own
    assert epsilon(Rounds(chance, noise, math.ceil(count * more)), 1e-5) >= own
    assert epsilon(Rounds(chance, noise, count), 1e-7) >= own


def test_trainings_compose_to_less_than_their_sum() -> None:
    each = [Rounds(0.2, 1.0, 20), Rounds(0.1, 2.0, 20), Rounds(0.2, 1.0, 7), Rounds(0.2, 1.0, 0)]
    alone = [epsilon_of_all([rounds], 1e-5) for rounds in each]
    assert alone[0] == epsilon(each[0], 1e-5)
    assert alone[3] == 0
    assert max(alone) < epsilon_of_all(each, 1e-5) < sum(alone)
    halves = [Rounds(0.2, 1.0, 10)] * 2
    assert epsilon_of_all(halves, 1e-5) == pytest.approx(alone[0])


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    module._accounting.cache_clear()
    monkeypatch.setitem(sys.modules, "dp_accounting.rdp", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'fieldtune\[privacy\]'"):
        epsilon(Rounds(0.123, 1.23, 3), 1e-5)
    module._accounting.cache_clear()
