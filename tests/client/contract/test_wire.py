"""Copies of messages, and messages that are not validated again."""

from __future__ import annotations

import copy

import numpy as np

from fieldtune.client.contract.messages import EvaluateReport, TrainRequest


def test_a_copy_changes_by_itself() -> None:
    request = TrainRequest(
        trial=1, round=2, artefact="a" * 64, weights=np.zeros(3, np.float32), seed=3,
        batch_size=8, local_epochs=1, hyperparameter_names=(), hyperparameter_values=(),
    )  # fmt: skip
    given = {*request.model_fields_set}
    other = request.model_copy(update={"seed": 4, "topk_share": 0.5})
    assert (request.seed, request.topk_share, request.model_fields_set) == (3, None, given)
    assert other.model_fields_set == given | {"topk_share"}
    assert other.weights is request.weights
    assert other.model_copy(update={"seed": 3, "topk_share": None}) == request
    assert copy.copy(request) == request


def test_a_message_of_all_its_fields_is_the_one_that_was_validated() -> None:
    report = EvaluateReport(trial=1, round=2, samples=3, hits=(1, 2))
    fields = {**EvaluateReport.defaults(), "trial": 1, "round": 2, "samples": 3, "hits": (1, 2)}
    again = EvaluateReport.trusted(fields)
    assert again == report
    assert again.model_copy(update={"samples": 4}).samples == 4
    assert again.model_fields_set == {*EvaluateReport.model_fields}
