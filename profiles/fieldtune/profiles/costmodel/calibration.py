"""What a fleet reports corrects what its profile predicts.

The ratio of a device type's reported to its predicted figures is taken to be log-normal around an
unknown factor, and the factor itself log-normal around 1, as wide as the profile's own interval.
Its posterior mean in logarithms is then a shrinkage estimate (Gelman et al., "Bayesian Data
Analysis", 3rd edition, equation 2.12): no report leaves the catalogue's prediction as it is, one
moves it some way, many let the fleet speak for itself.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import exp, isfinite, log, sqrt

from fieldtune.profiles.common.estimate import Z90, Estimate
from fieldtune.profiles.costmodel.cost import Cost

# Scatter of single reports around a device type's own factor, as a standard deviation of
# logarithms: units, temperatures and what else runs differ. A prior worth one report; the reports'
# own scatter takes over.
_SCATTER = 0.3
# A profile without an interval claims more than anyone can know of a device type.
_LEAST_PRIOR = 0.02


@dataclass(frozen=True)
class Correction:
    """What to multiply predictions of one quantity on one device type by.

    ``low`` and ``high`` hold nine in ten of the factors that single predictions would need; they
    come nearer as reports agree. ``reports`` is how many it rests on. ``simulated`` ones say
    nothing of how far off a real device may be: they move a prediction and leave its interval as
    wide.
    """

    factor: float
    low: float
    high: float
    reports: int
    simulated: bool = False

    def apply(self, predicted: Estimate) -> Estimate:
        """The corrected prediction; without reports the prediction itself.

        Its ends are the factor's, around the value that both agree on, and never lie outside of
        those that the profile's own interval would give after the shift.
        """
        if self.reports == 0:
            return predicted
        value, low, high = (
            end * self.factor for end in (predicted.value, predicted.low, predicted.high)
        )
        if self.simulated:
            return Estimate(value, low, high)
        return Estimate(
            value, max(predicted.value * self.low, low), min(predicted.value * self.high, high)
        )


IDENTITY = Correction(1.0, 1.0, 1.0, 0)
"""The correction of a device type that has not reported."""


@dataclass(frozen=True)
class Corrections:
    """The corrections of one device type."""

    training: Correction = IDENTITY
    """Of a call of an artefact's ``train``, and through it of a round's time and energy."""
    inference: Correction = IDENTITY
    """Of a forward pass."""
    memory: Correction = IDENTITY
    """Of the training process's peak."""
    power: Correction = IDENTITY
    """Of the device's power while it trains, and through it of energy."""


NONE = Corrections()
"""Those of a device type that has not reported."""


def corrected(cost: Cost, by: Corrections) -> Cost:
    """A cost as the catalogue predicts it, with what a fleet reported taken into account.

    Of a round and of energy only the part that is computing is multiplied; their intervals keep
    their width in proportion.
    """
    factor, power = by.training.factor, by.training.factor * by.power.factor
    return replace(
        cost,
        inference_ms=by.inference.apply(cost.inference_ms),
        step_ms=by.training.apply(cost.step_ms),
        round_s=_with_part(cost.round_s, cost.training_s, factor),
        training_s=by.training.apply(cost.training_s),
        memory_mib=by.memory.apply(cost.memory_mib),
        energy_j=_with_part(cost.energy_j, cost.training_j, power),
        training_j=_with_part(cost.training_j, cost.training_j, power),
    )


def _with_part(whole: Estimate | None, part: Estimate | None, factor: float) -> Estimate | None:
    """A sum of which one part is multiplied by a factor."""
    if whole is None or part is None or factor == 1.0 or whole.value == 0:
        return whole
    value = whole.value + (factor - 1.0) * part.value
    scale = value / whole.value
    return Estimate(value, whole.low * scale, whole.high * scale)


def correction(pairs: Iterable[tuple[Estimate, float]], *, simulated: bool = False) -> Correction:
    """The correction that a fleet's reports ask for.

    Args:
        pairs: what was predicted for a device of the type, and what it reported. Pairs that tell no
            ratio (a figure of 0, or not finite) are passed over.
        simulated: whether simulated devices reported them.

    Returns:
        the posterior mean and 90 % interval of the factor; the order of the pairs does not matter.
    """
    usable = sorted(
        (log(reported / predicted.value), _prior_deviation(predicted))
        for predicted, reported in pairs
        if _is_positive(predicted.value) and _is_positive(reported)
    )
    if not usable:
        return IDENTITY
    ratios = [ratio for ratio, _ in usable]
    count = len(ratios)
    mean = sum(ratios) / count
    # The predictions of one profile are off together: their common width is the prior's.
    prior = sum(deviation for _, deviation in usable) / count
    scatter = _scatter(ratios, mean)
    weight = count / scatter**2
    precision = weight + 1 / prior**2
    # Posterior of the factor, and what a single prediction scatters around it (Gelman et al.,
    # section 2.5: a posterior predictive distribution adds up both variances).
    centre, deviation = mean * weight / precision, sqrt(1 / precision + scatter**2)
    return Correction(
        factor=exp(centre),
        low=exp(centre - Z90 * deviation),
        high=exp(centre + Z90 * deviation),
        reports=count,
        simulated=simulated,
    )


def _scatter(ratios: Sequence[float], mean: float) -> float:
    squares = sum((ratio - mean) ** 2 for ratio in ratios)
    return sqrt((squares + _SCATTER**2) / len(ratios))


def _prior_deviation(predicted: Estimate) -> float:
    """Standard deviation of the logarithm, from a prediction's 90 % interval."""
    low = max(predicted.low, predicted.value * 1e-3)
    return max(log(predicted.high / low) / (2 * Z90), _LEAST_PRIOR)


def _is_positive(number: float) -> bool:
    return isfinite(number) and number > 0
