"""Weights far larger than those of others, and devices whose updates are odd again and again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.server.federation.plausible import Bounds
from support.reports import member, train_request, trained


def sizes_judged(
    sizes: list[float | None], of: list[float] | None = None, sent: float = 1.0
) -> list[str | None]:
    """What becomes of trainings with these largest weights; None: it diverged.

    ``of`` are the learning rates with which they trained, ``sent`` the largest weight sent out.
    """
    bounds = Bounds([member(client) for client in range(len(sizes))], lambda _: None)
    rates = of or [0.1] * len(sizes)
    asked = bounds.ask(
        {
            client: train_request(
                weights=np.full(2, sent, np.float32), hyperparameter_values=(rate,)
            )
            for client, rate in enumerate(rates)
        }
    )
    answers = {
        client: trained(failure="diverged", weights=None)
        if size is None
        else trained(weights=np.array([0.0, -size], np.float32))
        for client, size in enumerate(sizes)
    }
    return [report.failure for report in bounds.judge(asked, answers).values()]


NO = "implausible"


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([1, 2, 1e20], [None, None, NO]),
        ([1, 1e20], [None, NO]),
        ([0, 1e20], [None, NO]),  # where others do nothing, too
        ([1, 2, 3, 1e20, None], [None, None, None, NO, "diverged"]),
        ([1, 2, 9e5], [None] * 3),
        ([1, 2, 1e20, 1e20, 3], [None, None, NO, NO, None]),
        ([1e20], [None]),  # nobody to compare it with
        # Most trainings diverge: whatever is finite stays, as wide as it may be spread.
        ([1e20, 1e12, 1e8, 1e5], [None] * 4),
        ([1e37, 2e3, 2e3], [None] * 3),
        ([1e20, None, None, 1], [None, "diverged", "diverged", None]),
        ([1e20, None, 1], [None, "diverged", None]),
    ],
)
def test_weights_are_refused_where_one_training_alone_runs_away(
    sizes: list[float | None], expected: list[str | None]
) -> None:
    assert sizes_judged(sizes) == expected


def test_what_a_training_with_refused_weights_took_is_charged_all_the_same() -> None:
    bounds = Bounds([member(0), member(1)], lambda _: None)
    runaway = trained(weights=np.full(4, 1e20, np.float32))
    asked = bounds.ask(dict.fromkeys((0, 1), train_request()))
    refused = bounds.judge(asked, {0: runaway, 1: trained()})[0]
    assert refused == runaway.model_copy(
        update={"failure": "implausible", "detail": refused.detail}
    )


def test_what_counts_as_huge_grows_with_the_weights_sent_out() -> None:
    assert sizes_judged([1e9, 1e9, 1e14], sent=1e9) == [None] * 3
    assert sizes_judged([1e9, 1e9, 1e16], sent=1e9) == [None, None, NO]


def test_a_configuration_that_diverges_alone_is_compared_with_no_other() -> None:
    assert sizes_judged([1, 1, 1e20], of=[0.1, 0.1, 9.0]) == [None] * 3
    assert sizes_judged([1, 1e20, 1e20], of=[0.1, 0.1, 9.0]) == [None, NO, None]


@given(
    st.lists(st.one_of(st.none(), st.floats(1e4, 1e38)), min_size=1, max_size=9),
    st.lists(st.floats(0, 1e38), max_size=8),
    st.randoms(use_true_random=False),
)
def test_a_round_that_diverges_for_most_is_left_as_it_is(
    huge: list[float | None], others: list[float], random: Any
) -> None:
    sizes = [*huge, *others[: len(huge) - 1]]
    random.shuffle(sizes)
    assert NO not in sizes_judged(sizes)


@pytest.mark.parametrize("what", ["clipped", "opposed"])
def test_a_device_is_named_for_odd_updates_only_if_most_of_its_updates_are(what: str) -> None:
    notes: list[str] = []
    bounds = Bounds([member(0, name="attic"), member(1, name="shed")], notes.append)
    for round in range(10):
        asked = bounds.ask(dict.fromkeys((0, 1), train_request(round=round)))
        bounds.judge(asked, dict.fromkeys((0, 1), trained(round=round)))
        getattr(bounds, what)(3)(0, round, 9.0)
        if round % 2:
            getattr(bounds, what)(3)(1, round, 9.0)
    assert [note.split(",")[0] for note in notes] == ["attic"]
    reason = {"clipped": "clipped", "opposed": "direction"}[what]
    assert bounds.refusals.in_trial(3) == {"attic": {reason: 10}}
