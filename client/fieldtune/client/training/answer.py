"""What a client does with a request: a function from a validated request to a report.

It knows no transport. :mod:`fieldtune.client.node.client_app` wraps it in Flower's messages, and
the simulator calls it directly. Everything that it uses of a client is in :class:`Client`; what a
request of one round must leave for the next belongs in the request and the report, as fields, so
that any process can answer for any client. Errors on the device become reports with a ``failure``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast, overload

from fieldtune.client.contract.messages import (
    RECONSTRUCTION,
    Description,
    EvaluateReport,
    EvaluateRequest,
    TrainReport,
    TrainRequest,
    VariantRequest,
)
from fieldtune.client.data.client_data import ClientData
from fieldtune.client.data.privacy import Privacy
from fieldtune.client.training import trainer
from fieldtune.client.training.allowed import NotAllowedError, check
from fieldtune.client.training.measurement import together
from fieldtune.client.training.meter import HostMeter, Meter
from fieldtune.client.training.privacy_budget import PrivacyBudget
from fieldtune.client.training.reports import counted_report, failed, trained_report
from fieldtune.client.training.residuals import Residuals
from fieldtune.client.training.runtime import (
    ArtefactMissingError,
    BadArtefactError,
    Inference,
    Session,
    Sessions,
    runtime_name,
)
from fieldtune.client.training.time_limit import OverdueError, within
from fieldtune.profiles.common.errors import DataError, StorageError, UsageError

Request = TrainRequest | EvaluateRequest | VariantRequest
Report = TrainReport | EvaluateReport
_Kind = TypeVar("_Kind", TrainReport, EvaluateReport)


@dataclass(frozen=True)
class Client:
    """A client as requests find it; each part is read for every request.

    Args:
        data: its samples; raises DataError where they are not valid.
        meter: measures its work.
        privacy: what the device's owner allows; None in a simulation.
        residuals: of its encoded updates; None in a simulation, where they are part of request and
            report.
        budget: of its updates with noise; None in a simulation.
    """

    data: Callable[[], ClientData]
    meter: Callable[[], Meter] = HostMeter
    privacy: Callable[[], Privacy | None] = lambda: None
    residuals: Residuals | None = None
    budget: PrivacyBudget | None = None


def describe(known: Mapping[str, Any], data_of: Callable[[], ClientData]) -> Description:
    """A client's description of itself.

    Args:
        known: the fields that do not depend on its samples.
        data_of: its samples; where they are not valid, ``problem`` says why.
    """
    known = {**known, "runtime": runtime_name()}
    try:
        data = data_of()
    except DataError as bad:
        return Description(**known, problem=str(bad)[:500])
    return Description(
        **known,
        train_samples=len(data.train_y),
        test_samples=len(data.test_y),
        input_shape=data.input_shape,
        classes=data.classes,
        labels=data.labels or None,
        offset=data.scaling.offset or None,
        scale=None if data.scaling.scale == 1 else data.scaling.scale,
    )


@overload
def answer(
    request: TrainRequest, client: Client, sessions: Sessions, *, longest_s: float = ...,
    signed: Callable[[], bool] = ...,
) -> TrainReport: ...  # fmt: skip
@overload
def answer(
    request: EvaluateRequest | VariantRequest, client: Client, sessions: Sessions, *,
    longest_s: float = ..., signed: Callable[[], bool] = ...,
) -> EvaluateReport: ...  # fmt: skip
def answer(
    request: Request,
    client: Client,
    sessions: Sessions,
    *,
    longest_s: float = math.inf,
    signed: Callable[[], bool] = lambda: True,
) -> Report:
    """The report on a request, which is a failure where the client cannot do what it asks for.

    Args:
        request: what to do.
        client: that does it.
        sessions: the artefacts that this process has loaded.
        longest_s: seconds within which a real device must be done. A simulation has no clock of its
            own, so nothing is late there.
        signed: whether the coordinator has signed the artefact that comes with the request.
    """
    began = time.process_time()
    try:
        data, privacy = client.data(), client.privacy()
        if privacy:
            check(privacy, request, data)
            if client.budget and isinstance(request, TrainRequest):
                client.budget.check(privacy)
        if request.model is not None and not signed():
            raise BadArtefactError("the coordinator has not signed it")
        opened: Session | Inference = (
            sessions.get(request.artefact, request.model, Inference)
            if isinstance(request, VariantRequest)
            else sessions.get(request.artefact, request.model, Session)
        )
        if unfit := _misfit(request, opened, data):
            return failed(request, "bad_data", unfit)
        meter = client.meter()
        meter.start()
        on_call = meter.mark
        if privacy is not None:
            on_call = within(longest_s, privacy.max_request_s, on_call=meter.mark)
        work = _Work(data, meter, on_call, privacy, began)
        if isinstance(request, TrainRequest):
            return work.train(request, cast(Session, opened), client)
        return work.evaluate(request, opened)
    except ArtefactMissingError:
        return failed(request, "artefact_missing", "")
    except BadArtefactError as bad:
        return failed(request, "bad_artefact", str(bad))
    except DataError as bad:
        return failed(request, "bad_data", str(bad))
    except NotAllowedError as what:
        return failed(request, "error", f"the device's owner does not allow {what}")
    except OverdueError as late:
        return failed(request, "deadline", f"it {late}")
    except (UsageError, StorageError) as wrong:  # the study's metric; the budget's file
        return failed(request, "error", str(wrong))
    except MemoryError:
        return failed(request, "out_of_memory", "")


@dataclass(frozen=True)
class _Work:
    """What a request is done with."""

    data: ClientData
    meter: Meter
    on_call: Callable[[], None]
    """Called after each call of the model."""
    privacy: Privacy | None
    began: float
    """CPU seconds of this process when the request came."""

    def train(self, request: TrainRequest, session: Session, client: Client) -> Report:
        """Train, after a measurement of the loss where it is asked for."""
        data, meter, before, start_loss = self.data, self.meter, None, None
        if request.measure_loss:
            loss = trainer.mean_loss(session, data, request.weights, on_call=self.on_call)
            start_loss = loss if math.isfinite(loss) else None
            before = meter.stop(session, samples=len(data.train_y))
            meter.start()
        trained = trainer.train(session, data, request, on_call=self.on_call)
        measured = meter.stop(session, train_steps=trained.steps, corrections=trained.corrections)
        if before:
            measured = together(before, measured, trained.steps)
        if self.privacy and client.budget:
            client.budget.spend(self.privacy)
        report = trained_report(
            request, trained, measured, client.residuals, self.privacy, self.began
        )
        return report.model_copy(update={"start_loss": start_loss}) if before else report

    def evaluate(
        self, request: EvaluateRequest | VariantRequest, opened: Session | Inference
    ) -> EvaluateReport:
        """Evaluate weights, after personal steps where they are asked for, or a file to deploy."""
        before, calls = None, None
        if isinstance(request, EvaluateRequest):
            session = cast(Session, opened)
            if personal := request.personal:
                tuned, calls = trainer.fine_tune(
                    session, self.data, request.weights, personal, on_call=self.on_call
                )
                request = request.model_copy(update={"weights": tuned})
                before = self.meter.stop(session, train_steps=calls)
                self.meter.start()
            counted = trainer.evaluate(session, self.data, request, on_call=self.on_call)
        else:
            inference = cast(Inference, opened)
            counted = trainer.evaluate_variant(inference, self.data, request, on_call=self.on_call)
            if self.privacy is not None and not self.privacy.confusion:
                counted = replace(counted, confusion=None)
        measured = self.meter.stop(opened, samples=counted.samples)
        if before:
            measured = together(before, measured, -(-counted.samples // opened.micro_batch))
        return counted_report(request, counted, measured, calls, self.began)


def _misfit(request: Request, model: Session | Inference, data: ClientData) -> str:
    """How the client's samples do not fit the model; empty where they do."""
    if model.input_shape != data.input_shape:
        return f"samples have shape {data.input_shape}, the model takes {model.input_shape}"
    if _has_labels(request, model) and data.classes > model.classes:
        return f"the data has {data.classes} classes, the model only {model.classes}"
    return ""


def _has_labels(request: Request, model: Session | Inference) -> bool:
    """Whether the model is a classifier, rather than one that reconstructs its input."""
    if isinstance(request, VariantRequest):
        return request.loss not in RECONSTRUCTION
    return not (isinstance(model, Session) and model.reconstructs)
