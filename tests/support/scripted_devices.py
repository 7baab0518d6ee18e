"""A run whose devices answer by a script, on a clock that only moves when somebody waits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict

from fieldtune.client.contract.messages import Description, TrainReport, TrainRequest
from fieldtune.client.node.fleet_api import identify_process, set_message_id
from fieldtune.server.deployment.run import ConnectedDevice, RunLostError
from fieldtune.server.devices.device_fleet import DeviceFleet
from fieldtune.server.federation.fleet import Addressed

SHA = "a" * 64
WEIGHTS = np.arange(4, dtype=np.float32)
NUMBERS = {"pi-a": 0, "pi-b": 1}
PROFILES = ("raspberry-pi-5",)
Answer = Callable[[Message], RecordDict | Error | None]


class Time:
    """A clock that only moves when somebody waits."""

    now = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class ScriptedRun:
    """A run whose devices do as they are told to; None: no answer, yet."""

    def __init__(self, answer: Answer, there: Sequence[str] = ("pi-a", "pi-b")) -> None:
        identify_process(1, 1)
        self.answer = answer
        self.there = [ConnectedDevice(100 + NUMBERS[name], name, "t0") for name in there]
        self.sent: list[Message] = []
        self.open: dict[str, Message] = {}
        self.lost = False
        self.outages = 0
        self.closed: list[str | None] = []

    def nodes(self) -> Sequence[ConnectedDevice]:
        self._check()
        return list(self.there)

    def push(self, messages: Sequence[Message]) -> list[str | None]:
        self._check()
        ids: list[str | None] = []
        for message in messages:
            set_message_id(message, f"m{len(self.sent)}")
            self.sent.append(message)
            self.open[message.metadata.message_id] = message
            ids.append(message.metadata.message_id)
        return ids

    def pull(self, message_ids: Iterable[str]) -> list[Message]:
        self._check()
        replies = []
        for message_id in message_ids:
            message = self.open.get(message_id)
            answer = None if message is None else self.answer(message)
            if message is not None and answer is not None:
                del self.open[message_id]
                replies.append(Message(answer, reply_to=message))
        return replies

    def close(self, failed: str | None = None) -> None:
        self.closed.append(failed)

    def trainings(self) -> list[Message]:
        return [m for m in self.sent if m.metadata.message_type == "train"]

    def _check(self) -> None:
        if self.lost:
            raise RunLostError


def description(message: Message, **changes: object) -> RecordDict:
    told = Description(
        client=7, profile="raspberry-pi-5", train_samples=9, test_samples=3,
        input_shape=(8, 8, 1), classes=10, runtime="x 1",
    )  # fmt: skip
    return RecordDict({"message": ConfigRecord(told.model_copy(update=changes).scalars())})


def good(message: Message) -> RecordDict:
    asked = message.content.config_records.get("message", {"trial": 1})
    trial = int(str(asked["trial"]))
    report = TrainReport(trial=trial, round=2, samples=9, steps=2, loss=0.5, wall_s=0.1)
    content = RecordDict({"message": ConfigRecord(report.scalars())})
    content["weights"] = ArrayRecord({"all": Array(WEIGHTS + message.metadata.dst_node_id)})
    return content


def failed(kind: str, detail: str = "") -> RecordDict:
    report = TrainReport(trial=1, round=2, failure=kind, detail=detail)  # type: ignore[arg-type]
    return RecordDict({"message": ConfigRecord(report.scalars())})


class Scene:
    """A fleet of two enrolled devices over a scripted run; of those, some are there."""

    def __init__(self, train: Answer, there: Sequence[str] = ("pi-a", "pi-b")) -> None:
        def answer(message: Message) -> RecordDict | Error | None:
            asked = message.metadata.message_type == "query.describe"
            return description(message) if asked else train(message)

        self.runs: list[ScriptedRun] = []
        self.time, self.notes = Time(), []  # type: tuple[Time, list[str]]
        self.waits: list[tuple[float, str]] = []
        """When what was said of a wait."""
        self.enrolled = dict(NUMBERS)

        def start() -> ScriptedRun:
            self.runs.append(ScriptedRun(answer, there))
            return self.runs[-1]

        self.fleet = DeviceFleet(
            start, NUMBERS, profiles=PROFILES, wanted=len(there), notes=self.notes.append,
            renumber=lambda: self.enrolled,
            waiting=lambda sentence: self.waits.append((self.time.now, sentence)),
            clock=self.time.clock, sleep=self.time.sleep,
        )  # fmt: skip
        self.members = self.fleet.members()

    @property
    def run(self) -> ScriptedRun:
        return self.runs[-1]

    def request(self, trial: int) -> TrainRequest:
        return TrainRequest(
            trial=trial, round=2, artefact=SHA, weights=WEIGHTS, seed=0, batch_size=8,
            local_epochs=1, hyperparameter_names=("learning_rate",), hyperparameter_values=(0.1,),
        )  # fmt: skip

    def ask(self, *clients: int, work_s: float = 0.0) -> None:
        request = self.request(trial=1)
        self.fleet.send([Addressed(client, request, b"model", work_s) for client in clients])

    def reports(self, seconds: float = 2000.0) -> dict[int, TrainReport]:
        """What comes in within so many seconds; a second answer of a client fails."""
        found: dict[int, TrainReport] = {}
        give_up = self.time.now + seconds
        while self.fleet._jobs and self.time.now < give_up:
            for reply in self.fleet.receive(5.0):
                assert reply.client not in found
                assert isinstance(reply.report, TrainReport)
                found[reply.client] = reply.report
        return found


def answers(*in_order: RecordDict | Error | None) -> Answer:
    """Each message in turn gets the next of these, then ``good``."""
    planned = list(in_order)
    given: dict[str, RecordDict | Error | None] = {}

    def answer(message: Message) -> RecordDict | Error | None:
        key = message.metadata.message_id
        if key not in given:
            given[key] = planned.pop(0) if planned else good(message)
        return given[key]

    return answer
