"""``[task] partition``: how samples are dealt out to simulated clients."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from fieldtune.server.study.section import Section

PartitionKind = Literal["natural", "iid", "dirichlet", "shards", "quantity"]


class Partition(Section):
    """How samples are dealt out to simulated clients."""

    kind: PartitionKind | None = None
    """None: natural where the data names owners, otherwise dirichlet."""
    alpha: float = Field(default=0.5, gt=0, le=1e6)
    """Concentration of the Dirichlet distribution of labels or of amounts: small is skewed."""
    shards: int = Field(default=2, ge=1)
    """Shards of a client, each of mostly one label."""
    test_share: float = Field(default=0.25, gt=0, lt=1)

    @model_validator(mode="after")
    def _used(self) -> Partition:
        for key, kinds in {"alpha": ("dirichlet", "quantity"), "shards": ("shards",)}.items():
            if key in self.model_fields_set and self.kind not in (*kinds, None):
                raise ValueError(
                    f"has {key}, which the kind {self.kind!r} does not use: leave {key} out, or "
                    f"choose the kind {' or '.join(kinds)}"
                )
        return self
