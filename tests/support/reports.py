"""Reports of one device, and what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from fieldtune.client.contract.messages import (
    Description,
    EvaluateReport,
    EvaluateRequest,
    TrainReport,
    TrainRequest,
)
from fieldtune.server.federation.exchange import Report, Request
from fieldtune.server.federation.plausible import Bounds
from support.scripted_devices import Time


def member(client: int, **changes: Any) -> Description:
    told: dict[str, Any] = {
        "client": client, "profile": "raspberry-pi-5", "train_samples": 50, "test_samples": 20,
        "runtime": "x 1", "memory_mib": 8000.0,
    }  # fmt: skip
    return Description(**(told | changes))


def train_request(**changes: Any) -> TrainRequest:
    told: dict[str, Any] = {
        "trial": 3, "round": 2, "artefact": "a" * 64, "weights": np.ones(4, np.float32), "seed": 0,
        "batch_size": 8, "local_epochs": 2, "hyperparameter_names": ("learning_rate",),
        "hyperparameter_values": (0.1,),
    }  # fmt: skip
    return TrainRequest(**(told | changes))


def trained(**changes: Any) -> TrainReport:
    told: dict[str, Any] = {
        "trial": 3, "round": 2, "samples": 50, "steps": 100, "loss": 0.5, "wall_s": 2.0,
        "peak_memory_mib": 200.0, "energy_j": 12.0, "call_p50_ms": 15.0, "host_cpu_s": 2.0,
        "weights": np.full(4, 1.5, np.float32),
    }  # fmt: skip
    return TrainReport(**(told | changes))


def evaluated(**changes: Any) -> EvaluateReport:
    told: dict[str, Any] = {
        "trial": 3, "round": 2, "samples": 20, "loss_sum": 30.0, "hits": (9, 8),
        "predicted": (10, 10), "actual": (10, 10), "wall_s": 0.2, "inference_ms": 10.0,
    }  # fmt: skip
    return EvaluateReport(**(told | changes))


def judged(
    report: Report,
    *,
    metric: str = "accuracy",
    after_s: float = 10.0,
    asks: Mapping[str, Any] = MappingProxyType({}),
    **changes: Any,
) -> tuple[Report, list[str]]:
    """What becomes of one device's report so long after it was asked, and what is said."""
    notes, time = [], Time()  # type: tuple[list[str], Time]
    bounds = Bounds([member(7, **changes)], notes.append, time.clock)
    request: Request
    if isinstance(report, TrainReport):
        request = train_request(**asks)
    else:
        request = EvaluateRequest(
            trial=3, round=2, artefact="a" * 64, weights=np.ones(4, np.float32), metric=metric,
            **asks,
        )  # fmt: skip
    asked = bounds.ask({7: request}, classes=2)
    time.sleep(after_s)
    return bounds.judge(asked, {7: report})[7], notes
