"""The type that every loader returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Dataset:
    """Samples before they are partitioned among clients.

    Args:
        x: float32 ``[n, ...]``, or uint8 ``[n, ...]`` whose 0..255 represent 0..1. May be a
            memory map, which is read when a client needs its samples.
        y: int32 ``[n]``, ``0..classes - 1``.
        owner: ``[n]``, the natural client of each sample, or None.
        group: int ``[n]``, samples of one owner that belong together (a take, a continuous part of
            a recording): a group is never split between training and test data, and an owner is
            split into several clients by groups. None if all samples are independent.
        test: bool ``[n]``, samples that the data set reserves for testing, or None.
        owner_is: singular noun for an owner, for messages.
        group_is: singular noun for a group, for messages.
        labels: names of the classes in the order of their numbers; empty where they have none.
    """

    x: NDArray[np.float32] | NDArray[np.uint8]
    y: NDArray[np.int32]
    owner: NDArray[Any] | None
    group: NDArray[np.int32] | None = None
    test: NDArray[np.bool_] | None = None
    owner_is: str = "owner"
    group_is: str = "order of its samples"
    labels: tuple[str, ...] = ()

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.y.max()) + 1

    def samples(self, index: NDArray[np.int_]) -> NDArray[np.float32]:
        """The samples at these indices as float32, in memory."""
        chosen = np.asarray(self.x[index])
        if chosen.dtype == np.uint8:
            return chosen.astype(np.float32) / np.float32(255)
        return chosen.astype(np.float32, copy=False)
