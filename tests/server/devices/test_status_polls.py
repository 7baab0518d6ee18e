"""While a study runs, its devices are asked now and then how they are."""

from __future__ import annotations

from flwr.app import ConfigRecord, Error, Message, RecordDict

from fieldtune.client.contract.deployment import STATUS, StatusReport
from fieldtune.server.devices.device_fleet import DeviceFleet
from fieldtune.server.devices.status_polls import EVERY_S, StatusPolls
from fieldtune.server.federation.fleet import Addressed
from support.scripted_devices import NUMBERS, PROFILES, Scene, ScriptedRun, Time, description


def test_devices_are_asked_while_they_work_and_an_old_client_only_once() -> None:
    time, kept, asked = Time(), dict[str, StatusReport](), list[int]()

    def answer(message: Message) -> RecordDict | Error | None:
        node = message.metadata.dst_node_id
        if message.metadata.message_type == STATUS:
            asked.append(node)
            if node == 101:
                return Error(2, "ValueError: No query function registered with name 'status'")
            told = StatusReport(version="0.2.0", profile="raspberry-pi-5", temperature_c=50.0)
            return RecordDict({"message": ConfigRecord(told.scalars())})
        return description(message) if message.metadata.message_type != "train" else None

    polls = StatusPolls(kept.update, time.clock)
    fleet = DeviceFleet(
        lambda: ScriptedRun(answer), NUMBERS, profiles=PROFILES, wanted=2, notes=print,
        status=polls, clock=time.clock, sleep=time.sleep,
    )  # fmt: skip
    fleet.members()
    request = Scene.request(None, trial=1)  # type: ignore[arg-type]
    fleet.send([Addressed(0, request, b"model", 5000.0)])
    assert fleet.receive(EVERY_S - 10) == []
    assert (asked, kept) == ([], {})
    assert fleet.receive(2 * EVERY_S) == []
    assert asked == [100, 101, 100]
    assert kept["pi-a"].temperature_c == 50.0
    assert set(kept) == {"pi-a"}
