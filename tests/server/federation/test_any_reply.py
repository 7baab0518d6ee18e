"""Whatever a device replies: the training ends, and the others' result stays within the bound."""

from __future__ import annotations

from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.client.contract.messages import (
    Description,
    EvaluateReport,
    TrainReport,
    TrainRequest,
)
from fieldtune.client.node.fleet_api import identify_process
from fieldtune.server.federation.exchange import Report, Request
from fieldtune.server.federation.fedavg import federated_averaging
from fieldtune.server.federation.fleet import Addressed
from fieldtune.server.federation.flower_messages import reported, request_message
from fieldtune.server.federation.plan import Plan
from fieldtune.server.federation.plausible import Bounds
from fieldtune.server.federation.robust import CLIP_ABOVE
from fieldtune.server.study.space import Configuration

CLIENTS, LIAR, SIZE = 10, 3, 6
MOVE = 0.5
"""Length of an honest update."""

HONEST: dict[str, Any] = {
    "samples": 50, "steps": 7, "loss": 0.5, "loss_sum": 9.0, "wall_s": 0.1, "energy_j": 1.0,
    "failure": "error", "detail": "x", "hits": [3, 3], "predicted": [10, 10], "actual": [10, 10],
}  # fmt: skip
scalars = (
    st.integers(-(2**62), 2**62)
    | st.floats()
    | st.text(max_size=9)
    | st.binary(max_size=9)
    | st.lists(st.integers(-9, 10**12), max_size=4)
    | st.lists(st.floats(), max_size=3)
)
numbers = st.fixed_dictionaries({}, optional=dict.fromkeys((*HONEST, "trial", "new"), scalars))
weights = st.none() | st.lists(st.floats(width=32), min_size=SIZE, max_size=SIZE) | st.binary()


def array(value: Any) -> Array:
    if isinstance(value, bytes):
        return Array("float32", (SIZE,), "numpy.ndarray", b"\x93NUMPY\x01\x00" + value)
    return Array(np.array(value, np.float32))


def honest(client: int, request: Request) -> dict[str, Any]:
    about = {"trial": request.trial, "round": request.round}
    if isinstance(request, TrainRequest):
        return about | {"samples": 50, "steps": 7}
    counts = {"hits": [8, 8], "predicted": [10, 10], "actual": [10, 10]}
    return about | {"samples": 20, "loss_sum": 9.0, **counts}


@given(numbers, numbers, weights)
def test_any_reply_is_survived_within_the_bound(
    about_training: dict[str, Any], about_testing: dict[str, Any], forged: Any
) -> None:
    identify_process(1, 1)
    notes: list[str] = []
    members = [
        Description(
            client=client, name=f"pi-{client}", profile="raspberry-pi-5", train_samples=50,
            test_samples=20, input_shape=(8,), classes=2, runtime="x",
        )
        for client in range(CLIENTS)
    ]  # fmt: skip
    bounds = Bounds(members, notes.append)
    plan = Plan(
        trial=0, configuration=Configuration({}, {}, {"clients_per_round": CLIENTS}),
        artefact="0" * 64, hyperparameters=(), initial_weights=np.zeros(SIZE, np.float32),
        participants=range(CLIENTS), classes=2, rounds=1, metric="accuracy", deadline_s={}, seed=0,
        on_clipped=bounds.clipped(0),
    )  # fmt: skip

    def answer(client: int, request: Request) -> Report:
        asked = request_message(Addressed(client, request, b""), client, 60.0, with_model=False)
        told, vector = honest(client, request), None
        if isinstance(request, TrainRequest):
            direction = np.random.default_rng(client).normal(size=SIZE)
            vector = Array((MOVE * direction / np.linalg.norm(direction)).astype(np.float32))
        if client == LIAR:
            told |= about_training if vector else about_testing
            vector = vector and (None if forged is None else array(forged))
        content = RecordDict({"message": ConfigRecord(told)})
        if vector is not None:
            content["weights"] = ArrayRecord({"all": vector})
        return reported(Message(content, reply_to=asked), request)

    training, answers = federated_averaging(plan), None
    used: dict[int, Report] = {}
    while True:
        try:
            exchange = training.send(answers)  # type: ignore[arg-type]
        except StopIteration as end:
            result, learned = end.value
            break
        asked = bounds.ask(exchange, plan.classes)
        answers = bounds.judge(asked, {c: answer(c, each) for c, each in exchange.items()})
        used |= answers
        for client, report in answers.items():
            assert client == LIAR or not report.failure, "an honest device is refused"
        liar = answers[LIAR]
        assert isinstance(liar, TrainReport | EvaluateReport)
        if liar.failure == "implausible":
            assert any(note.startswith(f"pi-{LIAR}, trial 0") for note in notes)
    others = [c for c in range(CLIENTS) if c != LIAR]
    alone = np.mean(
        [
            MOVE * (d := np.random.default_rng(c).normal(size=SIZE)) / np.linalg.norm(d)
            for c in others
        ],
        axis=0,
    )
    assert np.linalg.norm(result - alone) <= 0.1 * (CLIP_ABOVE + 1) * MOVE + 1e-6
    assert abs(learned.measures["error"] - 0.2) <= 0.1
    assert all(note.startswith(f"pi-{LIAR}") for note in notes)
