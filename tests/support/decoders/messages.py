"""Messages: what devices reply to the coordinator, and what a device is asked."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from rich.console import Console

from fieldtune.client.contract.deployment import (
    DEPLOY,
    ROLL_BACK,
    DeployReport,
    RollbackOrder,
    StatusReport,
)
from fieldtune.client.contract.encoding import ENCODINGS, Encoding, decode, encode
from fieldtune.client.contract.encoding import encoded_bytes as encoded_size
from fieldtune.client.contract.messages import (
    Description,
    EvaluateReport,
    EvaluateRequest,
    TrainReport,
    TrainRequest,
)
from fieldtune.client.contract.wire import WireMessage
from fieldtune.client.node.client_app import make_client_app
from fieldtune.client.node.fleet_api import message_from_bytes, message_to_bytes
from fieldtune.client.node.signatures import Signer
from fieldtune.profiles.common.errors import DataError
from fieldtune.server.compiler.cache import artefact_from_frame, artefact_to_frame
from fieldtune.server.deployment.certificates import make_authority
from fieldtune.server.deployment.fleet_state import Seen
from fieldtune.server.federation.exchange import Request
from fieldtune.server.federation.fleet import Addressed
from fieldtune.server.federation.flower_messages import described, reported, request_message
from fieldtune.server.federation.plausible import Bounds
from fieldtune.server.operation.exchange import NoAnswer, answer_in
from fieldtune.server.operation.health import FleetHealth
from fieldtune.server.operation.rollouts import Member, Rollout
from fieldtune.server.operation.tables import (
    Watched,
    devices_json,
    print_devices,
    print_rollout,
    rollout_json,
)
from fieldtune.server.processes.child import unpack_frame
from support.artefacts import MLP, read
from support.decoders.decoder import Decoder, shown
from support.deployed import Board, order

REQUEST = TrainRequest(
    trial=1, round=2, artefact="0" * 64, weights=np.zeros(8, np.float32), seed=3, batch_size=4,
    local_epochs=1, hyperparameter_names=("learning_rate",), hyperparameter_values=(0.1,),
)  # fmt: skip
ENCODED = REQUEST.model_copy(update={"update": "int8"})
EVALUATION = EvaluateRequest(
    trial=1, round=2, artefact="0" * 64, weights=REQUEST.weights, metric="auc"
)


def reply(content: RecordDict) -> bytes:
    request = request_message(Addressed(0, REQUEST, b""), 7, 60.0, False)
    return message_to_bytes(Message(content, reply_to=request))


def of_values(values: Mapping[str, Any], weights: bool = False) -> bytes:
    content = RecordDict({"message": ConfigRecord(dict(values))})
    if weights:
        content["weights"] = ArrayRecord({"all": Array(REQUEST.weights)})
    return reply(content)


def told(
    name: str, report: WireMessage, then: Callable[[Message], object], weights: bool = False
) -> dict[str, Decoder]:
    """A decoder of a reply in Flower's bytes, and one of its values.

    Hardly any mutation of the bytes is a message to Flower, and so comes to our own decoder.
    """
    values = report.scalars()
    encoded = {key: each for key, each in values.items() if isinstance(each, bytes)}
    plain = {key: each for key, each in values.items() if key not in encoded}

    def decode(data: bytes) -> object:
        try:
            mutated = json.loads(data)
            message = message_from_bytes(of_values({**encoded, **mutated}, weights))
        except Exception:  # Flower has no message with such values
            return None
        return then(message)

    return {
        name: Decoder(of_values(values, weights), on_message(then)),
        f"{name}'s values": Decoder(json.dumps(plain).encode(), decode),
    }


def on_message(then: Callable[[Message], object]) -> Callable[[bytes], object]:
    """Decode as Flower does; bytes that are no message of Flower's never come to ``then``."""

    def decode(data: bytes) -> object:
        try:
            message = message_from_bytes(data)
        except Exception:  # Flower's decoder raises several types; only our own is under test
            return None
        return then(message)

    return decode


def _judged(request: Request) -> Callable[[Message], object]:
    """What becomes of a reply before it counts, and what is said of it."""
    notes: list[str] = []
    member = Description(
        client=1, name="pi", profile="raspberry-pi-5", train_samples=5, test_samples=5,
        input_shape=(3,), classes=2, runtime="x",
    )  # fmt: skip
    bounds = Bounds([member], notes.append)

    def judge(message: Message) -> None:
        asked = bounds.ask({1: request}, classes=2)
        found = bounds.judge(asked, {1: reported(message, request)})[1]
        shown(*notes, found.detail)
        notes.clear()

    return judge


def _training() -> dict[str, Decoder]:
    trained = TrainReport(
        trial=1, round=2, weights=REQUEST.weights, samples=5, steps=2, loss=0.5, wall_s=1.0
    )
    encoded = TrainReport(
        trial=1, round=2, encoded=encode(REQUEST.weights, "int8", 3), samples=5, steps=2
    )
    counted = EvaluateReport(
        trial=1, round=2, samples=5, hits=(1, 2), predicted=(2, 3), actual=(3, 2)
    )
    description = Description(
        client=1, name="pi", profile="raspberry-pi-5", train_samples=5, test_samples=5,
        input_shape=(3,), classes=2, runtime="x", labels=("a", "b"),
    )  # fmt: skip
    return {
        **told("training reply", trained, _judged(REQUEST), weights=True),
        **told("encoded reply", encoded, _judged(ENCODED)),
        **told("evaluation reply", counted, _judged(EVALUATION)),
        **told("description", description, described),
        "request": Decoder(
            message_to_bytes(request_message(Addressed(0, REQUEST, b""), 7, 60.0, False)),
            on_message(_answered()),
        ),
        **{
            f"{encoding} update": Decoder(
                encode(np.linspace(-1, 1, 600, dtype=np.float32), encoding, 3, 0.1),
                lambda data, each=encoding: _decoded_update(data, each),  # type: ignore[misc]
            )
            for encoding in ENCODINGS
        },
    }


def _decoded_update(data: bytes, encoding: Encoding) -> None:
    """As it is, and in the length that is expected, so that more than its length is tried."""
    size = encoded_size(encoding, 600, 0.1)
    for each in (data, (data + bytes(size))[:size]):
        try:
            assert decode(each, encoding, 600, 0.1).shape == (600,)
        except ValueError:  # documented
            continue


def _answered() -> Callable[[Message], object]:
    def no_data(_: object) -> object:
        raise DataError("none")

    app, context = make_client_app(no_data), Context(1, 7, {}, RecordDict(), {})  # type: ignore[arg-type]

    def answer(message: Message) -> object:
        try:
            return app(message, context)
        except Exception:  # as a node does, which replies with an error
            return None

    return answer


def _orders(folder: Path) -> dict[str, Decoder]:
    """Orders as a device follows them; the coordinator has signed whatever is in them."""
    authority = make_authority("here")
    board, sign = Board("kitchen", folder, authority), Signer(authority.private_key)
    back = RollbackOrder(number=1, device="kitchen", leave="0" * 64)

    def followed(kind: str) -> Callable[[bytes], object]:
        def follow(data: bytes) -> None:
            text = data.decode(errors="replace")
            content = RecordDict({"message": ConfigRecord({"order": text})})
            content["signature"] = ConfigRecord({"order": sign.of_text(kind, text)})
            content["model"] = ConfigRecord({"model": b"no model"})
            answer = board.answer(Message(content, 5, kind, ttl=60.0))
            DeployReport.parse(dict(answer.content.config_records["message"]))

        return follow

    return {
        "deployment order": Decoder(order(1).text().encode(), followed(DEPLOY)),
        "rollback order": Decoder(back.text().encode(), followed(ROLL_BACK)),
    }


def _told_status(message: Message) -> None:
    """What a device says of itself, as ``coordinator devices`` shows it."""
    told = answer_in(message, StatusReport)
    if isinstance(told, NoAnswer):
        shown(told.why)
        return
    fleet = FleetHealth({"pi": told}, {})
    watched = Watched({"pi": 0}, {"pi"}, {"pi": Seen(at=0.0, status=told)}, fleet, {}, {})
    out = io.StringIO()
    print_devices(watched, Console(file=out), Path("fleet"))
    shown(*out.getvalue().splitlines())
    json.dumps(devices_json(watched, Path("fleet")), allow_nan=False)


def _told_outcome(message: Message) -> None:
    """What a device says of an order, as ``deploy`` shows it."""
    told = answer_in(message, DeployReport)
    if isinstance(told, NoAnswer):
        shown(told.why)
        return
    member = Member(state=told.outcome, why=told.why, report=told)
    rollout = Rollout(number=7, kind="deploy", devices={"pi": member})
    out, nothing = io.StringIO(), Watched({"pi": 0}, None, {}, FleetHealth({}, {}), {}, {})
    print_rollout(rollout, nothing, Console(file=out))
    shown(*out.getvalue().splitlines())
    json.dumps(rollout_json([rollout], nothing), allow_nan=False)
    assert Rollout.model_validate_json(rollout.model_dump_json()) == rollout


def _operation() -> dict[str, Decoder]:
    status = StatusReport(
        version="1", runtime="x 1", profile="raspberry-pi-5", runs="a" * 64, model="old", order=3,
        temperature_c=50.0, throttling=("heat",), memory_free_mib=99.0, disk_free_mib=99.0,
        up_s=9.0, answered=3, refused=1, last_failure="x", judged_on="test", samples=5, error=0.2,
    )  # fmt: skip
    outcome = DeployReport(
        number=7, outcome="switched", runs="a" * 64, samples=5, error=0.1, error_before=0.2,
        inference_ms=1.0, inference_before_ms=2.0,
    )  # fmt: skip
    return {
        **told("status reply", status, _told_status),
        **told("deployment reply", outcome, _told_outcome),
    }


def _frame(data: bytes) -> object:
    try:
        return artefact_from_frame(*unpack_frame(data))
    except (ValueError, KeyError, TypeError):  # what the cache passes over
        return None


def messages(folder: Path) -> dict[str, Decoder]:
    """All of them by name."""
    return {
        **_training(),
        **_orders(folder),
        **_operation(),
        "artefact": Decoder(artefact_to_frame(read(MLP)), _frame),
    }
