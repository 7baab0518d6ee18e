"""What a study's data are, as the simulated fleet tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

PIXELS, LARGE = 255.0, 50.0
"""The largest value of a pixel; the size from which on samples are worth scaling."""


@dataclass(frozen=True)
class DataFacts:
    """A data set and its partition.

    Attributes:
        class_samples: number of samples of each class ``[classes]``.
        low: smallest value of all samples.
        high: largest value of all samples.
        partition: how the samples were distributed, in a few words.
        data_sha256: of samples, labels and owners.
        partition_sha256: of which sample went to which client.
    """

    class_samples: tuple[int, ...]
    low: float
    high: float
    partition: str
    data_sha256: str
    partition_sha256: str

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """From the frame of a worker."""
        return cls(**{**values, "class_samples": tuple(values["class_samples"])})

    @property
    def warning(self) -> str | None:
        """A sentence on samples that training will hardly cope with; None where they are fine."""
        if self.low == self.high:
            return (
                f"All values of the samples are {self.low:g}: there is nothing to learn from them"
            )
        if max(abs(self.low), abs(self.high)) < LARGE:
            return None
        remedy = "scale them, for example to mean 0 and standard deviation 1"
        if self.low >= 0 and self.high <= PIXELS:
            remedy = "divide pixels by 255"
        return (
            f"The samples go from {self.low:g} to {self.high:g}, and training on such large values "
            f"often diverges: {remedy}"
        )
