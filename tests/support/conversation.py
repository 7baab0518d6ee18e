"""A training as a conversation with scripted clients, without artefacts or a fleet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fieldtune.client.contract.messages import EvaluateReport, TrainReport, TrainRequest
from fieldtune.server.federation.exchange import Report
from fieldtune.server.federation.fedavg import federated_averaging
from fieldtune.server.federation.plan import Plan
from fieldtune.server.outcomes.trial import Learned
from fieldtune.server.study.space import Configuration

Client = Callable[[int, Any], Report]


def plan(**changes: Any) -> Plan:
    values: dict[str, Any] = {
        "trial": 1,
        "configuration": Configuration(
            {}, {"learning_rate": 0.1}, {"clients_per_round": 3, "server_momentum": 0.0}
        ),
        "artefact": "a" * 64,
        "hyperparameters": ("learning_rate",),
        "initial_weights": np.zeros(2, np.float32),
        "participants": tuple(range(10)),
        "classes": 2,
        "rounds": 4,
        "metric": "accuracy",
        "deadline_s": {},
        "seed": 5,
    }
    return Plan(**(values | changes))


def honest(client: int, request: Any) -> Report:
    """Moves each weight by 1; classifies 3 of 4 samples rightly."""
    if isinstance(request, TrainRequest):
        return TrainReport(
            trial=1, round=request.round, weights=request.weights + 1, samples=client + 1,
            wall_s=2.0,
        )  # fmt: skip
    return EvaluateReport(
        trial=1, round=request.round, samples=4, loss_sum=2.0,
        hits=(2, 1), predicted=(3, 1), actual=(2, 2),
    )  # fmt: skip


def converse(
    made: Plan, client: Client = honest
) -> tuple[np.ndarray, Learned, list[dict[int, Any]]]:
    steps, exchanges, answers = federated_averaging(made), [], None
    while True:
        try:
            exchange = steps.send(answers)  # type: ignore[arg-type]
        except StopIteration as end:
            weights, learned = end.value
            return weights, learned, exchanges
        exchanges.append(dict(exchange))
        answers = {number: client(number, request) for number, request in exchange.items()}
