"""Models of single objectives: exact where a formula holds, else a distribution.

An objective without a formula is modelled by a Gaussian process. One whose measurements deviate
from its formula is modelled by how it deviates, so that the formula still says most of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from fieldtune.server.bo.ehvi import Shortfall
from fieldtune.server.bo.gp import GaussianProcess, Hyperparameters, fit
from fieldtune.server.bo.transforms import Transform, shortfall

Array = NDArray[np.float64]
Expectation = Callable[[Array], Array]
"""Places ``[n, p]`` -> expected values ``[n]`` on the line on which an objective is modelled."""

_EXACT = 1e-6
"""A formula that never deviates by more than this share of its value is treated as exact."""

_FITTED = 128
"""Observations, at most, from which hyperparameters are fitted."""

_BAD_QUANTILE = 0.8
"""A configuration that failed is taken to be as bad as this quantile of what was measured."""


@dataclass(frozen=True)
class ModelInputs:
    """Configurations as the models read them.

    Attributes:
        x: columns ``[n, d]``.
        formulas: values of known objectives ``[n, m]``; NaN where there is none.
        units: their places ``[n, p]``.
    """

    x: Array
    formulas: Array
    units: Array


class ObjectiveModel:
    """The model of one objective.

    Args:
        index: of the objective.
        scale: on which it is modelled; of deviations, where the formula is off.
        deviates: whether the process models the deviation from a formula.
        expectation: what earlier studies predict, from which the process models the deviation.
        process: given the observations; None where the formula is exact.
    """

    def __init__(
        self,
        index: int,
        scale: Transform | None = None,
        process: GaussianProcess | None = None,
        *,
        deviates: bool = False,
        positive: bool = False,
        expectation: Expectation | None = None,
    ) -> None:
        self._index, self._scale, self._process = index, scale, process
        self._expectation = expectation
        self._deviates = deviates
        self._outer = Transform("log" if positive else "linear")

    @property
    def exact(self) -> bool:
        """Whether it is a formula without deviations."""
        return self._process is None

    @property
    def known(self) -> bool:
        """Whether there is a formula, exact or with deviations."""
        return self.exact or self._deviates

    @property
    def unexplained(self) -> float:
        """The share of what was observed that the model does not explain; 0 of a formula."""
        return self._process.unexplained if self._process else 0.0

    def line(self, inputs: ModelInputs) -> tuple[Array, Array, Transform]:
        """Mean and standard deviation ``[n]`` on a line, and the scale that leads there."""
        assert self._process is not None
        assert self._scale is not None
        mean, deviation = self._process.predict(inputs.x)
        mean, scale = self._placed(mean, inputs)
        return mean, deviation * self._scale.deviation if self._deviates else deviation, scale

    def values(self, inputs: ModelInputs) -> Array:
        """The value ``[n]``: the formula's, or the median of the model."""
        if self._process is None:
            return inputs.formulas[:, self._index]
        mean, scale = self._placed(self._process.mean(inputs.x), inputs)
        return scale.backward(mean)

    def _placed(self, mean: Array, inputs: ModelInputs) -> tuple[Array, Transform]:
        """The process's mean with what it is a deviation from, and the scale that leads there."""
        assert self._scale is not None
        if self._expectation is not None:
            mean = mean + self._expectation(inputs.units)
        if not self._deviates:
            return mean, self._scale
        formula = self._outer.forward(inputs.formulas[:, self._index])
        return formula + mean * self._scale.deviation + self._scale.mean, self._outer

    def shortfall(self, inputs: ModelInputs) -> Shortfall:
        """How far each configuration's objective falls below levels, in expectation."""
        if self._process is None:
            known = inputs.formulas[:, self._index, None]
            return lambda levels: np.maximum(levels - known, 0.0)
        mean, deviation, scale = self.line(inputs)
        return lambda levels: shortfall(levels, mean, deviation, scale)


@dataclass(frozen=True)
class Prediction:
    """What a model predicts of an objective of some configurations, without a result's noise.

    Attributes:
        mean, deviation: of a normal distribution on the line on which it is modelled ``[n]``.
        scale: from the objective, to be minimised, to that line.
    """

    mean: Array
    deviation: Array
    scale: Transform

    def at(self, z: Array | float, further: Array | float = 0.0) -> Array:
        """Values ``[n]`` so many standard deviations from the median, to be minimised.

        Args:
            z: standard deviations, one or each configuration's ``[n]``; 0 is the median.
            further: standard deviation of what else is uncertain, on the line ``[n]``.
        """
        return self.scale.backward(self.mean + z * np.hypot(self.deviation, further))


@dataclass(frozen=True)
class Observations:
    """Observations of one quantity.

    Attributes:
        x: columns ``[n, d]``.
        y: values ``[n]``.
        failed: columns ``[f, d]`` of configurations that failed.
        pending: columns ``[q, d]`` of configurations in flight.
        groups: index ``[d]`` of the length scale of each column.
        names: of the groups.
        expected: what is expected on the line ``[n]``, and of what failed ``[f]``; by default 0.
    """

    x: Array
    y: Array
    failed: Array
    pending: Array
    groups: Sequence[int]
    names: Sequence[str]
    expected: tuple[Array, Array] | None = None


KernelParameters = Mapping[str, float]
"""Logarithms of hyperparameters by the names of the groups, with ``:signal`` and ``:noise``."""


def model(
    observed: Observations,
    scale: Transform,
    kernel: KernelParameters | None,
    *,
    refit: bool,
    thorough: bool = True,
) -> tuple[GaussianProcess, KernelParameters]:
    """The process given observations, less what was expected of them; and its hyperparameters.

    Trials in flight are taken to come out as expected (posterior-mean fantasies), so that the next
    proposal goes where they teach nothing.

    Args:
        observed: the observations.
        scale: on which they are modelled.
        kernel: hyperparameters found earlier; None if none were.
        refit: whether to improve on them.
        thorough: with more observations, and from the prior as well.
    """
    told = scale.forward(observed.y)
    expected, expected_failed = observed.expected or (
        np.zeros(len(told)),
        np.zeros(len(observed.failed)),
    )
    line = told - expected
    x, groups = observed.x, observed.groups
    start = _from_parameters(kernel, observed.names)
    if refit and len(line) >= 2:
        some = _spread(len(line), _FITTED if thorough else _FITTED // 2)
        cold = Hyperparameters.prior(len(observed.names))
        rough = Hyperparameters(np.zeros(len(observed.names)), 0.0, -3.0)
        # From the prior again, too: what was found with fewer trials may be a poor local optimum.
        starts = [cold, rough] if kernel is None else [start, cold][: 1 + thorough]
        start = fit(x[some], line[some], groups, starts, 40 if kernel is None else 15)
    if len(observed.failed):
        bad = np.quantile(told, _BAD_QUANTILE) if len(told) else 1.0
        x = np.concatenate([x, observed.failed])
        line = np.concatenate([line, bad - expected_failed])
    process = GaussianProcess(x, line, groups, start)
    if len(observed.pending):
        fantasies = process.mean(observed.pending)
        process = GaussianProcess(
            np.concatenate([x, observed.pending]), np.concatenate([line, fantasies]), groups, start
        )
    return process, _to_parameters(start, observed.names)


def formula_is_exact(told: Array, formula: Array) -> bool:
    """Whether measurements ``[n]`` agree with a formula."""
    return bool((np.abs(told - formula) <= _EXACT * np.maximum(np.abs(formula), 1e-12)).all())


def probably_feasible(mean: Array, deviation: Array, scale: Transform) -> Array:
    """Probability ``[c]`` that a learned constraint holds."""
    zero = float(scale.forward(np.zeros(1))[0])
    return np.asarray(ndtr((zero - mean) / deviation))


def _spread(count: int, most: int) -> NDArray[np.intp]:
    """Evenly spaced indices, at most so many."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.intp))


def _from_parameters(kernel: KernelParameters | None, names: Sequence[str]) -> Hyperparameters:
    prior = Hyperparameters.prior(len(names))
    if kernel is None:
        return prior
    lengths = [
        kernel.get(name, default) for name, default in zip(names, prior.lengths, strict=True)
    ]
    return Hyperparameters(
        np.array(lengths, dtype=float),
        kernel.get(":signal", prior.signal),
        kernel.get(":noise", prior.noise),
    )


def _to_parameters(found: Hyperparameters, names: Sequence[str]) -> KernelParameters:
    return {
        **dict(zip(names, found.lengths.tolist(), strict=True)),
        ":signal": found.signal,
        ":noise": found.noise,
    }
