"""Models to deploy without TensorFlow: those of a run that the repository keeps."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from fieldtune.client.contract.deployment import Card, DeployOrder
from fieldtune.client.data.client_data import ClientData
from fieldtune.client.data.files import DeviceData
from fieldtune.client.data.privacy import Privacy
from fieldtune.client.deployed.candidate import Candidates
from fieldtune.client.deployed.slots import Slots
from fieldtune.client.node.fleet_api import identify_process, set_message_id
from fieldtune.client.node.operations import add_operations
from fieldtune.client.node.state import Status
from fieldtune.server.deployment.certificates import Pair
from fieldtune.server.deployment.run import ConnectedDevice, RunLostError
from fieldtune.simulations.datasets import Dataset, load_dataset

RUN = Path(__file__).parents[1] / "data/run-0.1.0.tar.gz"
GOOD, WORSE = 0, 2
"""Trials of the run: wrong on 59 and on 71 per cent of the digits."""


def old_run(folder: Path) -> Path:
    """The run's folder."""
    with tarfile.open(RUN) as archive:
        archive.extractall(folder, filter="data")
    return folder / "run"


@cache
def old_model(trial: int) -> bytes:
    """The fp32 model of a trial of the run."""
    with tarfile.open(RUN) as archive:
        file = archive.extractfile(f"run/models/trial-{trial:04d}/fp32.tflite")
        assert file is not None
        return file.read()


@cache
def _digits() -> Dataset:
    return load_dataset("digits")


def digits_data(samples: int = 200, **changes: Any) -> ClientData:
    """Digits to test on."""
    digits = _digits()
    values: dict[str, Any] = {
        "train_x": digits.x[:20], "train_y": digits.y[:20],
        "test_x": digits.x[20 : 20 + samples], "test_y": digits.y[20 : 20 + samples],
        "classes": 10,
    }  # fmt: skip
    return ClientData(**(values | changes))


def order(number: int, trial: int = GOOD, *, device: str = "kitchen", **card: Any) -> DeployOrder:
    """An order for a model of the run."""
    model = old_model(trial)
    force = card.pop("force", False)
    values: dict[str, Any] = {
        "study": "old", "trial": trial, "variant": "fp32", "size": len(model),
        "artefact": hashlib.sha256(model).hexdigest(), "data": "digits",
        "loss": "sparse_categorical_crossentropy", "metric": "accuracy",
        "input_shape": (8, 8, 1), "classes": 10, "error": 0.6, "error_low": 0.5,
        "error_high": 0.75, "test_samples": 448,
    }  # fmt: skip
    return DeployOrder(number=number, device=device, card=Card(**(values | card)), force=force)


def candidates(
    folder: Path, data: ClientData | None = None, privacy: Privacy | None = None
) -> Candidates:
    """A device called kitchen that keeps its models in a folder."""
    given = data or digits_data()
    return Candidates(
        "kitchen", Slots(folder), lambda: given, lambda: privacy or Privacy(), lambda run: run()
    )


class Board:
    """A device whose real client answers in this process, with digits as its data.

    Args:
        name: of the device.
        folder: for its data and its models.
        authority: whose signature it demands.
        profile: its device type.
        shift: of the labels in its data, as if its owner had miscounted.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        authority: Pair,
        profile: str = "raspberry-pi-5",
        shift: int = 0,
    ) -> None:
        self.name, self.folder, self.profile = name, folder, profile
        (folder / "data").mkdir(parents=True)
        self.write("data/a.npz", shift)
        self.status = Status(name, "here:1", profile, 1)
        self.slots = Slots(folder / "state")
        self.activated = "t0"
        self._authority = authority
        self.start()

    def start(self) -> None:
        """Start the client; also again, as after it was killed."""
        self.data, self.app = DeviceData(str(self.folder / "data")), ClientApp()
        self.slots.recover()
        candidates = Candidates(
            self.name, self.slots, self.data, self.data.privacy, lambda run: run()
        )
        add_operations(self.app, candidates, self.data, self.status, self._authority.certificate)

    def write(self, file: str, shift: int = 0, samples: int = 120) -> None:
        """Write digits to a file, with shifted labels."""
        data = digits_data(samples)
        (self.folder / file).parent.mkdir(exist_ok=True)
        y = (data.test_y + shift) % 10
        np.savez(self.folder / file, x=data.test_x, y=y, x_test=data.test_x, y_test=y)

    @property
    def trial(self) -> int | None:
        """Whose model it runs."""
        current = self.slots.current()
        return current.card.trial if current else None

    def answer(self, message: Message) -> Message:
        return self.app(message, Context(1, 5, {}, RecordDict(), {}))


class BoardRun:
    """A run on SuperLink whose devices are boards.

    ``there`` are the connected ones; ``before`` is called with each message that one gets, and may
    raise, or return False to lose it.
    """

    def __init__(self, boards: Sequence[Board]) -> None:
        identify_process(1, 1)
        self.boards = dict(enumerate(boards, 100))
        self.there = {board.name for board in boards}
        self.before: Callable[[Board, Message], bool] = lambda board, message: True
        self.sent: list[Message] = []
        self.replies: dict[str, Message] = {}
        self.outages = 0
        self.lost = False
        self.closed: list[str | None] = []

    def nodes(self) -> list[ConnectedDevice]:
        if self.lost:
            raise RunLostError
        return [
            ConnectedDevice(number, board.name, board.activated)
            for number, board in self.boards.items()
            if board.name in self.there
        ]

    def push(self, messages: Sequence[Message]) -> list[str | None]:
        if self.lost:
            raise RunLostError
        ids: list[str | None] = []
        for message in messages:
            set_message_id(message, f"m{len(self.sent)}")
            self.sent.append(message)
            ids.append(message.metadata.message_id)
            board = self.boards[message.metadata.dst_node_id]
            if self.before(board, message):
                try:
                    self.replies[message.metadata.message_id] = board.answer(message)
                except ValueError as unknown:
                    error = Error(2, f"ValueError: {unknown}")
                    self.replies[message.metadata.message_id] = Message(error, reply_to=message)
        return ids

    def pull(self, message_ids: Iterable[str]) -> list[Message]:
        if self.lost:
            raise RunLostError
        return [self.replies.pop(each) for each in message_ids if each in self.replies]

    def close(self, failed: str | None = None) -> None:
        self.closed.append(failed)

    def asked(self, kind: str) -> list[str]:
        """Names of the devices that got a message of this type, in that order."""
        return [
            self.boards[message.metadata.dst_node_id].name
            for message in self.sent
            if message.metadata.message_type == kind
        ]
