"""Federated averaging of a ReLU network in plain NumPy: the peer of the benchmarks.

McMahan et al. 2017, algorithm 1; initial weights as Keras draws them (Glorot and Bengio 2010,
eq. 16; biases 0).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from fieldtune.client.data.client_data import ClientData

Layers = list[tuple[NDArray[np.float64], NDArray[np.float64]]]


def federated_averaging(
    clients: Sequence[ClientData],
    *,
    hidden: Sequence[int],
    rounds: int,
    clients_per_round: int,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seeds: Iterable[int],
) -> list[float]:
    """Accuracy over all clients' test samples after so many rounds, one for each seed."""
    accuracies = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        sizes = [int(np.prod(clients[0].input_shape)), *hidden, clients[0].classes]
        layers: Layers = []
        for fan_in, fan_out in itertools.pairwise(sizes):
            limit = np.sqrt(6 / (fan_in + fan_out))
            layers.append((rng.uniform(-limit, limit, (fan_in, fan_out)), np.zeros(fan_out)))
        for _ in range(rounds):
            chosen = rng.choice(len(clients), clients_per_round, replace=False)
            updates = [
                _train(layers, clients[c], epochs, batch_size, learning_rate, rng) for c in chosen
            ]
            samples = np.array([len(clients[c].train_y) for c in chosen], float)
            shares = samples / samples.sum()
            layers = [
                (
                    sum(s * update[k][0] for s, update in zip(shares, updates, strict=True)),
                    sum(s * update[k][1] for s, update in zip(shares, updates, strict=True)),
                )
                for k in range(len(layers))
            ]
        x = np.concatenate([client.test_x for client in clients]).reshape(-1, sizes[0])
        y = np.concatenate([client.test_y for client in clients])
        accuracies.append(float((_forward(layers, x)[-1].argmax(axis=1) == y).mean()))
    return accuracies


def _forward(layers: Layers, x: NDArray[np.floating]) -> list[NDArray[np.float64]]:
    activations = [x.astype(np.float64)]
    for k, (weights, bias) in enumerate(layers):
        z = activations[-1] @ weights + bias
        activations.append(z if k == len(layers) - 1 else np.maximum(z, 0))
    return activations


def _train(
    layers: Layers,
    client: ClientData,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    rng: np.random.Generator,
) -> Layers:
    layers = [(weights.copy(), bias.copy()) for weights, bias in layers]
    x = client.train_x.reshape(len(client.train_y), -1)
    for _ in range(epochs):
        order = rng.permutation(len(x))
        for start in range(0, len(x), batch_size):
            batch = order[start : start + batch_size]
            activations = _forward(layers, x[batch])
            p = np.exp(activations[-1] - activations[-1].max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            gradient = (p - np.eye(client.classes)[client.train_y[batch]]) / len(batch)
            for k in reversed(range(len(layers))):
                weights, bias = layers[k]
                below = (gradient @ weights.T) * (activations[k] > 0)
                layers[k] = (
                    weights - learning_rate * activations[k].T @ gradient,
                    bias - learning_rate * gradient.sum(axis=0),
                )
                gradient = below
    return layers
