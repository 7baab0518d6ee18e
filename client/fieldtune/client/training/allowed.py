"""Whether a device's owner allows a request."""

from __future__ import annotations

from fieldtune.client.contract.messages import (
    METRICS,
    EvaluateRequest,
    TrainRequest,
    VariantRequest,
)
from fieldtune.client.data.client_data import ClientData
from fieldtune.client.data.privacy import Privacy


class NotAllowedError(Exception):
    """A request that the device's owner does not allow; the message says what, without samples."""


def check(
    privacy: Privacy, request: TrainRequest | EvaluateRequest | VariantRequest, data: ClientData
) -> None:
    """Raise NotAllowedError if the owner does not allow a request."""
    for part, samples in (("training", data.train_y), ("test", data.test_y)):
        if len(samples) < privacy.min_samples:
            raise NotAllowedError(
                f"fewer {part} samples than privacy.min_samples = {privacy.min_samples}"
            )
    size_mib = len(request.model or b"") / 2**20
    if size_mib > privacy.max_model_mib:
        raise NotAllowedError(
            f"a model of {size_mib:.1f} MiB, privacy.max_model_mib = {privacy.max_model_mib:g}"
        )
    if isinstance(request, TrainRequest):
        if privacy.max_epochs is not None and request.local_epochs > privacy.max_epochs:
            raise NotAllowedError(
                f"{request.local_epochs} local epochs, privacy.max_epochs = {privacy.max_epochs}"
            )
        return
    personal = request.personal if isinstance(request, EvaluateRequest) else None
    if personal and privacy.max_epochs is not None:
        most = privacy.max_epochs * max(1, -(-len(data.train_y) // personal.batch_size))
        if personal.steps > most:
            raise NotAllowedError(
                f"{personal.steps} personal steps, privacy.max_epochs = {privacy.max_epochs} are "
                f"{most} of them"
            )
    if request.metric not in (METRICS if privacy.metrics is None else privacy.metrics):
        raise NotAllowedError(f"the metric {request.metric!r}, which privacy.metrics lacks")
