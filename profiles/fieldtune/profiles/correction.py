"""What a fleet reports corrects what its profile predicts.

The ratio of a device type's reported to its predicted figures is taken to be log-normal around an
unknown factor, and the factor itself log-normal around 1, as wide as the profile's own interval.
Its posterior mean in logarithms is then a shrinkage estimate (Gelman et al., "Bayesian Data
Analysis", 3rd edition, equation 2.12): no report leaves the catalogue's prediction as it is, one
moves it some way, many let the fleet speak for itself.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, isfinite, log, sqrt

from fieldtune.profiles.uncertain import Estimate

_Z90 = 1.645  # of a normal distribution: 90 % lie within so many standard deviations
# Scatter of single reports around a device type's own factor, as a standard deviation of
# logarithms: units, temperatures and what else runs differ. A prior worth one report; the reports'
# own scatter takes over.
_SCATTER = 0.3
# A profile without an interval claims more than anyone can know of a device type.
_LEAST_PRIOR = 0.02


@dataclass(frozen=True)
class Correction:
    """What to multiply predictions of one quantity on one device type by.

    ``factor`` with the ends of its 90 % interval; ``reports`` is how many it rests on.
    """

    factor: float
    low: float
    high: float
    reports: int

    def apply(self, predicted: Estimate) -> Estimate:
        """The corrected prediction; without reports the prediction itself.

        Its ends are the factor's, around the value that both agree on, and never lie outside of
        those that the profile's own interval would give after the shift.
        """
        if self.reports == 0:
            return predicted
        value = predicted.value * self.factor
        return Estimate(
            value,
            max(predicted.value * self.low, predicted.low * self.factor),
            min(predicted.value * self.high, predicted.high * self.factor),
        )


IDENTITY = Correction(1.0, 1.0, 1.0, 0)
"""The correction of a device type that has not reported."""


def correction(pairs: Iterable[tuple[Estimate, float]]) -> Correction:
    """The correction that a fleet's reports ask for.

    Args:
        pairs: what was predicted for a device of the type, and what it reported. Pairs that tell no
            ratio (a figure of 0, or not finite) are passed over.

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
    centre, deviation = mean * weight / precision, 1 / sqrt(precision)
    return Correction(
        factor=exp(centre),
        low=exp(centre - _Z90 * deviation),
        high=exp(centre + _Z90 * deviation),
        reports=count,
    )


def _scatter(ratios: Sequence[float], mean: float) -> float:
    squares = sum((ratio - mean) ** 2 for ratio in ratios)
    return sqrt((squares + _SCATTER**2) / len(ratios))


def _prior_deviation(predicted: Estimate) -> float:
    """Standard deviation of the logarithm, from a prediction's 90 % interval."""
    low = max(predicted.low, predicted.value * 1e-3)
    return max(log(predicted.high / low) / (2 * _Z90), _LEAST_PRIOR)


def _is_positive(number: float) -> bool:
    return isfinite(number) and number > 0
