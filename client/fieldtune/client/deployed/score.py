"""How well a model does on a device's own samples, and whether another one does worse.

Two models are compared on the same samples with the sign test: of the samples on which they differ,
how likely is it that so many speak against the new one if both were equally good (Dixon and Mood
1946; for right and wrong answers that is McNemar's exact test)?
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fieldtune.client.contract.deployment import Card
from fieldtune.client.data.client_data import ClientData
from fieldtune.client.training.measurement import latency
from fieldtune.client.training.runtime import Inference
from fieldtune.client.training.trainer import reconstruction_loss

_SURE = 0.05
"""Probability below which a difference is not taken for chance."""
MOST_SAMPLES = 2000
"""More are not tried: of these the error is known to two per cent."""


@dataclass(frozen=True)
class Score:
    """What a model did on some samples.

    Args:
        faults: float64 ``[n]``: of a classifier 1 for each wrong answer, else 0; of a model that
            reconstructs, the loss of each sample.
        inference_ms: median call after warm-up; None for too few samples.
        is_classifier: whether the faults are wrong answers.
    """

    faults: NDArray[np.float64]
    inference_ms: float | None
    is_classifier: bool

    @property
    def samples(self) -> int:
        """Number of samples."""
        return len(self.faults)

    @property
    def error(self) -> float | None:
        """Share of wrong answers; None for a model that reconstructs, or without samples."""
        return float(self.faults.mean()) if self.is_classifier and self.samples else None


def score(
    inference: Inference,
    card: Card,
    data: ClientData,
    on_call: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Score:
    """Try a model on the test part of a device's data, the first 2000 samples at most.

    Args:
        inference: the model, ``card`` describes it.
        card: likewise.
        data: of the device; its classes must be the model's.
        on_call: called after every call of the model.
        clock: seconds; only differences count.
    """
    faults, ends = [], [clock()]
    for x, y in zip(data.test_x[:MOST_SAMPLES], data.test_y[:MOST_SAMPLES], strict=True):
        output = inference.infer(x)
        ends.append(clock())
        on_call()
        if card.reconstructs:
            faults.append(reconstruction_loss(card.loss, output, x))
        else:
            faults.append(float(int(output.argmax()) != int(y)))
    calls = latency(ends)
    return Score(
        np.array(faults, np.float64), calls.median_ms if calls else None, not card.reconstructs
    )


def surely_worse(new: Score, old: Score) -> bool:
    """Whether the new model is worse than the old one on the same samples, beyond chance."""
    against = int((new.faults > old.faults).sum())
    differing = int((new.faults != old.faults).sum())
    return differing > 0 and _at_least(against, differing) < _SURE


def _at_least(heads: int, tosses: int) -> float:
    """Probability of so many heads or more of a fair coin."""
    ways = sum(math.comb(tosses, k) for k in range(heads, tosses + 1))
    return float(ways / 2**tosses)  # exact integers
