"""The Flower ClientApp of a real device: Flower's messages around what the client does.

A handler converts Flower's records to a request, has it answered
(:mod:`fieldtune.client.training.answer`), and converts the report to a reply.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fieldtune.client.contract.inline import MOST_BYTES, STATED, from_bytes, to_bytes
from fieldtune.client.contract.messages import (
    Description,
    EvaluateReport,
    EvaluateRequest,
    Failure,
    TrainReport,
    TrainRequest,
    VariantRequest,
)
from fieldtune.client.contract.version import CONTRACT, RECORD
from fieldtune.client.data.client_data import DataSource
from fieldtune.client.data.privacy import Privacy
from fieldtune.client.node.signatures import is_signed
from fieldtune.client.training.answer import Client, Request, answer, describe
from fieldtune.client.training.meter import HostMeter, Meter
from fieldtune.client.training.privacy_budget import PrivacyBudget
from fieldtune.client.training.residuals import Residuals
from fieldtune.client.training.runtime import Sessions
from fieldtune.profiles.host.probe import Host

MeterSource = Callable[[Mapping[str, object]], Meter]
"""Function from a node's configuration to its meter."""

PrivacySource = Callable[[Mapping[str, object]], Privacy | None]
"""Function from a node's configuration to what the device's owner allows."""


def make_client_app(
    data_of: DataSource,
    *,
    meter_of: MeterSource = lambda _: HostMeter(),
    sessions: Sessions | None = None,
    board: Host | None = None,
    privacy_of: PrivacySource = lambda _: None,
    budget: PrivacyBudget | None = None,
    ca_certificate: str | None = None,
    contract: int = CONTRACT,
) -> ClientApp:
    """A ClientApp that trains and evaluates artefacts on a node's own data.

    Args:
        data_of: node configuration -> data; called for every message, so it should cache.
        meter_of: node configuration -> meter.
        sessions: loaded artefacts, shared by all nodes of this process.
        board: facts about the machine, for a real device; None where there is none.
        privacy_of: node configuration -> what the device's owner allows.
        budget: of the device's updates with noise.
        ca_certificate: of the coordinator, PEM, which must have signed new artefacts; None: they
            need no signature.
        contract: that a device states, if it is to get requests of an earlier one.
    """
    app = ClientApp()
    loaded, residuals = sessions or Sessions(), Residuals()

    def client_of(context: Context) -> Client:
        node = context.node_config
        return Client(
            lambda: data_of(node),
            lambda: meter_of(node),
            lambda: privacy_of(node),
            residuals,
            budget,
        )

    def reply(request: Request, message: Message, context: Context) -> Message:
        report = answer(
            request,
            client_of(context),
            loaded,
            longest_s=message.metadata.ttl,
            signed=lambda: (
                not ca_certificate or is_signed(message.content, request.artefact, ca_certificate)
            ),
        )
        return _reply(report, message)

    @app.query("describe")
    def description(message: Message, context: Context) -> Message:
        known: dict[str, Any] = {
            "client": int(context.node_config.get("partition-id", 0)),
            "name": str(context.node_config.get("name", "")),
            "profile": str(context.node_config.get("profile", "")),
            "contract": contract,
            "version": metadata.version("fieldtune"),
        }
        if board is not None:
            known |= {
                "board": board.model,
                "cores": board.cores,
                "memory_mib": board.memory_total_mib,
            }
        return _reply(describe(known, lambda: data_of(context.node_config)), message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return reply(TrainRequest.parse(_scalars(message), **_vectors(message)), message, context)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return reply(
            EvaluateRequest.parse(_scalars(message), **_vectors(message)), message, context
        )

    @app.evaluate("variant")
    def evaluate_variant(message: Message, context: Context) -> Message:
        return reply(VariantRequest.parse(_scalars(message)), message, context)

    return app


def failed_reply(to: Message, trial: int, round: int, failure: Failure, detail: str) -> Message:
    """The reply to a message that this device could not process."""
    kind = TrainReport if to.metadata.message_type.startswith("train") else EvaluateReport
    return _reply(
        kind(trial=trial, round=round, failure=failure, detail=detail[:500]),
        to,
    )


def _scalars(message: Message) -> dict[str, Any]:
    return dict(message.content.config_records["message"])


def _vectors(message: Message) -> dict[str, Any]:
    """The weights, which may travel as float16, and SCAFFOLD's correction if there is one."""
    scalars = message.content.config_records["message"]
    if "weights" not in message.content.array_records:
        given = {name: scalars[name] for name in ("weights", "correction") if name in scalars}
        return {
            name: from_bytes(data, half=name == "weights" and scalars.get("download") == "float16")
            for name, data in given.items()
            if isinstance(data, bytes)
        }
    sent = message.content.array_records["weights"]
    vectors = {"weights": sent["all"].numpy()}
    if vectors["weights"].dtype == np.float16:
        vectors["weights"] = vectors["weights"].astype(np.float32)
    if "correction" in sent:
        vectors["correction"] = sent["correction"].numpy()
    return vectors


def _reply(report: TrainReport | EvaluateReport | Description, to: Message) -> Message:
    weights = report.weights if isinstance(report, TrainReport) else None
    asked = to.content.config_records.get("message") if to.has_content() else None
    if asked and STATED in asked and (weights is None or weights.nbytes <= MOST_BYTES):
        scalars = {**report.scalars(), STATED: CONTRACT}
        if weights is not None:
            scalars["weights"] = to_bytes(weights)
        return Message(RecordDict({"message": ConfigRecord(scalars)}), reply_to=to)
    records = RecordDict(
        {
            "message": ConfigRecord(report.scalars()),
            RECORD: ConfigRecord({"version": CONTRACT}),
        }
    )
    if weights is not None:
        records["weights"] = ArrayRecord({"all": Array(weights)})
    return Message(records, reply_to=to)
