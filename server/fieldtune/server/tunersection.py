"""``[tuner]``: what proposes configurations, when a trial is stopped, what the budget is for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from fieldtune.profiles.errors import did_you_mean
from fieldtune.server.section import Section

SAMPLERS = ("grey", "tpe", "nsga2", "gp", "random", "mo-asha")
"""Optimizers that a study may name."""


Phase = Literal["explore", "refine", "tune", "validate"]
"""What a trial is for: to see the whole space, to improve on the front anywhere, close to it, or to
run a finalist again."""


class TunerSection(Section):
    """``[tuner]``: what proposes configurations."""

    name: str = "grey"
    rungs: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    """Rounds after which a trial that is not among the best is stopped. None: none, but for
    ``mo-asha`` at a ninth and a third of the rounds."""
    reduction: float = Field(default=3.0, gt=1, le=100)
    """One in so many goes on from a rung."""
    phases: dict[Phase, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    """Phase -> its share of the budget; what the others leave is for ``refine``. Without
    ``explore``, as many trials are spread evenly as the number of parameters asks for."""

    @field_validator("rungs")
    @classmethod
    def _ascending(cls, rungs: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if rungs and list(rungs) != sorted(set(rungs)):
            raise ValueError(f"is {list(rungs)}: list each round once, in ascending order")
        return rungs

    @model_validator(mode="after")
    def _used(self) -> TunerSection:
        total = sum(self.phases.values())
        if total > 1 + 1e-6 or ("refine" in self.phases and total < 1 - 1e-6):
            raise ValueError(
                f"has phases that take {total:g} of the budget: shares must sum to 1, or leave "
                "refine out, which takes what the others leave"
            )
        for phase in ("explore", "tune"):
            if self.phases.get(phase) and self.name != "grey":
                raise ValueError(
                    f"has the phase {phase}, which {self.name!r} does not know: choose 'grey', or "
                    "set validate alone"
                )
        if "reduction" in self.model_fields_set and not self.rungs and self.name != "mo-asha":
            raise ValueError("has a reduction, but no rungs at which it would hold: set rungs too")
        return self

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in SAMPLERS and ":" not in name:
            raise ValueError(
                f"is {name!r}{did_you_mean(name, SAMPLERS)}; known are "
                f"{', '.join(SAMPLERS)}, or 'package.module:factory'"
            )
        return name
