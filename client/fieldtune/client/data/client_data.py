"""A client's data: arrays that never leave the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.profiles.common.errors import DataError


@dataclass(frozen=True)
class Scaling:
    """How a raw value becomes what a model is trained on: ``(value - offset) / scale``."""

    offset: float = 0.0
    scale: float = 1.0

    def apply(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Raw values of any shape, scaled; as they are where there is nothing to do."""
        found = np.asarray(values, np.float32)
        if self.offset:
            found = found - np.float32(self.offset)
        return found / np.float32(self.scale) if self.scale != 1 else found


PIXELS = Scaling(0.0, 255.0)
"""Of images, whose pixels are 0..255."""


@dataclass(frozen=True)
class ClientData:
    """Training and test data of one client.

    Args:
        train_x: float32 ``[n, *input_shape]``; ``test_x`` likewise.
        train_y: int32 ``[n]`` in ``0..classes - 1``; ``test_y`` likewise.
        classes: number of classes in the whole task, not on this client.
        labels: names of the classes in the order of their numbers; empty where none are given.
        scaling: that was applied to the raw samples.

    Raises:
        DataError: a shape, dtype or label is invalid.
    """

    train_x: NDArray[np.float32]
    train_y: NDArray[np.int32]
    test_x: NDArray[np.float32]
    test_y: NDArray[np.int32]
    classes: int
    labels: tuple[str, ...] = ()
    scaling: Scaling = Scaling()

    def __post_init__(self) -> None:
        if len(self.train_y) == 0:
            raise DataError("the client has no training samples: give it at least one")
        for part, x, y in (
            ("train", self.train_x, self.train_y),
            ("test", self.test_x, self.test_y),
        ):
            if x.dtype != np.float32 or y.dtype != np.int32:
                raise DataError(f"{part}: x is {x.dtype} and y is {y.dtype}, not float32 and int32")
            if len(x) != len(y) or x.shape[1:] != self.train_x.shape[1:]:
                raise DataError(f"{part}: x of shape {x.shape} does not match y of shape {y.shape}")
            if len(y) and not 0 <= int(y.min()) <= int(y.max()) < self.classes:
                raise DataError(
                    f"{part}: labels from {y.min()} to {y.max()} in a task of {self.classes} "
                    f"classes: they must be 0..{self.classes - 1}"
                )
            if not np.isfinite(x).all():
                raise DataError(f"{part}: x holds values that are not finite")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.train_x.shape[1:])


DataSource = Callable[[Mapping[str, object]], ClientData]
"""Function from a node's configuration (Flower's ``node_config``) to its data."""
