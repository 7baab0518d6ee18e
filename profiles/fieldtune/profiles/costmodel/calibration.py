"""Calibration: correcting a profile's predictions by the measurements that the fleet reports.

The ratio of reported to predicted values of a device type is modelled as log-normal around an
unknown factor, and the factor itself as log-normal around 1, as wide as the prediction's interval.
The posterior mean of its logarithm is then a shrinkage estimate (Gelman et al., "Bayesian Data
Analysis", 3rd edition, equation 2.12): without reports the prediction is unchanged, one report
moves it part of the way, and many reports dominate it. Reports that lie beyond the interval show
that it was too narrow: the prior is then as wide as they are far away (its width of greatest
likelihood, section 5.4), so that a device type whose catalogue figures are wrong is soon corrected.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import exp, isfinite, log, sqrt

from fieldtune.profiles.common.estimate import Z90, Estimate
from fieldtune.profiles.costmodel.cost import Cost

# Prior scatter of single reports around a device type's factor, as a standard deviation of
# logarithms: devices, temperatures and background load differ. It has the weight of one report, so
# with more reports their own scatter dominates.
_SCATTER = 0.3
# Lower bound, since a prediction with a zero-width interval would ignore all reports.
_MIN_PRIOR = 0.02
_ONE = 2**60


@dataclass(frozen=True)
class Correction:
    """The factor by which to multiply predictions of one quantity on one device type.

    ``low`` and ``high`` bound 90 % of the factors that single predictions would need; the interval
    narrows as reports agree. ``reports`` is the number of reports used, ``scatter`` the standard
    deviation of the logarithms of their ratios (0 for a single one, and for simulated ones).
    Simulated reports (``simulated``) carry no information about the error on a real device: they
    shift a prediction but do not narrow its interval.
    """

    factor: float
    low: float
    high: float
    reports: int
    simulated: bool = False
    scatter: float = 0.0

    def apply(self, predicted: Estimate) -> Estimate:
        """The corrected prediction; unchanged without reports.

        Its interval is that of the factor, but not wider than the prediction's own interval
        multiplied by the factor, unless reports show that to be wrong: by what they say, or by how
        much they scatter.
        """
        if self.reports == 0:
            return predicted
        moved = predicted * self.factor
        if self.simulated:
            return moved
        low, high = predicted.value * self.low, predicted.value * self.high
        if not predicted.low <= moved.value <= predicted.high:
            return moved.within(low, high)
        spread = exp(Z90 * self.scatter)
        return moved.within(
            max(low, min(moved.low, moved.value / spread)),
            min(high, max(moved.high, moved.value * spread)),
        )


IDENTITY = Correction(1.0, 1.0, 1.0, 0)
"""The correction of a device type that has not reported."""


@dataclass(frozen=True)
class Corrections:
    """The corrections of one device type."""

    training: Correction = IDENTITY
    """Time of a call of an artefact's ``train``; also applied to a round's time and energy."""
    inference: Correction = IDENTITY
    """Time of a forward pass."""
    memory: Correction = IDENTITY
    """Peak memory of the training process."""
    power: Correction = IDENTITY
    """Power of the device while it trains; also applied to energy."""


NO_CORRECTIONS = Corrections()
"""The corrections of a device type that has not reported."""


def corrected(cost: Cost, by: Corrections) -> Cost:
    """A predicted cost, corrected by the fleet's reports.

    For round time and energy only the part spent on computing is multiplied; their intervals keep
    their relative width.
    """
    factor, power = by.training.factor, by.training.factor * by.power.factor
    return replace(
        cost,
        inference_ms=by.inference.apply(cost.inference_ms),
        inference_mj=None
        if cost.inference_mj is None
        else by.power.apply(by.inference.apply(cost.inference_mj)),
        step_ms=by.training.apply(cost.step_ms),
        round_s=_with_part(cost.round_s, cost.training_s, factor),
        training_s=by.training.apply(cost.training_s),
        memory_mib=by.memory.apply(cost.memory_mib),
        energy_j=_with_part(cost.energy_j, cost.training_j, power),
        training_j=_with_part(cost.training_j, cost.training_j, power),
    )


def _with_part(whole: Estimate | None, part: Estimate | None, factor: float) -> Estimate | None:
    """A sum after one of its parts is multiplied by a factor."""
    if whole is None or part is None or factor == 1.0 or whole.value == 0:
        return whole
    value = whole.value + (factor - 1.0) * part.value
    return whole * (value / whole.value)


def correction(pairs: Iterable[tuple[Estimate, float]], *, simulated: bool = False) -> Correction:
    """Estimate the correction from a fleet's reports.

    Args:
        pairs: predicted and reported value of one quantity, one pair per report. Pairs without a
            usable ratio (a value that is 0 or not finite) are skipped.
        simulated: whether the reports come from simulated devices.

    Returns:
        posterior mean and 90 % interval of the factor; independent of the order of the pairs.
    """
    reports = Reports()
    for predicted, reported in pairs:
        reports.add(predicted, reported)
    return reports.correction(simulated=simulated)


class Reports:
    """What a fleet reported of one quantity; a report takes the same time however many there are.

    Sums are exact, since they are of whole numbers: of multiples of 2**-60. So the order of the
    reports does not matter.
    """

    def __init__(self) -> None:
        self._count = self._ratios = self._squares = self._deviations = 0

    def add(self, predicted: Estimate, reported: float) -> None:
        """Add a report, unless its value or the predicted one is 0 or not finite."""
        if _is_positive(predicted.value) and _is_positive(reported):
            ratio = int(log(reported / predicted.value) * _ONE)
            self._count += 1
            self._ratios += ratio
            self._squares += ratio * ratio
            self._deviations += int(_prior_deviation(predicted) * _ONE)

    def correction(self, *, simulated: bool = False) -> Correction:
        """The correction; see :func:`correction`."""
        count = self._count
        if not count:
            return IDENTITY
        mean = self._ratios / (count * _ONE)
        # The errors of one profile's predictions are correlated, so the prior is as wide as they
        # are.
        prior = self._deviations / (count * _ONE)
        squares = (count * self._squares - self._ratios**2) / (count * _ONE**2)
        scatter = sqrt((squares + _SCATTER**2) / count)
        weight = count / scatter**2
        prior = sqrt(max(prior**2, mean**2 - 1 / weight))
        precision = weight + 1 / prior**2
        # Posterior of the factor, and the scatter of a single report around it (Gelman et al.,
        # section 2.5: the variance of the posterior predictive distribution is the sum of both).
        centre, deviation = mean * weight / precision, sqrt(1 / precision + scatter**2)
        return Correction(
            factor=exp(centre),
            low=exp(centre - Z90 * deviation),
            high=exp(centre + Z90 * deviation),
            reports=count,
            simulated=simulated,
            scatter=0.0 if simulated or count == 1 else sqrt(squares / (count - 1)),
        )


def _prior_deviation(predicted: Estimate) -> float:
    """Standard deviation of the logarithm, from a prediction's 90 % interval."""
    low = max(predicted.low, predicted.value * 1e-3)
    return max(log(predicted.high / low) / (2 * Z90), _MIN_PRIOR)


def _is_positive(number: float) -> bool:
    return isfinite(number) and number > 0
