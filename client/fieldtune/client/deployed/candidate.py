"""Whether a device runs a model that the coordinator sends, and the switch to it.

The model is checked against its signed order, run in a child process, tried on the device's own
test data, compared with what its card says and with the model that the device runs now, and timed.
Only then is it switched to; otherwise the device goes on with what it had and says why.
"""

from __future__ import annotations

import errno
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

from fieldtune.client.contract.deployment import Card, DeployOrder, DeployReport, RollbackOrder
from fieldtune.client.contract.messages import VariantRequest
from fieldtune.client.data.client_data import ClientData
from fieldtune.client.data.privacy import Privacy
from fieldtune.client.deployed.package import Package
from fieldtune.client.deployed.score import Score, score, surely_worse
from fieldtune.client.deployed.slots import Slots
from fieldtune.client.training.allowed import NotAllowedError, check
from fieldtune.client.training.runtime import BadArtefactError, Inference
from fieldtune.profiles.common.errors import DataError
from fieldtune.profiles.common.shares import wilson

_LOG = logging.getLogger(__name__)
_WORSE = "it does worse on the device's own data than its card says, or than what runs now"


class _KeptError(Exception):
    """The device goes on with what it had; the message says why."""


@dataclass(frozen=True)
class Candidates:
    """Follows the coordinator's orders on one device.

    Args:
        name: of the device.
        slots: where its models are.
        data: returns its data.
        privacy: returns what its owner allows.
        try_first: runs a new model once where a crash does no harm
            (:func:`~fieldtune.client.training.trial_run.try_first`).
    """

    name: str
    slots: Slots
    data: Callable[[], ClientData]
    privacy: Callable[[], Privacy]
    try_first: Callable[[Callable[[], object]], object]

    def deploy(
        self, order: DeployOrder, model: bytes, on_call: Callable[[], None] = lambda: None
    ) -> DeployReport:
        """Switch to a model, or keep the old one.

        Args:
            order: whose signature was checked.
            model: that came with it.
            on_call: called after every call of a model; may raise to end the work.
        """
        current = self.slots.current()
        runs = current.card.artefact if current else None
        if current and current.order == order:  # sent again, for example after a restart
            return DeployReport(number=order.number, outcome="switched", runs=runs)
        tried: list[Score] = []
        try:
            self._check(order.number, order.device)
            self._check_model(order.card, model)
            if current and current.card == order.card:
                self.slots.accept(order.number)
                return DeployReport(number=order.number, outcome="unchanged", runs=runs)
            self._try(order, model, current, tried, on_call)
            self.slots.accept(order.number)
            self.slots.switch(Package(order, model))
        except (_KeptError, BadArtefactError, DataError) as why:
            return self._kept(order.number, runs, str(why), tried)
        except NotAllowedError as what:
            return self._kept(order.number, runs, f"the owner does not allow {what}", tried)
        except MemoryError:
            return self._kept(order.number, runs, "it does not fit into memory", tried)
        except OSError as failed:
            return self._kept(order.number, runs, self._not_written(failed), tried)
        _LOG.info("deployed: %s", order.card.name)
        figures = self._figures(tried)
        return DeployReport(
            number=order.number, outcome="switched", runs=order.card.artefact, **figures
        )

    def roll_back(self, order: RollbackOrder) -> DeployReport:
        """Run the previous model again, unless another one than the order's is running."""
        current = self.slots.current()
        runs = current.card.artefact if current else None
        try:
            self._check(order.number, order.device)
            if runs != order.leave:
                return DeployReport(number=order.number, outcome="unchanged", runs=runs)
            previous = self.slots.previous()
            if previous is None:
                raise _KeptError("there is no model before it")
            self.slots.accept(order.number)
            self.slots.go_back()
        except _KeptError as why:
            return self._kept(order.number, runs, str(why), [])
        except OSError as failed:
            return self._kept(order.number, runs, self._not_written(failed), [])
        _LOG.info("rolled back to: %s", previous.card.name)
        return DeployReport(number=order.number, outcome="switched", runs=previous.card.artefact)

    def _check(self, number: int, device: str) -> None:
        if device != self.name:
            raise _KeptError(f"the order is for {device}")
        newest = self.slots.newest_order()
        if number < newest:
            raise _KeptError(f"the order has the number {number}, and {newest} was followed")

    def _check_model(self, card: Card, model: bytes) -> None:
        found = hashlib.sha256(model).hexdigest()
        if found != card.artefact or len(model) != card.size:
            raise _KeptError(f"the model has SHA-256 {found[:12]}, its card says {card.artefact}")

    def _try(
        self,
        order: DeployOrder,
        model: bytes,
        current: Package | None,
        tried: list[Score],
        on_call: Callable[[], None],
    ) -> None:
        """Raise an exception that says why the model is not switched to.

        ``tried`` gets the score of the new model, and of the current one.
        """
        card, data = order.card, self.data()
        # Trying a model here tells nobody anything: which metrics may be told does not matter.
        check(self.privacy().model_copy(update={"metrics": None}), _as_request(card, model), data)
        if why := other_meaning(card, data):
            raise _KeptError(why)
        self.try_first(lambda: Inference(model).try_once())
        inference = Inference(model)
        if inference.input_shape != data.input_shape:
            raise _KeptError(
                f"it takes samples of shape {list(inference.input_shape)}, and those here have "
                f"{list(data.input_shape)}"
            )
        if not card.reconstructs and inference.classes < data.classes:
            raise _KeptError(f"it tells {inference.classes} classes, and there are {data.classes}")
        tried.append(score(inference, card, data, on_call))
        if current and (before := _score_of(current, data, on_call)):
            tried.append(before)
        limit_ms, took_ms = card.inference_limit_ms, tried[0].inference_ms
        if limit_ms is not None and took_ms is not None and took_ms > limit_ms:
            raise _KeptError(
                f"a call takes {took_ms:.3g} ms here, limits.inference_ms is {limit_ms:g}"
            )
        if not order.force and (why := _worse(card, tried)):
            raise _KeptError(why if self._tells_errors() else _WORSE)

    def _kept(self, number: int, runs: str | None, why: str, tried: list[Score]) -> DeployReport:
        _LOG.warning("the new model is not switched to: %s", why)
        return DeployReport(
            number=number, outcome="kept", why=why[:500], runs=runs, **self._figures(tried)
        )

    def _tells_errors(self) -> bool:
        try:
            return self.privacy().tells_errors
        except DataError:
            return False

    def _figures(self, tried: list[Score]) -> dict[str, object]:
        """What is told of the models that were tried, the new one and the one before."""
        if not tried:
            return {}
        told = self._tells_errors()
        figures: dict[str, object] = {
            "samples": tried[0].samples,
            "error": tried[0].error if told else None,
            "inference_ms": tried[0].inference_ms,
        }
        if len(tried) > 1:
            figures["error_before"] = tried[1].error if told else None
            figures["inference_before_ms"] = tried[1].inference_ms
        return figures

    def _not_written(self, failed: OSError) -> str:
        remedy = ": free some space" if failed.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        return f"{self.slots.folder} cannot be written: {failed.strerror}{remedy}"


def _as_request(card: Card, model: bytes) -> VariantRequest:
    """The evaluation that a deployment begins with, for the owner's limits."""
    return VariantRequest(
        trial=card.trial, round=0, artefact=card.artefact, model=model,
        metric="accuracy" if not card.reconstructs else card.metric, loss=card.loss,
    )  # fmt: skip


def other_meaning(card: Card, data: ClientData) -> str:
    """Why a model's inputs or outputs mean something else than the data; empty where they do not.

    A sentence about the model.
    """
    if card.labels and data.labels and card.labels != data.labels:
        return "its classes have other names, or another order, than labels in data.toml"
    if (card.offset, card.scale) != (data.scaling.offset, data.scaling.scale):
        return (
            f"it takes (value - {card.offset:g}) / {card.scale:g}, the data here are "
            f"(value - {data.scaling.offset:g}) / {data.scaling.scale:g}"
        )
    return ""


def _score_of(current: Package, data: ClientData, on_call: Callable[[], None]) -> Score | None:
    """The score of the model that runs now; None where it cannot be tried on today's data."""
    try:
        inference = Inference(current.model)
    except BadArtefactError:
        return None
    fits = (
        inference.input_shape == data.input_shape
        and (current.card.reconstructs or inference.classes >= data.classes)
        and not other_meaning(current.card, data)
    )
    return score(inference, current.card, data, on_call) if fits else None


def _worse(card: Card, tried: list[Score]) -> str:
    """Why the new model is too bad here, as a sentence; empty where it is not."""
    new, before = tried[0], tried[1] if len(tried) > 1 else None
    comparable = before is not None and before.is_classifier == new.is_classifier
    if before is not None and comparable and surely_worse(new, before):
        return (
            f"it is worse than what runs now: {_said(new)} against {_said(before)} on "
            f"{new.samples} own test samples"
        )
    if new.error is None or card.error_high is None:
        return ""
    low, high = wilson(new.error, new.samples)
    better = before is not None and comparable and surely_worse(before, new)
    if low <= card.error_high or better:
        return ""
    return (
        f"its error on {new.samples} own test samples is {100 * new.error:.1f} % ({100 * low:.1f} "
        f"to {100 * high:.1f} %), and its card says at most {100 * card.error_high:.3g} %"
    )


def _said(found: Score) -> str:
    if found.error is not None:
        return f"error {100 * found.error:.1f} %"
    return f"loss {found.faults.mean() if found.samples else 0:.4g}"
