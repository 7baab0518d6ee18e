"""The batches and hyperparameters with which artefacts are verified."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.server.compiler.manifest import CompileOptions
from fieldtune.server.compiler.training import Layout

PROBE_VALUES: Mapping[str, float] = {
    "learning_rate": 0.05,
    "momentum": 0.9,
    "beta_1": 0.8,
    "beta_2": 0.9,
    # Larger than a study would choose: with Adam's usual 1e-7 a gradient of pure rounding noise is
    # scaled up to a full step.
    "epsilon": 1e-2,
    "rho": 0.8,
    "weight_decay": 0.02,
    "clip_norm": 0.5,
    "proximal": 0.3,
    "seed": 7.0,
}
"""Hyperparameters with which every part of an optimizer affects the result."""


@dataclass(frozen=True)
class Batch:
    """The input of one call of ``train``."""

    x: NDArray[np.float32]
    y: NDArray[Any]
    weight: NDArray[np.float32]
    apply: bool


def batches(layout: Layout, options: CompileOptions, attempt: int) -> list[Batch]:
    """The calls of five steps: full, accumulated and short batches.

    A short batch is padded as the client does it: with a real sample, at weight 0.
    """
    rng = np.random.default_rng([options.seed, attempt])
    size = options.micro_batch
    short = max(size // 2, 1)
    # Per step: the real samples of each of its micro-batches.
    steps = [[size, size], [size], [size, short], [short], [size]]
    calls = []
    for counts in steps:
        for number, count in enumerate(counts):
            x, y = samples(rng, layout, options)
            weight = np.zeros(size, np.float32)
            weight[:count] = 1.0 / sum(counts)
            x[count:] = x[0]
            calls.append(Batch(x, y, weight, number == len(counts) - 1))
    return calls


def samples(
    rng: np.random.Generator, layout: Layout, options: CompileOptions
) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Random inputs and targets of one micro-batch that suit the model and the loss."""
    model = layout.model
    shape = (options.micro_batch, *model.inputs[0].shape[1:])
    output = (options.micro_batch, *model.outputs[0].shape[1:])
    x = rng.normal(size=shape).astype(np.float32)
    vocabulary = [v.shape[0] for v in layout.variables if v.path.endswith("embeddings")]
    if vocabulary:
        x = rng.integers(0, min(vocabulary), shape).astype(np.float32)
    if options.loss == "sparse_categorical_crossentropy":
        return x, rng.integers(0, output[-1], output[:-1]).astype(np.int32)
    return x, rng.normal(size=output).astype(np.float32)
