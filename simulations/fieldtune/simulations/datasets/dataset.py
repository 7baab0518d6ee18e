"""What every loader returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Dataset:
    """Samples before they are dealt out.

    Args:
        x: float32 ``[n, ...]``, or uint8 ``[n, ...]`` whose 0..255 stand for 0..1. May be a memory
            map: it is read where a client needs its samples.
        y: int32 ``[n]``, ``0..classes - 1``.
        owner: ``[n]``, the natural client of each sample, or None.
        group: int ``[n]``, samples of one owner that belong together (a take, an uncut stretch of a
            recording): no group is on both sides of a client's train and test part, and an owner
            is split into several clients by groups. None where each sample stands alone.
        test: bool ``[n]``, what the data itself sets aside for testing, or None.
        owner_is: what an owner is, in the singular.
        group_is: what a group is, likewise.
    """

    x: NDArray[np.float32] | NDArray[np.uint8]
    y: NDArray[np.int32]
    owner: NDArray[Any] | None
    group: NDArray[np.int32] | None = None
    test: NDArray[np.bool_] | None = None
    owner_is: str = "natural client"
    group_is: str = "order of its samples"

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.y.max()) + 1

    def samples(self, index: NDArray[np.int_]) -> NDArray[np.float32]:
        """Some of ``x`` as float32, in memory."""
        chosen = np.asarray(self.x[index])
        if chosen.dtype == np.uint8:
            return chosen.astype(np.float32) / np.float32(255)
        return chosen.astype(np.float32, copy=False)
