"""Climbing an acquisition function."""

from __future__ import annotations

import numpy as np
import pytest

from fieldtune.server.bo.ascent import ascend


def peak(units: np.ndarray) -> np.ndarray:
    """A narrow hill at 0.7, 0.2; what lies beyond 0.9 is not allowed."""
    value = np.exp(-200 * ((units[:, 0] - 0.7) ** 2 + 3 * (units[:, 1] - 0.2) ** 2))
    return np.where(units[:, 0] > 0.9, np.nan, value)


def test_it_reaches_the_top_and_changes_nothing_else() -> None:
    start = np.array([0.1, 0.9, 0.4])
    assert ascend(peak, start, [0, 1]) == pytest.approx([0.7, 0.2, 0.4], abs=1e-3)
    assert ascend(peak, start, [1]) == pytest.approx([0.1, 0.2, 0.4], abs=1e-3)
    assert ascend(peak, start, []).tolist() == start.tolist()
    assert start.tolist() == [0.1, 0.9, 0.4]


def test_it_ends_where_something_is_allowed() -> None:
    """The value grows towards what is not allowed."""
    end = ascend(
        lambda u: np.where(u[:, 0] > 0.5, np.nan, np.exp(5 * u[:, 0])), np.array([0.2]), [0]
    )
    assert 0.2 <= end[0] <= 0.5
