"""Local training and evaluation on one client."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.client.contract.messages import (
    MOST_CONFUSED,
    RECONSTRUCTION,
    EvaluateRequest,
    PersonalSteps,
    TrainRequest,
    VariantRequest,
    Weights,
)
from fieldtune.client.data.client_data import ClientData
from fieldtune.client.training.epoch import calls_of, run_epoch
from fieldtune.client.training.metrics import metric_function, own_metric
from fieldtune.client.training.runtime import Evaluation, Inference, Session


@dataclass(frozen=True)
class Trained:
    """The outcome of local training."""

    weights: Weights
    samples: int
    steps: int
    loss: float
    corrections: int = 0
    """Of all weights, between the steps."""


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
    confusion: NDArray[np.int64] | None = None
    """Samples ``[class, predicted class]``; None where that is not counted."""


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

    With a correction, each step of SGD is followed by ``weights -= learning_rate * correction``
    (SCAFFOLD; Karimireddy et al. 2020, equation 3). That resets the optimizer's state, of which
    SGD without momentum has none.
    """
    session.load(request.weights)
    order = np.random.default_rng(request.seed)
    _set_inputs(session, request.hyperparameters, request.seed)
    shift = None
    if request.correction is not None:
        shift = np.float32(request.hyperparameters["learning_rate"]) * request.correction
    calls, samples = calls_of(session, data, request.batch_size), len(data.train_y)
    loss, corrections = 0.0, 0
    for epoch in range(request.local_epochs):
        last = epoch == request.local_epochs - 1  # of the others nobody asks for the loss
        for size, applied in run_epoch(session, data, calls, order.permutation(samples)):
            on_call()
            if last:
                loss += session.loss() * size / samples
            if shift is not None and applied:
                session.subtract(shift)
                corrections += 1
                # The model begins anew, and would draw the same random numbers at each step.
                _set_inputs(session, request.hyperparameters, request.seed + corrections)
    steps = request.local_epochs * len(calls.inputs)
    return Trained(session.weights(), samples, steps, loss, corrections)


def fine_tune(
    session: Session,
    data: ClientData,
    weights: Weights,
    personal: PersonalSteps,
    *,
    on_call: Callable[[], None] = _ignore_call,
) -> tuple[Weights, int]:
    """Steps on the client's own training samples, shuffled (seeded) in each epoch.

    Returns:
        The weights afterwards, or those given where they are not finite any more, as a device keeps
        the better ones; and the number of calls of the model.
    """
    session.load(weights)
    order = np.random.default_rng(personal.seed)
    _set_inputs(session, personal.hyperparameters, personal.seed)
    steps = calls = 0
    samples = len(data.train_y)
    if not samples:
        return weights, 0
    each = calls_of(session, data, personal.batch_size)
    while steps < personal.steps:
        for _, applied in run_epoch(session, data, each, order.permutation(samples)):
            on_call()
            calls += 1
            steps += applied
            if steps == personal.steps:
                break
    tuned = session.weights()
    return (tuned if np.isfinite(tuned).all() else weights), calls


def mean_loss(
    session: Session,
    data: ClientData,
    weights: Weights,
    *,
    on_call: Callable[[], None] = _ignore_call,
) -> float:
    """Mean loss of weights on the client's training samples."""
    session.load(weights)
    targets = data.train_x if session.reconstructs else data.train_y
    parts = _evaluations(session, data.train_x, targets, with_logits=False)
    total = 0.0
    for batch, _ in parts:
        on_call()
        total += batch.loss
    return total / max(len(targets), 1)


def _set_inputs(session: Session, hyperparameters: Mapping[str, float], seed: int) -> None:
    """Set the inputs of the artefact that stay the same over several calls."""
    values = dict(hyperparameters)
    if "seed" in session.hyperparameters:  # the model draws random numbers: dropout, noise
        values["seed"] = seed % 2**20
    session.set_hyperparameters(values)


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
    loss_sum, counts = 0.0, None
    outputs: list[NDArray[np.float32]] = []
    with_logits = metric_function(request.metric) is not None
    for batch, real in _evaluations(session, data.test_x, targets, with_logits=with_logits):
        on_call()
        loss_sum += batch.loss
        counts = batch.counts if counts is None else counts + batch.counts
        if batch.logits is not None:
            outputs.append(batch.logits[:real])
    if counts is None:
        counts = np.zeros((3, 0), np.int64)
    return _evaluated(data, outputs, loss_sum, counts, request.metric)


def _evaluations(
    session: Session, samples: NDArray[np.float32], targets: NDArray[Any], *, with_logits: bool
) -> Iterator[tuple[Evaluation, int]]:
    """Evaluations of all samples in micro-batches, and how many samples each has."""
    size = session.micro_batch
    for first in range(0, len(targets), size):
        x, y, real = samples[first : first + size], targets[first : first + size], size
        if len(x) < size:  # padded with sample 0 at weight 0
            real, chosen = len(x), np.zeros(size, np.intp)
            chosen[:real] = np.arange(first, len(targets))
            x, y = samples[chosen], targets[chosen]
        weight = (np.arange(size) < real).astype(np.float32)
        yield session.evaluate(x, y, weight, with_logits=with_logits), real


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
            reconstruction_loss(request.loss, output[0], x)
            for output, x in zip(outputs, data.test_x, strict=True)
        )
        return _evaluated(data, outputs, sum(losses), np.zeros((3, 0), np.int64), request.metric)
    classes = outputs[0].shape[-1] if outputs else data.classes
    loss_sum, confusion = 0.0, np.zeros((classes, classes), np.int64)
    for row, label in zip(outputs, data.test_y, strict=True):
        shifted = row[0].astype(np.float64) - row[0].max()
        loss_sum += float(np.log(np.exp(shifted).sum()) - shifted[label])
        confusion[label, int(row[0].argmax())] += 1
    counts = np.stack([confusion.diagonal(), confusion.sum(axis=0), confusion.sum(axis=1)])
    counted = _evaluated(data, outputs, loss_sum, counts, request.metric)
    return replace(counted, confusion=confusion) if classes <= MOST_CONFUSED else counted


def reconstruction_loss(loss: str, output: NDArray[np.float32], x: NDArray[np.float32]) -> float:
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
