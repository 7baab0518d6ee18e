"""What a study asked of each client and what it answered, as seen at the seam of its fleet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from fieldtune.client.contract.messages import TrainReport, TrainRequest, VariantRequest, Weights
from fieldtune.client.data.client_data import ClientData
from fieldtune.client.training.runtime import Session
from fieldtune.client.training.trainer import train
from fieldtune.server.federation.exchange import Report
from fieldtune.server.federation.fleet import Addressed, Reply


@dataclass
class Exchanged:
    """Requests and reports of a study."""

    weights: dict[tuple[int, int], Weights] = field(default_factory=dict)
    """Trial, round -> the weights that the round began with; the last ones are evaluated."""
    requests: dict[tuple[int, int, int], TrainRequest] = field(default_factory=dict)
    """Trial, round, client -> what was to be trained."""
    models: dict[str, bytes] = field(default_factory=dict)
    """SHA-256 -> artefact."""
    trained: dict[tuple[int, int, int], Weights] = field(default_factory=dict)
    """Trial, round, client -> the weights that it answered."""
    reports: list[tuple[int, Report]] = field(default_factory=list)
    """Client and report, in the order in which they came."""

    def check_training(self, data: Mapping[int, ClientData], atol: float = 0.0) -> None:
        """Hold each client's weights to what training on its data gives on this machine."""
        assert sorted(self.trained) == sorted(self.requests), "not everybody has answered"
        sessions = {
            artefact: Session(model)
            for artefact, model in self.models.items()
            if any(each.artefact == artefact for each in self.requests.values())
        }
        for (trial, round, client), request in self.requests.items():
            expected = train(sessions[request.artefact], data[client], request).weights
            np.testing.assert_allclose(
                self.trained[trial, round, client],
                expected,
                rtol=0,
                atol=atol,
                err_msg=f"trial {trial}, round {round}, client {client}",
            )

    def asked(self, requests: Sequence[Addressed]) -> None:
        for addressed in requests:
            request = addressed.request
            self.models[request.artefact] = addressed.model
            if isinstance(request, VariantRequest):
                continue
            self.weights[request.trial, request.round] = request.weights
            if isinstance(request, TrainRequest):
                self.requests[request.trial, request.round, addressed.client] = request

    def answered(self, replies: Sequence[Reply]) -> None:
        for reply in replies:
            self.reports.append((reply.client, reply.report))
            if isinstance(reply.report, TrainReport) and reply.report.weights is not None:
                key = reply.report.trial, reply.report.round, reply.client
                self.trained[key] = reply.report.weights


@contextmanager
def recorded(module: ModuleType, fleet: str) -> Iterator[Exchanged]:
    """Have the fleet class that a command's module names tell what passes through it."""
    seen, real = Exchanged(), getattr(module, fleet)

    class Recording(real):  # type: ignore[misc, valid-type]
        def send(self, requests: Sequence[Addressed]) -> None:
            seen.asked(requests)
            super().send(requests)

        def receive(self, timeout_s: float) -> Any:
            replies = super().receive(timeout_s)
            seen.answered(replies)
            return replies

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, fleet, Recording)
        yield seen
