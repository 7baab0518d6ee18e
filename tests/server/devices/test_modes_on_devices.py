"""The modes of the server on real devices: the same algorithm, on the devices' own time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from fieldtune.client.contract.messages import EvaluateReport, TrainReport
from fieldtune.server.deployment.run import ConnectedDevice
from fieldtune.server.devices.device_fleet import DeviceFleet
from fieldtune.server.federation.timeline import RealTimeline
from fieldtune.server.outcomes.trial import Completed
from support.scripted_devices import ScriptedRun, Time, description
from support.timed_training import Scene, conducted

NAMES = {f"pi-{number}": number for number in range(4)}
WORK_S = {0: 2.0, 1: 3.0, 2: 4.0, 3: 60.0}


class SlowDevices(ScriptedRun):
    """Devices that work on one message after the other, and the last one takes a minute."""

    def __init__(self, time: Time) -> None:
        super().__init__(lambda message: None, there=())
        self.there = [ConnectedDevice(100 + number, name, "t0") for name, number in NAMES.items()]
        self.time, self.until = time, dict[int, float]()
        self.done_at: dict[str, float] = {}
        self.answer = self.work

    def work(self, message: Message) -> RecordDict | None:
        number = message.metadata.dst_node_id - 100
        if message.metadata.message_type == "query.describe":
            return description(message, client=number, classes=2, train_samples=4, test_samples=4)
        trains = message.metadata.message_type == "train"
        if message.metadata.message_id not in self.done_at:
            begins = max(self.time.now, self.until.get(number, 0.0))
            self.until[number] = begins + (WORK_S[number] if trains else 0.5)
            self.done_at[message.metadata.message_id] = self.until[number]
        if self.time.now < self.done_at[message.metadata.message_id]:
            return None
        asked: dict[str, Any] = dict(message.content.config_records["message"])
        about = {"trial": asked["trial"], "round": asked["round"]}
        if not trains:
            told = EvaluateReport(**about, samples=4, loss_sum=2.0, hits=(2, 1), predicted=(3, 1),
                                  actual=(2, 2), wall_s=0.5)  # fmt: skip
            return RecordDict({"message": ConfigRecord(told.scalars())})
        weights = message.content.array_records["weights"]["all"].numpy() + np.float32(1)
        report = TrainReport(**about, samples=number + 1, steps=1, wall_s=WORK_S[number])
        content = RecordDict({"message": ConfigRecord(report.scalars())})
        content["weights"] = ArrayRecord({"all": Array(weights)})
        return content


@pytest.mark.parametrize(
    ("tables", "server", "failures", "most_s"),
    [
        ("", {}, {}, 3 * 62),
        ("", {"deadline_s": 10.0}, {"late": 1}, 3 * 11),
        ('[server]\nmode = "buffered"', {"buffer_size": 3}, None, 64),
        ('[server]\nmode = "buffered"', {"buffer_size": 3, "deadline_s": 10.0}, None, 40),
        ('[server]\nmode = "async"', {}, None, 64),
        ('[server]\nselection = "available"', {}, {}, 3 * 62),
    ],
)
def test_each_mode_runs_on_devices(
    tables: str, server: dict[str, Any], failures: dict[str, int] | None, most_s: float
) -> None:
    time = Time()
    fleet = DeviceFleet(
        lambda: SlowDevices(time), NAMES, profiles=("raspberry-pi-5",), wanted=4,
        notes=lambda sentence: None, clock=time.clock, sleep=time.sleep,
    )  # fmt: skip
    fleet.members()
    scene = Scene(
        tables=tables, server={"clients_per_round": 4, **server}, clients=4, rounds=3,
        timeline=RealTimeline(fleet.connected, time.clock), clock=time.clock,
    )  # fmt: skip
    training = scene.training_of()
    conducted(training, fleet)
    outcome = training.outcome
    assert isinstance(outcome, Completed), outcome
    timing = outcome.learned.timing
    assert timing is not None
    assert timing.time_s < most_s
    assert training.weights is not None
    assert (training.weights > 0).all()
    if failures is not None:
        assert outcome.learned.failures == failures
