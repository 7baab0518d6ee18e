"""Devices that are slower than their profiles say, and answer in whatever order."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from fieldtune.client.contract.messages import (
    Description,
    EvaluateReport,
    TrainReport,
    TrainRequest,
    VariantRequest,
)
from fieldtune.profiles.costmodel.latency import call_ms
from fieldtune.profiles.costmodel.tflite_reader import read_work
from fieldtune.profiles.costmodel.tflite_work import Work
from fieldtune.profiles.device.load import load_profile
from fieldtune.server.federation.fleet import Addressed, Reply

ZERO, FIVE = "raspberry-pi-zero-2w", "raspberry-pi-5"
SLOWER = {ZERO: 2.0, FIVE: 1.0}
MEMBERS = [
    Description(
        client=client, profile=ZERO if client < 2 else FIVE, train_samples=24, test_samples=16,
        input_shape=(8, 8, 1), classes=10, runtime="x",
    )
    for client in range(4)
]  # fmt: skip


class PulledPlugError(Exception):
    """The coordinator's process ends."""


@cache
def work_of(model: bytes) -> dict[str, Work]:
    return read_work(model)


class SlowFleet:
    """Devices that answer random errors and weights, and are slower than predicted.

    Args:
        answers: so many are given before the plug is pulled.
        newest_first: who answers first.
        members: who is there; nobody else may be asked.
    """

    def __init__(
        self, answers: float, *, newest_first: bool, members: Sequence[Description] = MEMBERS
    ) -> None:
        self._left, self._newest_first = answers, newest_first
        self._members = {member.client: member for member in members}
        self._open: deque[Addressed] = deque()

    def members(self) -> Sequence[Description]:
        return list(self._members.values())

    def joined(self) -> Sequence[Description]:
        return []

    def connected(self) -> None:
        return None

    def send(self, requests: Sequence[Addressed]) -> None:
        self._open.extend(requests)

    def receive(self, timeout_s: float) -> Sequence[Reply]:
        if self._left <= 0:
            raise PulledPlugError
        self._left -= 1
        asked = self._open.pop() if self._newest_first else self._open.popleft()
        return [Reply(asked.client, self._report(asked))]

    def _report(self, asked: Addressed) -> TrainReport | EvaluateReport:
        request, profile = asked.request, self._members[asked.client].profile
        kind = "train" if isinstance(request, TrainRequest) else "evaluate"
        if isinstance(request, VariantRequest):
            ms = 1.0
        else:
            work, lasting = work_of(asked.model)[kind], kind == "train"
            ms = call_ms(load_profile(profile), work, lasting=lasting).value * SLOWER[profile]
        common: dict[str, Any] = {
            "trial": request.trial,
            "round": request.round,
            "wall_s": 3e-3 * ms,
            "call_p50_ms": ms * (1 + 0.01 * asked.client + 0.003 * request.round),
        }
        if isinstance(request, TrainRequest):
            moved = np.random.default_rng(request.seed).normal(size=request.weights.size)
            weights = request.weights + moved.astype(np.float32)
            return TrainReport(**common, weights=weights, samples=24, steps=3)
        seed = f"{request.trial} {asked.client}".encode()
        hits = hashlib.sha256(seed).digest()[0] % 16
        counts = (16, *[0] * 9)
        return EvaluateReport(
            **common, samples=16, loss_sum=1.0, hits=(hits, *[0] * 9), predicted=counts,
            actual=counts,
        )  # fmt: skip
