"""Peers of the simulation engine: the same rounds in plain array code, PyTorch, JAX and Flower.

Each is a class with ``name`` and ``round(layers, number)``: the average of the clients' weights
after a local epoch from these layers. All take the samples in the same order, so that they end at
the same weights but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from engine_frameworks import FlowerInProcess, FlowerRay, Torch, Trainer
from engine_tasks import BATCH, CLIENTS, LEARNING_RATE, MOMENTUM, TRAINED, Layers, Peer, Task, mean
from numpy.typing import NDArray


class NumpyLoop:
    """One client after the other, SGD with momentum of a network with one hidden layer in NumPy."""

    name = "NumPy, a loop"

    def __init__(self, task: Task) -> None:
        self._task = task

    def round(self, layers: Layers, number: int) -> Layers:
        """One round."""
        return mean([self.train(layers, client, number) for client in range(CLIENTS)])

    def train(self, layers: Layers, client: int, number: int) -> Layers:
        """The weights of one client after its epoch."""
        w1, b1, w2, b2 = layers = [layer.copy() for layer in layers]
        moments = [np.zeros_like(layer) for layer in layers]
        order = self._task.order(client, number)
        x, y = self._task.x[client].reshape(TRAINED, -1)[order], self._task.y[client][order]
        rows = np.arange(BATCH)
        for start in range(0, TRAINED, BATCH):
            xs, ys = x[start : start + BATCH], y[start : start + BATCH]
            hidden = np.maximum(xs @ w1 + b1, 0)
            logits = hidden @ w2 + b2
            p = np.exp(logits - logits.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            p[rows, ys] -= 1
            p /= BATCH
            below = (p @ w2.T) * (hidden > 0)
            gradients = (xs.T @ below, below.sum(axis=0), hidden.T @ p, p.sum(axis=0))
            for layer, moment, gradient in zip(layers, moments, gradients, strict=True):
                moment *= MOMENTUM
                moment += gradient
                layer -= np.float32(LEARNING_RATE) * moment
        return layers


class NumpyBatched:
    """The same, with all clients of a round in one array."""

    name = "NumPy, clients batched"

    def __init__(self, task: Task) -> None:
        self._task = task

    def round(self, layers: Layers, number: int) -> Layers:
        """One round."""
        everyone = [np.repeat(layer[None], CLIENTS, axis=0) for layer in layers]
        w1, b1, w2, b2 = everyone
        moments = [np.zeros_like(layer) for layer in everyone]
        clients = np.arange(CLIENTS)[:, None]
        orders = np.stack([self._task.order(client, number) for client in range(CLIENTS)])
        x = self._task.x.reshape(CLIENTS, TRAINED, -1)[clients, orders]
        y = self._task.y[clients, orders]
        rows = np.arange(BATCH)
        for start in range(0, TRAINED, BATCH):
            xs, ys = x[:, start : start + BATCH], y[:, start : start + BATCH]
            hidden = np.maximum(xs @ w1 + b1[:, None], 0)
            logits = hidden @ w2 + b2[:, None]
            p = np.exp(logits - logits.max(axis=2, keepdims=True))
            p /= p.sum(axis=2, keepdims=True)
            p[clients, rows, ys] -= 1
            p /= BATCH
            below = (p @ w2.transpose(0, 2, 1)) * (hidden > 0)
            gradients = (
                xs.transpose(0, 2, 1) @ below, below.sum(axis=1),
                hidden.transpose(0, 2, 1) @ p, p.sum(axis=1),
            )  # fmt: skip
            for layer, moment, gradient in zip(everyone, moments, gradients, strict=True):
                moment *= MOMENTUM
                moment += gradient
                layer -= np.float32(LEARNING_RATE) * moment
        return [layer.mean(axis=0, dtype=np.float32) for layer in everyone]


class Jax:
    """JAX: all steps of a client compiled into one call, for one client or for all at a time."""

    def __init__(self, task: Task, *, batched: bool) -> None:
        import jax

        self.name = "JAX, vmap over clients" if batched else "JAX, a client at a time"
        self._task, self._batched = task, batched
        forward = _mlp if task.name == "mlp" else _cnn

        def loss(layers: Any, x: Any, y: Any) -> Any:
            logs = jax.nn.log_softmax(forward(layers, x))
            return -jax.numpy.take_along_axis(logs, y[:, None], axis=1).mean()

        def step(carry: Any, batch: Any) -> tuple[Any, None]:
            layers, moments = carry
            gradients = jax.grad(loss)(layers, *batch)
            moments = [MOMENTUM * m + g for m, g in zip(moments, gradients, strict=True)]
            layers = [w - LEARNING_RATE * m for w, m in zip(layers, moments, strict=True)]
            return (layers, moments), None

        def train(layers: Any, x: Any, y: Any) -> Any:
            x = x.reshape(-1, BATCH, *x.shape[1:])
            moments = [jax.numpy.zeros_like(layer) for layer in layers]
            (layers, _), _ = jax.lax.scan(step, (layers, moments), (x, y.reshape(-1, BATCH)))
            return layers

        self._train: Callable[..., Any] = jax.jit(
            jax.vmap(train, in_axes=(None, 0, 0)) if batched else train
        )

    def round(self, layers: Layers, number: int) -> Layers:
        """One round."""
        task = self._task
        orders = [task.order(client, number) for client in range(CLIENTS)]
        if self._batched:
            clients, order = np.arange(CLIENTS)[:, None], np.stack(orders)
            trained = self._train(layers, task.x[clients, order], task.y[clients, order])
            return [np.asarray(layer).mean(axis=0, dtype=np.float32) for layer in trained]
        each = [
            self._train(layers, task.x[client][order], task.y[client][order])
            for client, order in enumerate(orders)
        ]
        return mean([[np.asarray(layer) for layer in layers] for layers in each])


def _mlp(layers: Any, x: Any) -> Any:
    import jax

    w1, b1, w2, b2 = layers
    return jax.nn.relu(x.reshape(len(x), -1) @ w1 + b1) @ w2 + b2


def _cnn(layers: Any, x: Any) -> Any:
    """The built-in ``cnn``: twice a 3x3 convolution with ReLU and a 2x2 max pool, then dense."""
    import jax

    *convolutions, w, b = layers
    for kernel, bias in zip(convolutions[::2], convolutions[1::2], strict=True):
        x = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.lax.reduce_window(
            jax.nn.relu(x + bias), -jax.numpy.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
        )
    return x.reshape(len(x), -1) @ w + b


def difference(ours: Layers, theirs: Layers) -> float:
    """The largest difference between two models' weights."""
    worst: NDArray[Any] = np.array([np.abs(a - b).max() for a, b in zip(ours, theirs, strict=True)])
    return float(worst.max())


def _inside(task: Task) -> tuple[Callable[[Task], Trainer], str]:
    """What trains within Flower, and its name."""
    return (NumpyLoop, "NumPy") if task.name == "mlp" else (Torch, "PyTorch")


PEERS: dict[str, tuple[Callable[[Task], Peer], tuple[str, ...]]] = {
    "numpy": (NumpyLoop, ("mlp",)),
    "numpy batched": (NumpyBatched, ("mlp",)),
    "jax": (lambda task: Jax(task, batched=False), ("mlp", "cnn")),
    "jax vmap": (lambda task: Jax(task, batched=True), ("mlp", "cnn")),
    "torch": (Torch, ("mlp", "cnn")),
    "flower": (lambda task: FlowerInProcess(task, *_inside(task)), ("mlp", "cnn")),
    "flower ray": (lambda task: FlowerRay(task, *_inside(task)), ("mlp", "cnn")),
}
"""Name -> how it is made, and the models that it trains."""
