"""Local training and evaluation on one client."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fieldtune.client.contract.messages import (
    RECONSTRUCTION,
    EvaluateRequest,
    TrainRequest,
    VariantRequest,
    Weights,
)
from fieldtune.client.data.client_data import ClientData
from fieldtune.client.training.metrics import auc
from fieldtune.client.training.runtime import Inference, Session
from fieldtune.profiles.common.errors import UsageError
from fieldtune.profiles.common.load_object import load_object

Metric = Callable[[NDArray[np.int32], NDArray[np.float32]], tuple[float, float]]
"""``(y_true, logits) -> (value, weight)`` on one client's data."""


@dataclass(frozen=True)
class Trained:
    """The outcome of local training."""

    weights: Weights
    samples: int
    steps: int
    loss: float


@dataclass(frozen=True)
class Evaluated:
    """Counts over one client's test samples; each array has one entry per class.

    For a model that reconstructs its input the arrays are empty.
    """

    samples: int
    loss_sum: float
    hits: NDArray[np.int64]
    predicted: NDArray[np.int64]
    actual: NDArray[np.int64]
    value: float | None
    weight: float | None


def _ignore_call() -> None:
    """Default ``on_call`` callback."""


def train(
    session: Session,
    data: ClientData,
    request: TrainRequest,
    *,
    on_call: Callable[[], None] = _ignore_call,
) -> Trained:
    """Local epochs of mini-batch training, with samples shuffled (seeded) in each epoch.

    A batch larger than the artefact's micro-batch is accumulated over several calls; each sample
    of a batch of ``n`` has weight ``1/n`` and padding has weight 0, so that in a short last batch
    no sample is lost or counted twice. ``on_call`` is called after every call of the model.
    """
    session.load(request.weights)
    order = np.random.default_rng(request.seed)
    hyperparameters = {
        name: np.array([value], np.float32) for name, value in request.hyperparameters.items()
    }
    if "seed" in session.hyperparameters:  # the model draws random numbers: dropout, noise
        hyperparameters["seed"] = np.array([request.seed % 2**20], np.float32)
    targets = data.train_x if session.reconstructs else data.train_y
    steps, samples, loss = 0, len(data.train_y), 0.0
    for _ in range(request.local_epochs):
        loss, shuffled = 0.0, order.permutation(samples)
        for start in range(0, samples, request.batch_size):
            batch = shuffled[start : start + request.batch_size]
            batches = list(_micro_batches(session, data.train_x, targets, batch))
            for index, (x, y, real) in enumerate(batches):
                last = index == len(batches) - 1
                weight = real / np.float32(len(batch))
                batch_loss = session.train_step(x, y, weight, hyperparameters, apply=last)
                on_call()
                loss += batch_loss * len(batch) / samples
                steps += 1
    return Trained(session.weights(), samples, steps, loss)


def evaluate(
    session: Session,
    data: ClientData,
    request: EvaluateRequest,
    *,
    on_call: Callable[[], None] = _ignore_call,
) -> Evaluated:
    """Loss and per-class counts of the weights on the client's test samples."""
    session.load(request.weights)
    targets = data.test_x if session.reconstructs else data.test_y
    everything = np.arange(len(data.test_y))
    loss_sum, counts = 0.0, np.zeros((3, 0), np.int64)
    outputs: list[NDArray[np.float32]] = []
    for x, y, real in _micro_batches(session, data.test_x, targets, everything):
        batch = session.evaluate(x, y, real)
        on_call()
        loss_sum += batch.loss
        counts = counts + batch.counts if outputs else batch.counts
        outputs.append(batch.logits[: int(real.sum())])
    return _evaluated(data, outputs, loss_sum, counts, request.metric)


def evaluate_variant(
    inference: Inference,
    data: ClientData,
    request: VariantRequest,
    *,
    on_call: Callable[[], None] = _ignore_call,
) -> Evaluated:
    """Loss and per-class counts of a deployable model on the client's test samples."""
    outputs = []
    for x in data.test_x:
        outputs.append(inference.infer(x)[None])
        on_call()
    if request.loss in RECONSTRUCTION:
        losses = (
            _reconstruction_loss(request.loss, output[0], x)
            for output, x in zip(outputs, data.test_x, strict=True)
        )
        return _evaluated(data, outputs, sum(losses), np.zeros((3, 0), np.int64), request.metric)
    loss_sum, counts = 0.0, np.zeros((3, data.classes), np.int64)
    for row, label in zip(outputs, data.test_y, strict=True):
        shifted = row[0].astype(np.float64) - row[0].max()
        loss_sum += float(np.log(np.exp(shifted).sum()) - shifted[label])
        chosen = int(row[0].argmax())
        counts[0, label] += chosen == label
        counts[1, chosen] += 1
        counts[2, label] += 1
    return _evaluated(data, outputs, loss_sum, counts, request.metric)


def _reconstruction_loss(loss: str, output: NDArray[np.float32], x: NDArray[np.float32]) -> float:
    """The loss of one sample, as defined by the compiler's ``losses``: a mean over its elements."""
    size = np.abs(output.astype(np.float64) - x)
    if loss == "mse":
        return float((size * size).mean())
    if loss == "mae":
        return float(size.mean())
    inside = np.minimum(size, 1.0)
    return float((inside * (size - 0.5 * inside)).mean())


def _evaluated(
    data: ClientData,
    outputs: list[NDArray[np.float32]],
    loss_sum: float,
    counts: NDArray[np.int64],
    metric: str,
) -> Evaluated:
    samples, function = len(data.test_y), metric_function(metric)
    value = weight = None
    if function and samples:
        value, weight = own_metric(metric, function, data.test_y, np.concatenate(outputs))
    hits, predicted, actual = counts
    return Evaluated(samples, loss_sum, hits, predicted, actual, value, weight)


def own_metric(
    name: str, function: Metric, y_true: NDArray[np.int32], logits: NDArray[np.float32]
) -> tuple[float, float]:
    """A metric's value and weight.

    Raises:
        UsageError: the function raises, or returns something else.
    """
    metric = f"task.metric = {name!r}"
    try:
        returned = function(y_true, logits)
    except (Exception, SystemExit) as raised:  # a user's function may raise anything
        raise UsageError(f"{metric} raised {type(raised).__name__}: {raised}") from raised
    try:
        value, weight = (float(number) for number in returned)
    except (TypeError, ValueError, OverflowError):
        raise UsageError(
            f"{metric} returned {_kind(returned)}: return (value, weight), two numbers: the "
            "metric on this client's samples, and the weight with which it counts"
        ) from None
    if not 0 <= weight < math.inf:
        raise UsageError(
            f"{metric} returned the weight {weight:g}: return a weight of at least 0, such as the "
            "number of samples"
        )
    return value, weight


def _kind(returned: object) -> str:
    """What a function returned, in a few words."""
    if isinstance(returned, (int, float, np.number)):
        return f"a single number, {returned:g}"
    if isinstance(returned, (tuple, list)) or (isinstance(returned, np.ndarray) and returned.ndim):
        return (
            f"{len(returned)} values of which not all are numbers"
            if len(returned) == 2
            else (f"{len(returned)} values")
        )
    return f"{type(returned).__name__}"


@cache
def metric_function(name: str) -> Metric | None:
    """The function that computes a metric on one client; None if counts are sufficient."""
    if name == "auc":
        return auc
    if ":" not in name:
        return None
    return cast(Metric, load_object(name, setting="task.metric", error=UsageError))


def _micro_batches(
    session: Session, x: NDArray[np.float32], y: NDArray[Any], chosen: NDArray[np.int_]
) -> Iterator[tuple[NDArray[np.float32], NDArray[Any], NDArray[np.float32]]]:
    """The chosen samples in micro-batches, the last padded with sample 0 at weight 0."""
    size = session.micro_batch
    for start in range(0, len(chosen), size):
        part = chosen[start : start + size]
        real = np.zeros(size, np.float32)
        real[: len(part)] = 1
        padded = np.zeros(size, np.intp)
        padded[: len(part)] = part
        yield x[padded], y[padded], real
