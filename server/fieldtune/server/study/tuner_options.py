"""``[tuner]``: the sampler, early stopping, and how the budget is divided into phases."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from fieldtune.profiles.common.errors import did_you_mean
from fieldtune.server.study.section import Section

SAMPLERS = ("grey", "tpe", "nsga2", "gp", "random", "mo-asha", "fedex")
"""Built-in samplers by name."""

FEWEST_PREDICTED = 10
"""Completed trials, below which nothing is predicted: a result is taken as it was observed."""

Phase = Literal["explore", "refine", "tune", "validate"]
"""The purpose of a trial: to cover the whole space, to improve the Pareto front, to improve it near
known points, or to repeat a finalist with another seed."""


class Fedex(Section):
    """``tuner.fedex``: the clients of one training try several client configurations.

    The defaults of step size, schedule and discount are those of the authors' code. It has none
    for the other two; those were chosen on the benchmark's development seeds.
    """

    configurations: int = Field(default=4, ge=2, le=100)
    """Number of configurations that share one training."""
    radius: float = Field(default=1.0, gt=0, le=1)
    """How far they may be from the proposed one, as a share of each parameter's range; with 1
    they are drawn from the whole space."""
    schedule: Literal["aggressive", "adaptive", "decaying", "constant"] = "aggressive"
    """What the step size is divided by: the largest entry of the gradient (``aggressive``), the
    root of the sum of their squares over the rounds (``adaptive``), the root of the round number
    (``decaying``), or nothing (``constant``)."""
    step_size: float | None = Field(default=None, gt=0)
    """None: ``sqrt(2 ln k)`` for ``k`` configurations."""
    discount: float | None = Field(default=None, ge=0, le=1)
    """Weight of earlier rounds in the baseline that a client's error is compared with: 0 takes the
    latest round alone, 1 the mean of all. None: drawn at random for each trial."""


class TunerSection(Section):
    """``[tuner]``: sampler, early stopping and phases."""

    name: str = "grey"
    rungs: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    """Rounds after which a trial that is not among the best is stopped. None: see
    :attr:`fieldtune.server.study.config.StudyConfig.rungs`."""
    reduction: float = Field(default=3.0, gt=1, le=100)
    """Early stopping keeps the best ``1 / reduction`` of the trials at a rung."""
    phases: dict[Phase, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    """Phase -> its share of the budget; the rest is for ``refine``. Without ``explore``, the
    number of space-filling trials follows from the number of parameters."""

    fedex: Fedex | None = None
    """None: the defaults of :class:`Fedex`, where ``name`` is ``fedex``."""

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
        return self

    @model_validator(mode="after")
    def _goes_together(self) -> TunerSection:
        if self.name != "fedex":
            if self.fedex is not None:
                raise ValueError(
                    f"has options of fedex, which {self.name!r} does not know: set name = 'fedex', "
                    "or leave them out"
                )
        elif self.rungs:
            raise ValueError(
                "has rungs, which do not go with 'fedex': the configuration of a trial is only "
                "known at its end; leave them out, or choose 'mo-asha'"
            )
        elif self.phases.get("validate"):
            raise ValueError(
                "has the phase validate, which does not go with 'fedex': a finalist's weights come "
                "from several configurations, so running one again does not repeat it; leave it out"
            )
        return self

    @property
    def exploration(self) -> Fedex | None:
        """Options of FedEx; None where each trial trains with one client configuration."""
        return (self.fedex or Fedex()) if self.name == "fedex" else None

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in SAMPLERS and ":" not in name:
            raise ValueError(
                f"is {name!r}{did_you_mean(name, SAMPLERS)}; known are "
                f"{', '.join(SAMPLERS)}, or 'package.module:factory'"
            )
        return name
