"""An epoch over a client's training samples, as calls of the artefact."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fieldtune.client.data.client_data import ClientData
from fieldtune.client.training.runtime import Session

_GATHERED_BYTES = 2**20
"""Samples that are put in the order of an epoch at a time."""
_FEW_SAMPLES = 4096
_PADDING = np.zeros(1, np.intp)


@dataclass(frozen=True)
class EpochCalls:
    """The calls of the model in an epoch: epochs differ only in the order of the samples.

    A batch is cut into micro-batches, and the last of them is padded with sample 0 at weight 0.
    """

    positions: NDArray[np.intp]
    """``[calls, micro_batch]``: places in the order of the samples; the one past it is padding."""
    inputs: list[tuple[NDArray[np.float32] | None, bool | None, int]]
    """Of each call, weights of the samples and ``apply`` as :meth:`Session.train_step` takes them,
    None where they are those of the call before; and the size of its batch."""

    def rows(self, order: NDArray[np.int_]) -> NDArray[np.intp]:
        """``[calls, micro_batch]``: the samples of each call, for samples in this order."""
        return np.concatenate((order, _PADDING))[self.positions]


def calls_of(session: Session, data: ClientData, batch_size: int) -> EpochCalls:
    """The calls of an epoch over a client's training samples."""
    samples = len(data.train_y)
    calls = _kept_calls if samples <= _FEW_SAMPLES else _calls
    return calls(samples, batch_size, session.micro_batch)


def run_epoch(
    session: Session, data: ClientData, calls: EpochCalls, order: NDArray[np.int_]
) -> Iterator[tuple[int, bool]]:
    """Make the calls of an epoch; after each, its batch's size, and whether a step was taken."""
    targets = data.train_x if session.reconstructs else data.train_y
    at_once = max(_GATHERED_BYTES // (session.micro_batch * data.train_x[0].nbytes), 1)
    rows, applied = calls.rows(order), True
    for first in range(0, len(rows), at_once):
        some = rows[first : first + at_once]
        inputs = calls.inputs[first : first + at_once]
        for x, y, (weight, apply, size) in zip(
            data.train_x.take(some, axis=0), targets.take(some, axis=0), inputs, strict=True
        ):
            session.train_step(x, y, weight, apply=apply)
            applied = applied if apply is None else apply
            yield size, applied


def _calls(samples: int, batch_size: int, micro_batch: int) -> EpochCalls:
    """The calls of an epoch over so many samples."""
    positions, calls = [], list[tuple[NDArray[np.float32], bool, int]]()
    full, rest = divmod(samples, batch_size)
    for batches, size, first in (
        (full, batch_size, 0),
        (min(rest, 1), rest, full * batch_size),
    ):
        if batches:
            each = -(-size // micro_batch)
            places = np.full((batches, each * micro_batch), samples)
            places[:, :size] = np.arange(first, first + batches * size).reshape(batches, size)
            positions.append(places.reshape(-1, micro_batch))
            weight = np.zeros((each, micro_batch), np.float32)
            weight.reshape(-1)[:size] = np.float32(1) / np.float32(size)
            whole = [(weight[0], False, size)] * (each - 1)
            calls += [*whole, (weight[-1], True, size)] * batches
    inputs: list[tuple[NDArray[np.float32] | None, bool | None, int]] = [*calls[:1]]
    for before, (weights, apply, size) in pairwise(calls):
        inputs.append(
            (
                None if weights is before[0] else weights,
                None if apply == before[1] else apply,
                size,
            )
        )
    return EpochCalls(np.concatenate(positions), inputs)


_kept_calls = lru_cache(maxsize=64)(_calls)
"""For few samples: the next client often has as many."""
