"""Deployment, rollback and status as handlers of the ClientApp, for real devices only.

The records of an order: ``message`` has its text, ``signature`` the coordinator's signature of it,
and ``model`` the model, apart from the rest, so that SuperLink keeps it once for all devices.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fieldtune.client.contract.deployment import (
    DEPLOY,
    ROLL_BACK,
    STATUS,
    DeployOrder,
    DeployReport,
    OrderError,
    RollbackOrder,
    StatusReport,
)
from fieldtune.client.contract.wire import WireMessage
from fieldtune.client.data.client_data import ClientData
from fieldtune.client.data.files import DeviceData
from fieldtune.client.deployed.candidate import Candidates, other_meaning
from fieldtune.client.deployed.package import Package
from fieldtune.client.deployed.score import MOST_SAMPLES, Score, score
from fieldtune.client.node.signatures import is_signed_text
from fieldtune.client.node.state import Status
from fieldtune.client.training.runtime import BadArtefactError, Inference, runtime_name
from fieldtune.client.training.time_limit import OverdueError, within
from fieldtune.profiles.common.errors import DataError
from fieldtune.profiles.host.probe import probe

_Order = TypeVar("_Order", DeployOrder, RollbackOrder)


def add_operations(
    app: ClientApp,
    candidates: Candidates,
    data: DeviceData,
    status: Status,
    ca_certificate: str,
) -> None:
    """Have an app answer orders of the coordinator, and say how the device is.

    Args:
        app: the client's.
        candidates: follow the orders.
        data: of the device.
        status: of the client.
        ca_certificate: of the coordinator, PEM, which must have signed each order.
    """
    reporter = _Reporter(candidates, data, status)

    @app.query(DEPLOY.partition(".")[2])
    def deploy(message: Message, context: Context) -> Message:
        def follow(order: DeployOrder) -> DeployReport:
            record = message.content.config_records.get("model", ConfigRecord())
            model = record.get("model")
            if not isinstance(model, bytes):
                return _refused("there is no model in the order")
            try:
                on_call = within(message.metadata.ttl, candidates.privacy().max_request_s)
                return candidates.deploy(order, model, on_call)
            except OverdueError as late:
                return _refused(f"trying it {late}", order.number)
            except DataError as bad:
                return _refused(str(bad), order.number)

        return _answer(message, DEPLOY, DeployOrder, ca_certificate, follow)

    @app.query(ROLL_BACK.partition(".")[2])
    def roll_back(message: Message, context: Context) -> Message:
        return _answer(message, ROLL_BACK, RollbackOrder, ca_certificate, candidates.roll_back)

    @app.query(STATUS.partition(".")[2])
    def tell_status(message: Message, context: Context) -> Message:
        return _reply(reporter.report(), message)


def _answer(
    message: Message,
    purpose: str,
    kind: type[_Order],
    ca_certificate: str,
    follow: Callable[[_Order], DeployReport],
) -> Message:
    text = message.content.config_records["message"].get("order")
    signature = message.content.config_records.get("signature", ConfigRecord()).get("order")
    if not isinstance(text, str) or not is_signed_text(signature, purpose, text, ca_certificate):
        return _reply(_refused("the coordinator has not signed the order"), message)
    try:
        order = kind.read(text)
    except OrderError as wrong:
        return _reply(_refused(f"this client does not understand the order: {wrong}"), message)
    return _reply(follow(order), message)


def _refused(why: str, number: int = 0) -> DeployReport:
    return DeployReport(number=number, outcome="kept", why=why[:500])


def _reply(report: WireMessage, to: Message) -> Message:
    return Message(RecordDict({"message": ConfigRecord(report.scalars())}), reply_to=to)


class _Reporter:
    """Reports a device's status; the model is tried again only when it or the samples change."""

    def __init__(self, candidates: Candidates, data: DeviceData, status: Status):
        self._slots, self._data, self._status = candidates.slots, data, status
        self._since = time.monotonic()
        self._tried: tuple[object, dict[str, object]] = (None, {})

    def report(self) -> StatusReport:
        """The status now."""
        host = probe()
        current, previous = self._slots.current(), self._slots.previous()
        deployed: dict[str, object] = {}
        if current:
            deployed = {
                "runs": current.card.artefact,
                "model": current.card.name[:200],
                "order": current.order.number,
                **self._judged(current),
            }
        return StatusReport.parse(
            {
                "version": importlib.metadata.version("fieldtune"),
                "runtime": runtime_name(),
                "flower": importlib.metadata.version("flwr"),
                "profile": self._status.profile,
                "previous": previous.card.artefact if previous else None,
                "temperature_c": host.temperature_c,
                "throttling": host.throttling,
                "throttled_since_start": host.throttling_since_start,
                "memory_free_mib": host.memory_available_mib,
                "disk_free_mib": _disk_free_mib(self._slots.folder),
                "up_s": time.monotonic() - self._since,
                "answered": self._status.answered,
                "refused": self._status.refused,
                "last_failure": self._status.last_failure[:500],
                **deployed,
            }
        )

    def _judged(self, current: Package) -> dict[str, object]:
        """What the model does on samples that its owner has labelled, or on the test part."""
        key = (current.order.number, self._data.fresh_stamp())
        if self._tried[0] != key:
            try:
                self._tried = (key, self._try(current))
            except (DataError, BadArtefactError) as bad:
                # Fresh samples are read again when they change, the device's data at each question.
                self._tried = (key if key[1] else None, {"not_judged": str(bad)[:500]})
        return self._tried[1]

    def _try(self, current: Package) -> dict[str, object]:
        try:
            privacy = self._data.privacy()
            if not privacy.tells_errors:
                return {"not_judged": "the owner does not allow the metric 'accuracy'"}
            fresh = self._data.fresh()
            data = self._data() if fresh is None else _latest(fresh)
            if len(data.test_y) < privacy.min_samples:
                few = f"fewer samples than privacy.min_samples = {privacy.min_samples}"
                return {"not_judged": f"the owner does not allow {few}"}
            found = _score(current, data, within(privacy.max_request_s))
        except MemoryError:
            return {"not_judged": "the model and the samples do not fit into memory"}
        except OverdueError as late:
            return {"not_judged": f"trying it {late}"}
        return {
            "judged_on": "test" if fresh is None else "fresh",
            "samples": found.samples,
            "error": found.error,
        }


def _score(current: Package, data: ClientData, on_call: Callable[[], None]) -> Score:
    inference = Inference(current.model)
    if inference.input_shape != data.input_shape:
        raise DataError(
            f"the samples have shape {list(data.input_shape)}, the deployed model takes "
            f"{list(inference.input_shape)}"
        )
    if why := other_meaning(current.card, data):
        raise DataError(why)
    return score(inference, current.card, data, on_call)


def _latest(data: ClientData) -> ClientData:
    """The last samples, as many as are tried: those of the files that come last by name."""
    x, y = data.test_x[-MOST_SAMPLES:], data.test_y[-MOST_SAMPLES:]
    return ClientData(x, y, x, y, data.classes, data.labels, data.scaling)


def _disk_free_mib(folder: Path) -> float | None:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free / 2**20
    except OSError:
        return None
