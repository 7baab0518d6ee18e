"""Recommendations and their alternatives, as ``pareto.json`` states them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class Against(_Model):
    """One objective of a recommendation beside the study's defaults."""

    objective: str
    value: float
    default: float
    better: bool


class GainOf(_Model):
    """How much better one objective of a point is than that of another, on one device type."""

    log: float
    """``ln(other / this)``, of a share to be maximised ``ln((1 - other) / (1 - this))``: 0.69 is
    half the error, the energy or the latency; below 0 this point is worse."""
    noise: float
    """A gain of up to this size, either way, may be none: what the model cannot tell of learned
    values, or the cost model of two configurations on one device."""
    counted: float
    """What is left of the gain given its noise, which is what is promised."""
    within_noise: bool


class Alternative(_Model):
    """Another point that a device type could use, and its price against the recommended one."""

    trial: int
    no_worse: float | None
    """Probability of being no worse than the defaults on what is learned; None without defaults."""
    gains: dict[str, GainOf]
    """Objective -> gain over the recommended point; below 0 this one is worse."""
    why_not: str
    """Why it is not recommended."""


class Standing(_Model):
    """A point that fits a device type, and what the decision makes of it.

    The recommended point is the one with the largest sum of ``counted`` times the objectives'
    weights, of those with ``no_worse`` of at least the confidence. What was run once is none of
    them, if another than the defaults was run twice. Where none has that, it is the best compromise
    of all, by shares of the range of each objective instead of ``counted``.
    """

    trial: int
    no_worse: float | None
    runs: int = 2
    """Trials of it; in files of versions that did not say, so many that it makes no difference."""
    is_defaults: bool = False
    counted: dict[str, float]
    """Objective -> what counts of its gain over the defaults; without defaults, those shares, and
    of dominated trials none."""
    unsure: dict[str, dict[str, float]] = {}
    """Objective -> what its value is unsure of: factor -> half of an interval, as a logarithm. All
    trials on the device type share these, except ``own``: two differ by less than the noise if
    their logarithms differ by less than the root of the sum of squares of the differences of
    factors and of both ``own``. Empty in files of versions that did not tell."""


class Recommendation(_Model):
    """The point to deploy on a device type."""

    trial: int
    """Of the front, or that of the defaults."""
    why: str
    against_defaults: list[Against]
    no_worse: float | None = None
    """Probability of being no worse than the defaults on what is learned; None without defaults."""
    gains: dict[str, GainOf] = {}
    """Objective -> gain over the defaults; empty without defaults."""
    alternatives: list[Alternative] = []
    """Up to five, the best first."""
    standings: list[Standing] = []
    """All points that fit the device type, the best first; by them other weights choose."""
    dominated: list[Standing] = []
    """The same for dominated trials, among which narrower limits choose too."""


class DecisionRule(_Model):
    """``[decision]`` of the study file, by which points were recommended."""

    weights: dict[str, float]
    """Of each objective."""
    devices: dict[str, dict[str, float]] = {}
    """Device type -> weights of its own, in the place of those."""
    tolerance: float
    confidence: float

    def weights_on(self, device: str) -> dict[str, float]:
        """The weight of each objective on a device type."""
        return {**self.weights, **self.devices.get(device, {})}
