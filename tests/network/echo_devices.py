"""Light nodes that answer each request at once with the weights that they were sent."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fieldtune.client.contract.bundle import Bundle
from fieldtune.client.contract.messages import TrainReport, TrainRequest
from fieldtune.client.contract.version import CONTRACT
from fieldtune.client.node.client_app import _reply, _vectors
from fieldtune.client.node.fleet_api import Link
from fieldtune.client.node.node import LightNode
from fieldtune.client.node.state import ClientFolders, Status
from fieldtune.server.federation.fleet import Addressed
from fieldtune.server.federation.flower_messages import request_message


class EchoDevice(threading.Thread):
    """A device that connects and answers as ``fieldtune client run`` does, but trains nothing.

    Args:
        bundle: of its enrolment.
        folder: for its state.
        work_s: seconds that a training takes.
    """

    def __init__(self, bundle: Bundle, folder: Path, work_s: float = 0.0) -> None:
        super().__init__(daemon=True)
        link = Link(bundle.address, bundle.ca_certificate, bundle.private_key, bundle.certificate)
        self.calls = Counter[str]()
        link._client._client.event_hooks = {"request": [self._count]}
        folder.mkdir()
        status = Status(bundle.name, bundle.address, "raspberry-pi-5", os.getpid())
        folders = ClientFolders(bundle.name, folder, folder)
        self._node = LightNode(link, echoing(work_s), {"name": bundle.name}, folders, status)

    def run(self) -> None:
        """Answer until the end."""
        self._node.run()

    def end(self) -> None:
        """Stop after the current call."""
        self._node._stop.set()

    def _count(self, request: httpx.Request) -> None:
        self.calls[request.url.path.rpartition("/")[2]] += 1


def echoing(work_s: float) -> ClientApp:
    """A ClientApp whose updates are the weights of the request."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        time.sleep(work_s)
        told = message.content.config_records["message"]
        report = TrainReport(
            trial=int(told["trial"]), round=int(told["round"]), samples=9,  # type: ignore[arg-type]
            weights=_vectors(message)["weights"],
        )  # fmt: skip
        return _reply(report, message)

    return app


def asking(node: int, client: int, turn: int, weights: np.ndarray) -> Message:
    """A request to a device of this version."""
    asked = TrainRequest(
        trial=turn, round=client, artefact="0" * 64, weights=weights, seed=0, batch_size=8,
        local_epochs=1, hyperparameter_names=(), hyperparameter_values=(),
    )  # fmt: skip
    return request_message(Addressed(client, asked, b"model"), node, 600.0, False, CONTRACT)


class Complaints(logging.Handler):
    """Counts what the devices log as warnings, such as a connection that was lost."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.count = Counter[str]()
        logging.getLogger("fieldtune.client").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Count one."""
        self.count[str(record.args[-1] if record.args else record.msg)] += 1  # type: ignore[index]


def cpu_s(pid: int) -> float:
    """utime + stime of proc(5)."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return sum(map(int, after_name[11:13])) / os.sysconf("SC_CLK_TCK")
