"""Requests, reports and descriptions as Flower messages, for devices behind a SuperLink.

What a device sends is not trusted: nothing in a reply raises an exception here. The simulator sends
no messages (:mod:`fieldtune.simulations.fleet.frames`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from numpy.lib.format import MAGIC_PREFIX
from numpy.typing import NDArray

from fieldtune.client.contract.inline import MOST_BYTES, STATED, from_bytes, to_bytes
from fieldtune.client.contract.messages import (
    Description,
    EvaluateRequest,
    TrainRequest,
    VariantRequest,
    Weights,
    group_of,
)
from fieldtune.client.contract.version import CONTRACT, INLINE, RECORD
from fieldtune.profiles.common.text import printable
from fieldtune.server.federation.exchange import Report, Request
from fieldtune.server.federation.fleet import Addressed, failure, not_a_report, validated

_DESCRIBE = "query.describe"
_KINDS = {
    TrainRequest: "train",
    EvaluateRequest: "evaluate",
    VariantRequest: "evaluate.variant",
}
REPLY_REFUSED = 1009
"""Code of the error in place of a reply that is too large or cannot be read; Flower uses others."""
_MOST_HEADER_BYTES = 1024
"""The most that the header of a .npy array may take; that of a flat vector takes 128."""


def describe_message(node: int, ttl_s: float) -> Message:
    """A message that asks a node to describe itself."""
    return Message(_stated(), node, _DESCRIBE, ttl=ttl_s, group_id="describe")


def described(message: Message) -> Description | str:
    """The description in a reply; a string with the reason where there is no valid one."""
    if message.has_error():
        return flower_error(message)
    try:
        return Description.parse(_scalars(message))
    except Exception as malformed:  # a device's bytes may make Flower or pydantic raise anything
        return printable(f"not a description: {malformed}", 500)


def request_message(
    addressed: Addressed, node: int, ttl_s: float, with_model: bool, contract: int = 1
) -> Message:
    """The message for a request, with the artefact or without, to a device of this contract."""
    request = addressed.request
    scalars = request.scalars()
    if with_model:
        scalars["model"] = addressed.model
    if contract >= INLINE and _vector_bytes(request) <= MOST_BYTES:
        content = RecordDict()
        scalars |= {STATED: CONTRACT, **_inline(request)}
    else:
        content = _stated()
        if not isinstance(request, VariantRequest):
            content["weights"] = ArrayRecord(_vectors(request))
    content["message"] = ConfigRecord(scalars)
    return Message(
        content,
        node,
        _KINDS[type(request)],
        ttl=ttl_s,
        group_id=group_of(request.trial, request.round),
    )


def _stated() -> RecordDict:
    """The record that states the version of the message."""
    return RecordDict({RECORD: ConfigRecord({"version": CONTRACT})})


def _vectors(request: TrainRequest | EvaluateRequest) -> dict[str, Array]:
    """The weights, as float16 where they are numbers of that type, and the correction."""
    weights: NDArray[Any] = request.weights
    if not isinstance(request, TrainRequest):
        return {"all": Array(weights)}
    if request.download == "float16":
        weights = weights.astype(np.float16)
    vectors = {"all": Array(weights)}
    if request.correction is not None:
        vectors["correction"] = Array(request.correction)
    return vectors


def _vector_bytes(request: Request) -> int:
    if isinstance(request, VariantRequest):
        return 0
    return request.payload_bytes if isinstance(request, TrainRequest) else request.weights.nbytes


def _inline(request: Request) -> dict[str, bytes]:
    """The same vectors as bytes."""
    if isinstance(request, VariantRequest):
        return {}
    half = isinstance(request, TrainRequest) and request.download == "float16"
    vectors = {"weights": to_bytes(request.weights, half=half)}
    if isinstance(request, TrainRequest) and request.correction is not None:
        vectors["correction"] = to_bytes(request.correction)
    return vectors


def reported(message: Message, request: Request) -> Report:
    """The report in a reply; a failure where it is not a valid report on this request."""
    if message.has_error():
        if message.error.code == REPLY_REFUSED:
            return failure(request, "implausible", printable(message.error.reason or "", 500))
        return failure(request, "error", flower_error(message))
    try:
        weights = _weights(message, request)
        fields = _scalars(message) if weights is None else {**_scalars(message), "weights": weights}
    except Exception as malformed:  # the bytes may make Flower or NumPy raise anything
        return not_a_report(request, malformed)
    return validated(request, fields)


def flower_error(message: Message) -> str:
    """The error in place of a reply; its reason may come from the device."""
    return printable(f"Flower error {message.error.code}: {message.error.reason}", 500)


def _scalars(message: Message) -> dict[str, Any]:
    return dict(message.content.config_records["message"])


def _weights(message: Message, request: Request) -> Weights | None:
    """The weights in a reply, if they are float32 and as many as in the request.

    A malicious device may send a zip archive or claim any shape, so the bytes are checked before
    NumPy loads them.
    """
    inline = message.content.config_records["message"].get("weights")
    if "weights" not in message.content.array_records and inline is None:
        return None
    if isinstance(request, VariantRequest) or getattr(request, "update", None):
        raise ValueError("weights that were not asked for")
    if isinstance(inline, bytes):
        if len(inline) != request.weights.nbytes:
            raise ValueError(f"{len(inline)} bytes are not {request.weights.size} weights")
        return from_bytes(inline)
    array, size = message.content.array_records["weights"]["all"], request.weights.size
    if (array.stype, array.dtype) != ("numpy.ndarray", "float32"):
        raise ValueError("weights must be float32, as NumPy saves them")
    header_bytes = len(array.data) - request.weights.nbytes
    if not (array.data.startswith(MAGIC_PREFIX) and 0 < header_bytes <= _MOST_HEADER_BYTES):
        raise ValueError(f"{len(array.data)} bytes are not {size} weights, as NumPy saves them")
    return np.asarray(array.numpy())
