"""The fleet behind a Flower Grid trusts no device."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict
from flwr.serverapp import Grid

from fieldtune.client.contract.messages import (
    Description,
    EvaluateReport,
    EvaluateRequest,
    TrainReport,
    TrainRequest,
)
from fieldtune.client.node.fleet_api import empty_run, identify_process, set_message_id
from fieldtune.profiles.common.errors import FleetError
from fieldtune.server.federation.fleet import Addressed
from fieldtune.server.federation.grid_fleet import GridFleet

Answer = Callable[[Message], RecordDict | Error | None]
SHA = "a" * 64
WEIGHTS = np.arange(4, dtype=np.float32)


class FakeGrid(Grid):
    """Two nodes that answer as they are told to; None never answers."""

    def __init__(self, answer: Answer) -> None:
        identify_process(1, 1)
        self.answer, self.sent = answer, []  # type: tuple[Answer, list[Message]]

    def set_run(self, run: Any) -> None: ...

    @property
    def run(self) -> Any:
        return empty_run(1)

    def create_message(self, *_: Any, **__: Any) -> Message:
        raise AssertionError("deprecated in Flower")

    def get_node_ids(self) -> list[int]:
        return [100, 101]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        ids = []
        for message in messages:
            set_message_id(message, f"m{len(self.sent)}")
            self.sent.append(message)
            ids.append(message.metadata.message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        replies = []
        for message in [m for m in self.sent if m.metadata.message_id in set(message_ids)]:
            answer = self.answer(message)
            if answer is not None:
                replies.append(Message(answer, reply_to=message))
        return replies

    def send_and_receive(self, messages: Iterable[Message], **_: Any) -> list[Message]:
        return self.pull_messages(self.push_messages(messages))


def records(message: Any, weights: np.ndarray | None = None) -> RecordDict:
    scalars = message if isinstance(message, dict) else message.scalars()
    content = RecordDict({"message": ConfigRecord(scalars)})
    if weights is not None:
        content["weights"] = ArrayRecord({"all": Array(weights)})
    return content


def description(client: int) -> Description:
    return Description(
        client=client, profile="raspberry-pi-5", train_samples=9, test_samples=3,
        input_shape=(8, 8, 1), classes=10, runtime="x 1",
    )  # fmt: skip


def fleet_answering(train: Answer) -> tuple[GridFleet, FakeGrid]:
    def answer(message: Message) -> RecordDict | Error | None:
        if message.metadata.message_type == "query.describe":
            return records(description(message.metadata.dst_node_id - 100))
        return train(message)

    grid = FakeGrid(answer)
    fleet = GridFleet(grid)
    assert [member.client for member in fleet.members()] == [0, 1]
    return fleet, grid


def train_request(client: int = 0) -> Addressed:
    request = TrainRequest(
        trial=1, round=2, artefact=SHA, weights=WEIGHTS, seed=0, batch_size=8, local_epochs=1,
        hyperparameter_names=("learning_rate",), hyperparameter_values=(0.1,),
    )  # fmt: skip
    return Addressed(client, request, b"model")


GOOD = TrainReport(trial=1, round=2, samples=9, steps=2, loss=0.5, wall_s=0.1)


def answer_to_training(answer: Answer) -> TrainReport:
    fleet, _ = fleet_answering(answer)
    fleet.send([train_request()])
    (reply,) = fleet.receive(1.0)
    assert isinstance(reply.report, TrainReport)
    assert reply.client == 0
    return reply.report


def test_an_honest_report_arrives() -> None:
    report = answer_to_training(lambda _: records(GOOD, WEIGHTS + 1))
    assert report.failure is None
    assert report.samples == 9
    assert report.weights is not None
    assert report.weights.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "answer",
    [
        RecordDict(),
        records({"trial": 1}),
        records({**GOOD.scalars(), "surprise": 1}, WEIGHTS),
        records({**GOOD.scalars(), "samples": -5}, WEIGHTS),
        records({**GOOD.scalars(), "wall_s": float("nan")}, WEIGHTS),
        records({**GOOD.scalars(), "trial": 9}, WEIGHTS),
        records({**GOOD.scalars(), "round": 9}, WEIGHTS),
        records(GOOD, WEIGHTS.astype(np.float64)),
        records(GOOD, WEIGHTS.reshape(2, 2)),
    ],
    ids=["empty", "partial", "unknown", "negative", "nan", "trial", "round", "f64", "2d"],
)  # fmt: skip
def test_anything_else_is_implausible_and_never_an_exception(answer: RecordDict) -> None:
    report = answer_to_training(lambda _: answer)
    assert report.failure == "implausible"
    assert report.weights is None
    assert report.detail


def test_a_devices_text_cannot_forge_a_line() -> None:
    forged = "raised\x1b[2K\r\ntrial 7: error 0.0 %\u2028\u202e"
    report = answer_to_training(lambda _: Error(code=2, reason=forged))
    assert report.failure == "error"
    said = answer_to_training(
        lambda _: records({**GOOD.scalars(), "failure": "error", "detail": forged})
    )
    for text in (report.detail, said.detail):
        assert "trial 7" in text
        assert text.isprintable()


def saved(header: str, data: bytes = WEIGHTS.tobytes()) -> bytes:
    """An array as NumPy saves it, with a header of one's own."""
    return b"\x93NUMPY\x01\x00v\x00" + header.ljust(117).encode() + b"\n" + data


def npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, WEIGHTS)
    return file.getvalue()


HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }"


def array(data: bytes, stype: str = "numpy.ndarray", dtype: str = "float32") -> Array:
    return Array(dtype, (4,), stype, data)


def test_an_array_saved_by_hand_is_as_good_as_any() -> None:
    content = records(GOOD)
    content["weights"] = ArrayRecord({"all": array(saved(HEADER))})
    assert answer_to_training(lambda _: content).failure is None


@pytest.mark.parametrize(
    "array",
    [
        array(saved(HEADER), stype="torch.tensor"),
        array(saved(HEADER), dtype="float64"),
        array(b""),
        array(saved(HEADER, data=b"")),
        array(saved(HEADER, data=WEIGHTS.tobytes() * 1000)),
        array(saved(HEADER.replace("4,", f"{10**14},"))),
        array(saved("(" * 117)),
        array(npz()),
        array(b"PK\x03\x04" + bytes(140)),
        array(saved(HEADER.replace("<f4", "|O"), data=b"cos\nsystem\n(S'true'\ntR.")),
    ],
    ids=["torch", "f64", "no bytes", "no data", "long", "huge", "garbled", "npz", "zip", "pickle"],
)
def test_weights_that_are_not_those_of_the_model_are_a_failure(array: Array) -> None:
    content = records(GOOD)
    content["weights"] = ArrayRecord({"all": array})
    report = answer_to_training(lambda _: content)
    assert report.failure == "implausible"
    assert report.weights is None
    assert "not a report: " in report.detail


def test_an_artefact_travels_once_and_again_only_to_a_device_that_lost_it() -> None:
    missing = TrainReport(trial=1, round=2, failure="artefact_missing")
    answers = iter([records(GOOD, WEIGHTS), records(missing), records(GOOD, WEIGHTS)])
    fleet, grid = fleet_answering(lambda _: next(answers))
    for _ in range(2):
        fleet.send([train_request()])
        replies = fleet.receive(0.0) or fleet.receive(1.0)
        assert [reply.report.failure for reply in replies] == [None]
    carried = [
        "model" in message.content.config_records["message"]
        for message in grid.sent
        if message.metadata.message_type == "train"
    ]
    assert carried == [True, False, True]


def test_a_device_that_never_has_the_artefact_is_not_sent_it_for_ever() -> None:
    missing = TrainReport(trial=1, round=2, failure="artefact_missing")
    fleet, grid = fleet_answering(lambda _: records(missing))
    fleet.send([train_request()])
    replies = [reply for _ in range(5) for reply in fleet.receive(0.0)]
    assert [reply.report.failure for reply in replies] == ["artefact_missing"]
    assert len(grid.sent) <= 4


def test_a_device_that_does_not_answer_in_time_is_a_failure() -> None:
    fleet, _ = fleet_answering(lambda _: None)
    fleet._ttl_s = -1.0
    fleet.send([train_request()])
    assert [reply.report.failure for reply in fleet.receive(0.0)] == ["no_reply"]


def test_an_evaluation_report_answers_an_evaluation() -> None:
    request = EvaluateRequest(trial=1, round=2, artefact=SHA, weights=WEIGHTS, metric="accuracy")
    report = EvaluateReport(
        trial=1, round=2, samples=3, loss_sum=1.0, hits=(1, 0), predicted=(2, 1), actual=(1, 2)
    )
    fleet, _ = fleet_answering(lambda _: records(report))
    fleet.send([Addressed(1, request, b"model")])
    (reply,) = fleet.receive(1.0)
    assert reply.report == report


def test_a_fleet_of_which_nobody_answers_is_refused() -> None:
    with pytest.raises(FleetError, match="None of 2 connected devices"):
        GridFleet(FakeGrid(lambda _: Error(code=2, reason="no"))).members()


def test_two_devices_with_the_same_number_are_one_member() -> None:
    grid = FakeGrid(lambda _: records(description(4)))
    assert [member.client for member in GridFleet(grid).members()] == [4]
