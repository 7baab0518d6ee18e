"""The harness for what a malicious device can do to a study: a fleet of ten, of which one is it.

:func:`study_with` runs a whole study, and a :data:`~support.forgeries.Forgery` changes what the
malicious device replies. All ten run the real ClientApp on real data. Messages travel as bytes, so
a lie passes the same decoding as on a network. The fleet is a simulated one
(:class:`~support.grid_fleet.GridFleet`, whose clients have no names) or one of real, named devices
(:class:`~fieldtune.server.devices.device_fleet.DeviceFleet`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from flwr.app import Context, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from fieldtune.client.node.client_app import make_client_app
from fieldtune.client.node.fleet_api import identify_process, message_from_bytes, message_to_bytes
from fieldtune.client.training.answer import Client
from fieldtune.client.training.runtime import Sessions
from fieldtune.server.compiler.service import CompileService
from fieldtune.server.deployment.run import ConnectedDevice
from fieldtune.server.devices.device_fleet import DeviceFleet
from fieldtune.server.federation.fleet import Fleet
from fieldtune.server.outcomes.trial import Outcome
from fieldtune.server.results.run_folder import RunFolder
from fieldtune.server.results.schema import Summary
from fieldtune.server.session.cpu_time import CpuTime
from fieldtune.server.session.session import open_tuner, run_session
from fieldtune.server.study.load import parse_study
from fieldtune.simulations.fleet.clients import SimulatedClients
from fieldtune.simulations.fleet.plan import FleetPlan, assign_devices
from support.forgeries import Forgery
from support.grid_fleet import GridFleet
from support.scripted_devices import ScriptedRun

CLIENTS, LIAR = 10, 7
_FIRST_NODE = 1000
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


class LyingRun(ScriptedRun):
    """A run of ten devices that do as they are asked, but for what one of them makes of it."""

    def __init__(self, forge: Forgery) -> None:
        super().__init__(self._answer)
        plan = FleetPlan.of(parse_study(STUDY.replace("{rounds}", "1"), "ten"))
        clients, profiles = SimulatedClients(plan), assign_devices(plan.devices, CLIENTS, plan.seed)

        def client(node_config: Mapping[str, object]) -> Client:
            return clients[int(str(node_config["partition-id"]))]

        self._forge = forge
        self._app = make_client_app(
            lambda node: client(node).data(),
            meter_of=lambda node: client(node).meter(),
            sessions=Sessions(64),
        )
        self._contexts = {
            _FIRST_NODE + number: Context(
                1, _FIRST_NODE + number,
                {"partition-id": number, "profile": profiles[number]}, RecordDict(), {},
            )
            for number in range(CLIENTS)
        }  # fmt: skip
        self.there = [
            ConnectedDevice(node, name, "t0")
            for node, name in zip(self._contexts, NAMES, strict=True)
        ]

    def _answer(self, message: Message) -> RecordDict:
        node = message.metadata.dst_node_id
        identify_process(1, node)
        reply = self._app(message_from_bytes(message_to_bytes(message)), self._contexts[node])
        reply = message_from_bytes(message_to_bytes(reply))
        identify_process(1, 1)
        if node == self.there[LIAR].node_id:
            self._forge(message, reply.content)
        return reply.content


class LyingGrid(Grid):
    """The same devices as nodes of a Flower Grid."""

    def __init__(self, run: LyingRun) -> None:
        self._run = run

    def set_run(self, run: Any) -> None: ...

    @property
    def run(self) -> Run:
        return Run.create_empty(1)

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
        return GridFleet(LyingGrid(run), notes)
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
