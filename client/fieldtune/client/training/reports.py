"""The report on what a client has done: weights or counts, and what the work took."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from fieldtune.client.contract.encoding import compressed
from fieldtune.client.contract.messages import (
    EvaluateReport,
    EvaluateRequest,
    Failure,
    TrainReport,
    TrainRequest,
    VariantRequest,
    Weights,
)
from fieldtune.client.data.privacy import Privacy
from fieldtune.client.training import trainer
from fieldtune.client.training.measurement import Measurement
from fieldtune.client.training.residuals import Residuals
from fieldtune.profiles.common.text import printable


def failed(
    request: TrainRequest | EvaluateRequest | VariantRequest, failure: Failure, detail: str
) -> TrainReport | EvaluateReport:
    """A report that the client could not do what a request asks for."""
    kind = TrainReport if isinstance(request, TrainRequest) else EvaluateReport
    return kind(
        trial=request.trial, round=request.round, failure=failure, detail=printable(detail, 500)
    )


def trained_report(
    request: TrainRequest,
    trained: trainer.Trained,
    measured: Measurement,
    residuals: Residuals | None,
    privacy: Privacy | None,
    began: float,
) -> TrainReport | EvaluateReport:
    """The report of a training.

    Args:
        request: that was answered.
        trained: what it came to.
        measured: what it took.
        residuals: of the client's encoded updates; None in a simulation.
        privacy: what the device's owner allows; None in a simulation.
        began: process time at which the work began, in seconds.
    """
    if not np.isfinite(trained.weights).all():
        return failed(request, "diverged", "weights are not finite")
    released = privacy.released(request.weights, trained.weights) if privacy else trained.weights
    return TrainReport(
        trial=request.trial,
        round=request.round,
        **_sent(request, released, residuals),
        samples=trained.samples,
        steps=trained.steps,
        loss=trained.loss,
        **_measured(measured, began),
    )


def _sent(request: TrainRequest, trained: Weights, residuals: Residuals | None) -> dict[str, Any]:
    """The fields of a report that hold the trained weights, or the encoded update."""
    if request.update is None:
        return {"weights": trained}
    residual = request.residual if residuals is None else residuals.of(request)
    share = request.topk_share or 1.0
    encoded, left = compressed(
        request.weights, trained, residual, request.update, request.seed, share
    )
    if residuals is None:
        return {"encoded": encoded, "residual": left}
    residuals.keep(request, left)
    return {"encoded": encoded}


def counted_report(
    request: EvaluateRequest | VariantRequest,
    counted: trainer.Evaluated,
    measured: Measurement,
    calls: int | None,
    began: float,
) -> EvaluateReport:
    """The report of an evaluation; ``calls`` of ``train`` came before it."""
    return EvaluateReport(
        trial=request.trial,
        round=request.round,
        samples=counted.samples,
        loss_sum=counted.loss_sum,
        hits=tuple(counted.hits.tolist()),
        predicted=tuple(counted.predicted.tolist()),
        actual=tuple(counted.actual.tolist()),
        confusion=None if counted.confusion is None else tuple(counted.confusion.ravel().tolist()),
        value=counted.value,
        weight=counted.weight,
        inference_ms=measured.inference_ms,
        steps=calls,
        **_measured(measured, began),
    )


def _measured(measured: Measurement, began: float) -> dict[str, Any]:
    """The fields of a report that say what the work took, which began at this process time."""
    fields: dict[str, Any] = {
        "simulated": measured.simulated,
        "wall_s": measured.wall_s,
        "cpu_s": measured.cpu_s,
        "peak_memory_mib": measured.peak_memory_mib,
        "energy_j": measured.energy_j,
        "temperature_before_c": measured.temperature_before_c,
        "temperature_after_c": measured.temperature_after_c,
        "throttled": measured.throttled,
        "swapping": measured.swapping,
    }
    if measured.latency:
        fields |= {
            "call_p50_ms": measured.latency.median_ms,
            "call_p90_ms": measured.latency.p90_ms,
            "call_p99_ms": measured.latency.p99_ms,
        }
    return fields | {"host_cpu_s": time.process_time() - began}
