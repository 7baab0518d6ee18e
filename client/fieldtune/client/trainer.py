"""Local training and evaluation on one client: the loop that runs on the device."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fieldtune.client.data import ClientData
from fieldtune.client.messages import EvaluateRequest, TrainRequest, Weights
from fieldtune.client.metrics import auc
from fieldtune.client.runtime import Inference, Session

Metric = Callable[[NDArray[np.int32], NDArray[np.float32]], tuple[float, float]]
"""``(y_true, logits) -> (value, weight)``, both of one client."""


@dataclass(frozen=True)
class Trained:
    """The outcome of local training."""

    weights: Weights
    samples: int
    steps: int
    loss: float


@dataclass(frozen=True)
class Evaluated:
    """Counts over one client's test samples; each array has one entry a class."""

    samples: int
    loss_sum: float
    hits: NDArray[np.int64]
    predicted: NDArray[np.int64]
    actual: NDArray[np.int64]
    value: float | None
    weight: float | None


def train(session: Session, data: ClientData, request: TrainRequest) -> Trained:
    """Local epochs of mini-batch training, samples in a fresh seeded order each epoch.

    A batch larger than the artefact's micro-batch is accumulated over several calls; each sample
    of a batch of ``n`` weighs ``1/n`` and padding weighs 0, so a short last batch neither loses
    nor counts a sample twice.
    """
    session.load(request.weights)
    order = np.random.default_rng(request.seed)
    hyperparameters = {
        name: np.array([value], np.float32) for name, value in request.hyperparameters.items()
    }
    if "seed" in session.hyperparameters:  # the model draws random numbers: dropout, noise
        hyperparameters["seed"] = np.array([request.seed % 2**20], np.float32)
    steps, samples, loss = 0, len(data.train_y), 0.0
    for _ in range(request.local_epochs):
        loss, shuffled = 0.0, order.permutation(samples)
        for start in range(0, samples, request.batch_size):
            batch = shuffled[start : start + request.batch_size]
            batches = list(_micro_batches(session, data.train_x, data.train_y, batch))
            for index, (x, y, real) in enumerate(batches):
                last = index == len(batches) - 1
                weight = real / np.float32(len(batch))
                batch_loss = session.train_step(x, y, weight, hyperparameters, apply=last)
                loss += batch_loss * len(batch) / samples
                steps += 1
    return Trained(session.weights(), samples, steps, loss)


def evaluate(session: Session, data: ClientData, request: EvaluateRequest) -> Evaluated:
    """Loss and per-class counts of the weights on the client's test samples."""
    session.load(request.weights)
    loss_sum, parts = 0.0, []
    everything = np.arange(len(data.test_y))
    for x, y, real in _micro_batches(session, data.test_x, data.test_y, everything):
        loss, logits = session.evaluate(x, y, real)
        loss_sum += loss
        parts.append(logits[: int(real.sum())])
    return _count(data, parts, loss_sum, request.metric)


def evaluate_variant(inference: Inference, data: ClientData, metric: str) -> Evaluated:
    """Cross-entropy and per-class counts of a deployable model on the client's test samples."""
    logits = [inference.infer(x)[None] for x in data.test_x]
    loss_sum = 0.0
    for row, label in zip(logits, data.test_y, strict=True):
        shifted = row[0].astype(np.float64) - row[0].max()
        loss_sum += float(np.log(np.exp(shifted).sum()) - shifted[label])
    return _count(data, logits, loss_sum, metric)


def _count(
    data: ClientData, parts: list[NDArray[np.float32]], loss_sum: float, metric: str
) -> Evaluated:
    samples = len(data.test_y)
    logits = np.concatenate(parts) if parts else np.zeros((0, data.classes), np.float32)
    chosen = logits.argmax(axis=1)
    function = metric_function(metric)
    value, weight = function(data.test_y, logits) if function and samples else (None, None)

    def count(labels: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        return np.bincount(labels, minlength=data.classes)

    return Evaluated(
        samples,
        loss_sum,
        hits=count(data.test_y[chosen == data.test_y]),
        predicted=count(chosen),
        actual=count(data.test_y),
        value=value,
        weight=weight,
    )


@cache
def metric_function(name: str) -> Metric | None:
    """The function that computes a metric on one client; None where the counts suffice."""
    if name == "auc":
        return auc
    if ":" not in name:
        return None
    module, _, attribute = name.partition(":")
    return cast(Metric, getattr(importlib.import_module(module), attribute))


def _micro_batches(
    session: Session, x: NDArray[np.float32], y: NDArray[np.int32], chosen: NDArray[np.int_]
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]]:
    """The chosen samples in full micro-batches, padded with sample 0 at weight 0."""
    size = session.micro_batch
    for start in range(0, len(chosen), size):
        part = chosen[start : start + size]
        real = np.zeros(size, np.float32)
        real[: len(part)] = 1
        padded = np.zeros(size, np.intp)
        padded[: len(part)] = part
        yield x[padded], y[padded], real
