"""The area under the ROC curve on one client."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from fieldtune.client.training.metrics import auc, metric_function, own_metric
from fieldtune.profiles.common.errors import UsageError


@given(st.integers(0, 10_000))
def test_the_area_equals_scikit_learns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(30, 3)).round(1).astype(np.float32)
    true = np.concatenate([[0, 1, 2], rng.integers(0, 3, 27)]).astype(np.int32)
    value, weight = auc(true, logits)
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    expected = np.mean(
        [roc_auc_score(true == label, probabilities[:, label]) for label in range(3)]
    )
    assert value == pytest.approx(expected, abs=1e-6)
    assert weight == 30


def test_a_client_with_one_class_has_no_say() -> None:
    assert auc(np.zeros(5, np.int32), np.zeros((5, 3), np.float32)) == (0.0, 0.0)


def test_a_metric_of_ones_own_that_is_not_there_is_a_sentence() -> None:
    with pytest.raises(UsageError, match=r"^task\.metric = 'math:sqr' .* \(did you mean 'sqrt'"):
        metric_function("math:sqr")


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        (ZeroDivisionError("division by zero"), "raised ZeroDivisionError: division by zero"),
        (SystemExit(3), "raised SystemExit: 3"),
        (0.5, r"returned a single number, 0.5: return \(value, weight\), two numbers"),
        ([0.5] * 50, "returned 50 values: return"),
        (("a", 1), "returned 2 values of which not all are numbers"),
        (None, "returned NoneType: return"),
        ((0.5, -1), "returned the weight -1: return a weight of at least 0"),
        ((0.5, float("nan")), "returned the weight nan"),
    ],
)
def test_a_metric_that_returns_anything_else_is_a_sentence(returned: object, sentence: str) -> None:
    def metric(y_true: object, logits: object) -> object:
        if isinstance(returned, BaseException):
            raise returned
        return returned

    with pytest.raises(UsageError, match=rf"^task\.metric = 'm:f' {sentence}"):
        own_metric("m:f", metric, np.zeros(1, np.int32), np.zeros((1, 2), np.float32))  # type: ignore[arg-type]
