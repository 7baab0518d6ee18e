"""``[task] partition``: how a dataset is split among simulated clients."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from fieldtune.server.study.section import Section

PartitionKind = Literal["natural", "iid", "dirichlet", "shards", "quantity"]


class PartitionSection(Section):
    """How a dataset is split among simulated clients."""

    kind: PartitionKind | None = None
    """None: ``natural`` where the dataset names the owner of each sample, else ``dirichlet``."""
    alpha: float = Field(default=0.5, gt=0, le=1e6)
    """Concentration of the Dirichlet distribution of labels (``dirichlet``) or of sample counts
    (``quantity``): the smaller, the more clients differ."""
    shards: int = Field(default=2, ge=1)
    """Shards per client, each of mostly one label."""
    test_share: float = Field(default=0.25, gt=0, lt=1)

    @model_validator(mode="after")
    def _used(self) -> PartitionSection:
        for key, kinds in {"alpha": ("dirichlet", "quantity"), "shards": ("shards",)}.items():
            if key in self.model_fields_set and self.kind not in (*kinds, None):
                raise ValueError(
                    f"has {key}, which the kind {self.kind!r} does not use: leave {key} out, or "
                    f"choose the kind {' or '.join(kinds)}"
                )
        return self
