"""``[decision]``: what the reader of a study wants from a recommendation."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fieldtune.server.study.section import Section

Weights = dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]]
"""Objective -> weight of its gain."""


class DeviceWeights(Section):
    """``[decision."raspberry-pi-5"]``: what counts on one device type."""

    weights: Weights = Field(default_factory=dict)
    """Objective -> weight there; the general one where left out."""


class DecisionSection(Section):
    """``[decision]``: weights of the objectives, and when a point counts as no worse.

    It may be changed at any time: it decides what is recommended and which trials are repeated, not
    what a trial is.
    """

    weights: Weights = Field(default_factory=dict)
    """Objective -> weight of its gain; 1 where left out."""
    tolerance: float = Field(default=0.01, ge=0, lt=1)
    """A learned objective that is worse than the defaults by no more than this share of it (for a
    share in 0..1 such as the accuracy: of its error) counts as no worse."""
    confidence: float = Field(default=0.9, ge=0.5, lt=1)
    """Probability of being no worse than the defaults that a recommended point must have."""
    devices: dict[str, DeviceWeights] = Field(default_factory=dict)
    """Device type -> what counts there."""

    def weight(self, objective: str) -> float:
        """The weight of an objective, where a device type has none of its own."""
        return self.weights.get(objective, 1.0)

    def for_device(self, profile: str) -> DecisionSection:
        """The options for one device type: its own weights, else the general ones."""
        own = self.devices.get(profile)
        weights = {**self.weights, **own.weights} if own else self.weights
        return self.model_copy(update={"weights": weights, "devices": {}})
