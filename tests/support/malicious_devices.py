"""The harness for what a malicious device can do to a study: a fleet of ten, of which one is it.

:func:`study_with` runs a whole study, and a :data:`Forgery` changes the malicious device's replies.
All ten run the real ClientApp on real data. Messages travel as bytes, so a lie passes the same
decoding as on a network. The fleet is a simulated one
(:class:`~fieldtune.server.federation.grid_fleet.GridFleet`) or one of real, named devices
(:class:`~fieldtune.server.devices.device_fleet.DeviceFleet`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict
from flwr.serverapp import Grid

from fieldtune.client.node.fleet_api import (
    empty_run,
    identify_process,
    message_from_bytes,
    message_to_bytes,
)
from fieldtune.server.compiler.service import CompileService
from fieldtune.server.deployment.run import ConnectedDevice
from fieldtune.server.devices.device_fleet import DeviceFleet
from fieldtune.server.federation.fleet import Fleet
from fieldtune.server.federation.grid_fleet import GridFleet
from fieldtune.server.outcomes.trial import Outcome
from fieldtune.server.results.run_folder import RunFolder
from fieldtune.server.results.schema import Summary
from fieldtune.server.session.cpu_time import CpuTime
from fieldtune.server.session.session import open_tuner, run_session
from fieldtune.server.study.load import parse_study
from fieldtune.simulations.fleet.plan import FleetPlan, SimulatedFleet, node_ids
from fieldtune.simulations.fleet.worker import answer
from support.scripted_devices import ScriptedRun

CLIENTS, LIAR = 10, 7
NAMES = [f"pi-{client}" for client in range(CLIENTS)]
STUDY = """
[study]
name = "ten"
trials = 2
rounds = {rounds}
objectives = ["error", "inference_ms"]
[task]
data = "digits"
model = "mlp"
variants = ["fp32"]
[fleet]
clients = 10
devices = { "raspberry-pi-5" = 1.0 }
[space.model]
width = { choices = [8], default = 8 }
[space.client]
learning_rate = { low = 0.01, high = 1.0, log = true }
[space.server]
clients_per_round = { choices = [10] }
[tuner]
name = "random"
"""
Kind = Literal["simulated", "real"]
Forgery = Callable[[Message, RecordDict], Any]
"""``(what was asked, reply)``: changes the reply."""


def says(message_type: str, **numbers: object) -> Forgery:
    """Replies to messages of this type with these numbers in the place of its own."""

    def forge(asked: Message, reply: RecordDict) -> None:
        if asked.metadata.message_type == message_type:
            reply.config_records["message"].update(numbers)  # type: ignore[arg-type]

    return forge


def fails(message_type: str) -> Forgery:
    """Never does what messages of this type ask for, and says so: no lie."""

    def forge(asked: Message, reply: RecordDict) -> None:
        if asked.metadata.message_type == message_type:
            told = reply.config_records["message"]
            kept = {name: told[name] for name in ("trial", "round")}
            reply["message"] = ConfigRecord({**kept, "failure": "bad_data"})
            reply.array_records.pop("weights", None)

    return forge


def honest(asked: Message, reply: RecordDict) -> None:
    """Forges nothing."""


def trains_to(change: Callable[[Any, Any], Any]) -> Forgery:
    """Replies with other weights: a function of those sent out and those that it trained."""

    def forge(asked: Message, reply: RecordDict) -> None:
        if asked.metadata.message_type == "train":
            sent = asked.content.array_records["weights"]["all"].numpy()
            weights = change(sent, reply.array_records["weights"]["all"].numpy())
            reply["weights"] = ArrayRecord({"all": Array(np.asarray(weights, np.float32))})

    return forge


huge_weights = trains_to(lambda sent, trained: np.full(sent.size, 1e20))
"""Trains to weights of 1e20, which are finite."""


def all_right(message_type: str) -> Forgery:
    """Tested on 1e9 samples and got every one right; its counts add up."""
    counts = [10**8] * 10
    return says(
        message_type, samples=10**9, loss_sum=0.0, hits=counts, predicted=counts, actual=counts
    )


class LyingRun(ScriptedRun):
    """A run of ten devices that do as they are asked, but for what one of them makes of it."""

    def __init__(self, forge: Forgery) -> None:
        super().__init__(self._answer)
        plan = FleetPlan.of(parse_study(STUDY.replace("{rounds}", "1"), "ten"))
        self._forge, self._devices = forge, SimulatedFleet(plan)
        self.there = [
            ConnectedDevice(node, name, "t0")
            for node, name in zip(node_ids(CLIENTS), NAMES, strict=True)
        ]

    def _answer(self, message: Message) -> RecordDict | Error:
        reply = message_from_bytes(answer(self._devices, message_to_bytes(message)))
        identify_process(1, 1)
        if reply.has_error():
            return reply.error
        if message.metadata.dst_node_id == self.there[LIAR].node_id:
            self._forge(message, reply.content)
        return reply.content


class LyingGrid(Grid):
    """The same devices as nodes of a Flower Grid."""

    def __init__(self, run: LyingRun) -> None:
        self._run = run

    def set_run(self, run: Any) -> None: ...

    @property
    def run(self) -> Any:
        return empty_run(1)

    def create_message(self, *_: Any, **__: Any) -> Message:
        raise AssertionError("deprecated in Flower")

    def get_node_ids(self) -> list[int]:
        return [node.node_id for node in self._run.there]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        return [str(number) for number in self._run.push(list(messages))]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        return self._run.pull(message_ids)

    def send_and_receive(self, messages: Iterable[Message], **_: Any) -> list[Message]:
        return self.pull_messages(self.push_messages(messages))


def fleet_of(kind: Kind, forge: Forgery, notes: Callable[[str], None]) -> Fleet:
    """Ten devices, one of which forges its replies."""
    run = LyingRun(forge)
    if kind == "simulated":
        return GridFleet(LyingGrid(run), notes=notes)
    numbers = {name: client for client, name in enumerate(NAMES)}
    return DeviceFleet(
        lambda: run, numbers, profiles=("raspberry-pi-5",), wanted=CLIENTS - 1, notes=notes
    )


@dataclass(frozen=True)
class Ended:
    """What came of a study."""

    outcomes: list[Outcome]
    summary: Summary
    notes: list[str]
    weights: bytes
    """Of all trials."""


class Silent:
    def round_started(self, trial: int, number: int) -> None: ...
    def trial_ended(self, outcome: Outcome, trials: Sequence[Outcome] = ()) -> None: ...


def study_with(
    kind: Kind, forge: Forgery, path: Path, service: CompileService, rounds: int = 1
) -> Ended:
    """A whole study on such a fleet, variants included."""
    notes: list[str] = []
    with RunFolder(path, STUDY.replace("{rounds}", str(rounds))) as folder:
        tuner = open_tuner(folder)
        fleet = fleet_of(kind, forge, notes.append)
        summary = run_session(folder, tuner, fleet, service, Silent(), CpuTime(), notes.append)
        outcomes = tuner.history()
        weights = b"".join(folder.load_weights(o.proposal.number).tobytes() for o in outcomes)
    return Ended(list(outcomes), summary, notes, weights)
