"""Files that a device's own client writes, and finds damaged after a power cut."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, fields
from pathlib import Path

from fieldtune.client.deployed.model import DeployedModel
from fieldtune.client.deployed.package import Package, packed
from fieldtune.client.deployed.slots import CURRENT, PREVIOUS, Slots
from fieldtune.client.node.fleet_api import head_to_bytes
from fieldtune.client.node.state import ClientFolders, Status, read_status
from fieldtune.client.training.privacy_budget import PrivacyBudget
from fieldtune.server.federation.fleet import Addressed
from fieldtune.server.federation.flower_messages import request_message
from support.decoders.decoder import Decoder, from_file, shown
from support.decoders.messages import REQUEST
from support.deployed import GOOD, old_model, order


def _found_in(folder: Path) -> object:
    """What a client does with its models when it starts, and an application."""
    slots = Slots(folder)
    slots.recover()
    slots.newest_order()
    return slots.previous(), DeployedModel(folder / CURRENT).labels


def _shown_status(file: Path) -> None:
    if (status := read_status(file)) is not None:
        shown(*(str(getattr(status, each.name)) for each in fields(Status)))


def device(folder: Path) -> dict[str, Decoder]:
    """All of them by name."""
    model = packed(Package(order(3, labels=tuple("abcdefghij")), old_model(GOOD)))
    run, state = ClientFolders("pi", folder, folder), folder / "models"
    head = head_to_bytes(request_message(Addressed(0, REQUEST, b""), 7, 60.0, False))
    working = {"head": base64.b64encode(head).decode(), "trial": 1, "round": 2, "killed": 3}
    status = Status("pi", "localhost:8443", "raspberry-pi-5", 1, node_id=7)
    return {
        "deployed model": Decoder(
            model, from_file(state, CURRENT, lambda file: _found_in(state), {PREVIOUS: b""})
        ),
        "order's number": Decoder(
            b"1790000000\n", from_file(folder, "order", lambda _: Slots(folder).newest_order())
        ),
        "privacy spent": Decoder(
            b'{"rho": 0.25}',
            from_file(folder, "privacy.json", lambda file: PrivacyBudget(file).spent()),
        ),
        "interrupted work": Decoder(
            json.dumps(working).encode(),
            from_file(folder, "working.json", lambda _: run.unfinished()),
        ),
        "node's number": Decoder(b"77", from_file(folder, "node", lambda _: run.saved_node_id())),
        "client's status": Decoder(
            json.dumps(asdict(status)).encode(), from_file(folder, "status.json", _shown_status)
        ),
    }
