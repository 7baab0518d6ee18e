"""The Flower ClientApp, used on real devices and in the simulator.

A handler converts Flower's records to a request, runs the trainer while the meter measures, and
replies with a report. Errors on the device become reports with a ``failure``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fieldtune.client.contract.messages import (
    RECONSTRUCTION,
    Description,
    EvaluateReport,
    EvaluateRequest,
    Failure,
    TrainReport,
    TrainRequest,
    VariantRequest,
)
from fieldtune.client.data.client_data import ClientData, DataSource
from fieldtune.client.data.privacy import Privacy
from fieldtune.client.node.signatures import is_signed
from fieldtune.client.training import trainer
from fieldtune.client.training.allowed import NotAllowedError, check
from fieldtune.client.training.meter import HostMeter, Measurement, Meter
from fieldtune.client.training.runtime import (
    ArtefactMissingError,
    BadArtefactError,
    Inference,
    Opened,
    Session,
    Sessions,
    runtime_name,
)
from fieldtune.profiles.common.errors import DataError, UsageError
from fieldtune.profiles.host.probe import Host

MeterSource = Callable[[Mapping[str, object]], Meter]
"""Function from a node's configuration to its meter."""


PrivacySource = Callable[[Mapping[str, object]], Privacy | None]
"""Function from a node's configuration to what the device's owner allows."""

Report = TypeVar("Report", TrainReport, EvaluateReport)


_Request = TrainRequest | EvaluateRequest | VariantRequest


def make_client_app(
    data_of: DataSource,
    *,
    meter_of: MeterSource = lambda _: HostMeter(),
    sessions: Sessions | None = None,
    board: Host | None = None,
    privacy_of: PrivacySource = lambda _: None,
    ca_certificate: str | None = None,
) -> ClientApp:
    """A ClientApp that trains and evaluates artefacts on a node's own data.

    Args:
        data_of: node configuration -> data; called for every message, so it should cache.
        meter_of: node configuration -> meter.
        sessions: loaded artefacts, shared by all nodes of this process.
        board: facts about the machine, for a real device; None in a simulation.
        privacy_of: node configuration -> what the device's owner allows; None in a simulation.
        ca_certificate: of the coordinator, PEM, which must have signed new artefacts; None: they
            need no signature.
    """
    app = ClientApp()
    loaded = sessions or Sessions()

    @app.query("describe")
    def describe(message: Message, context: Context) -> Message:
        description: dict[str, Any] = {
            "client": int(context.node_config.get("partition-id", 0)),
            "name": str(context.node_config.get("name", "")),
            "profile": str(context.node_config.get("profile", "")),
            "runtime": runtime_name(),
        }
        if board is not None:
            description |= {
                "board": board.model,
                "cores": board.cores,
                "memory_mib": board.memory_total_mib,
            }
        try:
            data = data_of(context.node_config)
        except DataError as bad:
            return _reply(Description(**description, problem=str(bad)[:500]), message)
        described = Description(
            **description,
            train_samples=len(data.train_y),
            test_samples=len(data.test_y),
            input_shape=data.input_shape,
            classes=data.classes,
        )
        return _reply(described, message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        request = TrainRequest.parse(_scalars(message), _weights(message))

        def work(session: Session, data: ClientData, meter: Meter) -> TrainReport:
            privacy = privacy_of(context.node_config)
            on_call = _within(message, privacy, meter.mark)
            trained = trainer.train(session, data, request, on_call=on_call)
            if not np.isfinite(trained.weights).all():
                return _failed(TrainReport, request, "diverged", "weights are not finite")
            released = privacy.released(request.weights, trained.weights) if privacy else None
            measured = meter.stop(session, train_steps=trained.steps)
            return TrainReport(
                trial=request.trial,
                round=request.round,
                weights=trained.weights if released is None else released,
                samples=trained.samples,
                steps=trained.steps,
                loss=trained.loss,
                **_measured(measured),
            )

        return _reply(_attempt(TrainReport, request, message, context, Session, work), message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        request = EvaluateRequest.parse(_scalars(message), _weights(message))

        def work(session: Session, data: ClientData, meter: Meter) -> EvaluateReport:
            on_call = _within(message, privacy_of(context.node_config), meter.mark)
            counted = trainer.evaluate(session, data, request, on_call=on_call)
            return _counted(request, counted, meter.stop(session, samples=counted.samples))

        return _reply(_attempt(EvaluateReport, request, message, context, Session, work), message)

    @app.evaluate("variant")
    def evaluate_variant(message: Message, context: Context) -> Message:
        request = VariantRequest.parse(_scalars(message))

        def work(inference: Inference, data: ClientData, meter: Meter) -> EvaluateReport:
            on_call = _within(message, privacy_of(context.node_config), meter.mark)
            counted = trainer.evaluate_variant(inference, data, request, on_call=on_call)
            return _counted(request, counted, meter.stop(inference, samples=counted.samples))

        return _reply(_attempt(EvaluateReport, request, message, context, Inference, work), message)

    def _attempt(
        report: type[Report],
        request: _Request,
        message: Message,
        context: Context,
        kind: type[Opened],
        work: Callable[[Opened, ClientData, Meter], Report],
    ) -> Report:
        began = time.process_time()
        try:
            data = data_of(context.node_config)
            if privacy := privacy_of(context.node_config):
                check(privacy, request, data)
            if (
                ca_certificate
                and request.model is not None
                and not is_signed(message.content, request.artefact, ca_certificate)
            ):
                raise BadArtefactError("the coordinator has not signed it")
            session = loaded.get(request.artefact, request.model, kind)
            if session.input_shape != data.input_shape:
                return _failed(
                    report,
                    request,
                    "bad_data",
                    f"samples have shape {data.input_shape}, the model takes {session.input_shape}",
                )
            if _has_labels(request, session) and data.classes > session.classes:
                return _failed(
                    report,
                    request,
                    "bad_data",
                    f"the data has {data.classes} classes, the model only {session.classes}",
                )
            meter = meter_of(context.node_config)
            meter.start()
            done = work(session, data, meter)
            return done.model_copy(update={"host_cpu_s": time.process_time() - began})
        except ArtefactMissingError:
            return _failed(report, request, "artefact_missing", "")
        except BadArtefactError as bad:
            return _failed(report, request, "bad_artefact", str(bad))
        except DataError as bad:
            return _failed(report, request, "bad_data", str(bad))
        except NotAllowedError as what:
            return _failed(report, request, "error", f"the device's owner does not allow {what}")
        except _OverdueError as late:
            return _failed(report, request, "deadline", str(late))
        except UsageError as wrong:  # the study's metric
            return _failed(report, request, "error", str(wrong))
        except MemoryError:
            return _failed(report, request, "out_of_memory", "")

    return app


class _OverdueError(Exception):
    """A request took longer than it may."""


def _within(
    message: Message, privacy: Privacy | None, on_call: Callable[[], None]
) -> Callable[[], None]:
    """``on_call``, which also ends the work once the message or the owner's limit has expired.

    A simulation has no clock of its own, so nothing expires there.
    """
    if privacy is None:
        return on_call
    longest_s = min(message.metadata.ttl, privacy.max_request_s or math.inf)
    until = time.monotonic() + longest_s

    def limited() -> None:
        if time.monotonic() > until:
            raise _OverdueError(f"it took longer than {longest_s:g} s")
        on_call()

    return limited


def failed_reply(to: Message, trial: int, round: int, failure: Failure, detail: str) -> Message:
    """The reply to a message that this device could not process."""
    kind = TrainReport if to.metadata.message_type.startswith("train") else EvaluateReport
    return _reply(
        kind(trial=trial, round=round, failure=failure, detail=detail[:500]),
        to,
    )


def _has_labels(request: _Request, model: Session | Inference) -> bool:
    """Whether the model is a classifier, rather than one that reconstructs its input."""
    if isinstance(request, VariantRequest):
        return request.loss not in RECONSTRUCTION
    return not (isinstance(model, Session) and model.reconstructs)


def _failed(report: type[Report], request: _Request, failure: Failure, detail: str) -> Report:
    return report(trial=request.trial, round=request.round, failure=failure, detail=detail[:500])


def _counted(
    request: _Request, counted: trainer.Evaluated, measured: Measurement
) -> EvaluateReport:
    return EvaluateReport(
        trial=request.trial,
        round=request.round,
        samples=counted.samples,
        loss_sum=counted.loss_sum,
        hits=tuple(counted.hits.tolist()),
        predicted=tuple(counted.predicted.tolist()),
        actual=tuple(counted.actual.tolist()),
        value=counted.value,
        weight=counted.weight,
        inference_ms=measured.inference_ms,
        **_measured(measured),
    )


def _measured(measured: Measurement) -> dict[str, Any]:
    return {
        "simulated": measured.simulated,
        "wall_s": measured.wall_s,
        "cpu_s": measured.cpu_s,
        "peak_memory_mib": measured.peak_memory_mib,
        "energy_j": measured.energy_j,
        "temperature_before_c": measured.temperature_before_c,
        "temperature_after_c": measured.temperature_after_c,
        "throttled": measured.throttled,
        "swapping": measured.swapping,
    } | (
        {
            "call_p50_ms": measured.latency.median_ms,
            "call_p90_ms": measured.latency.p90_ms,
            "call_p99_ms": measured.latency.p99_ms,
        }
        if measured.latency
        else {}
    )


def _scalars(message: Message) -> dict[str, Any]:
    return dict(message.content.config_records["message"])


def _weights(message: Message) -> Any:
    return message.content.array_records["weights"]["all"].numpy()


def _reply(report: TrainReport | EvaluateReport | Description, to: Message) -> Message:
    records = RecordDict({"message": ConfigRecord(report.scalars())})
    if isinstance(report, TrainReport) and report.weights is not None:
        records["weights"] = ArrayRecord({"all": Array(report.weights)})
    return Message(records, reply_to=to)
