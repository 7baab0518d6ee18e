"""A Gaussian process: Matérn 5/2, a length scale per parameter, noise; hyperparameters by MAP.

Rasmussen and Williams 2006, "Gaussian Processes for Machine Learning": equations 2.25 and 2.26
(prediction), 4.17 (kernel), 5.9 (gradient of the likelihood). The prior of the length scales grows
with the root of the dimension, as that of Hvarfner et al. 2024, "Vanilla Bayesian optimization
performs great in high dimensions", section 4, from a third of theirs: with ten observations, theirs
leaves a learning rate's effect a straight line, which leads to the ends of its range.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve
from scipy.linalg.blas import dtrmm
from scipy.linalg.lapack import dpotrf, dpotri, dtrtri

Array = NDArray[np.float64]

# Priors, as mean and standard deviation of logarithms: of the signal's variance and the noise's,
# where the observations have variance 1, and of a length scale where there is one parameter.
_SIGNAL = (0.0, 0.7)
_NOISE = (-4.0, 2.0)
_LENGTH, _LENGTH_DEVIATION = math.log(0.45), 1.0
_BOUNDS = (-4.0, 6.0), (-4.0, 4.0), (-12.0, 1.0)  # lengths, signal, noise
_JITTER = 1e-6


@dataclass(frozen=True)
class Hyperparameters:
    """Logarithms of the length scale of each group of columns, of signal and noise variance."""

    lengths: Array
    signal: float
    noise: float

    @classmethod
    def prior(cls, groups: int) -> Hyperparameters:
        """Where fitting starts: the mode of the prior."""
        return cls(np.full(groups, _length_mean(groups)), _SIGNAL[0], _NOISE[0])

    def vector(self) -> Array:
        """All of them, ``[groups + 2]``."""
        return np.concatenate([self.lengths, [self.signal, self.noise]])

    @classmethod
    def of(cls, vector: Array) -> Hyperparameters:
        """From :meth:`vector`."""
        return cls(np.array(vector[:-2]), float(vector[-2]), float(vector[-1]))


def _length_mean(groups: int) -> float:
    return _LENGTH + 0.5 * math.log(max(groups, 1))


def fit(
    x: Array, y: Array, groups: Sequence[int], starts: Sequence[Hyperparameters], iterations: int
) -> Hyperparameters:
    """The hyperparameters that are likeliest a posteriori.

    Args:
        x: columns ``[n, d]``.
        y: observations ``[n]``, mean 0, variance 1.
        groups: index ``[d]`` of the length scale of each column.
        starts: where L-BFGS starts; the best end is taken.
        iterations: at most, from each start.
    """
    from scipy.optimize import minimize  # slow to import

    count = len(starts[0].lengths)
    pairs = _Pairs.of(x, groups, count)
    bounds = [_BOUNDS[0]] * count + [_BOUNDS[1], _BOUNDS[2]]
    best, least = starts[0], math.inf
    for start in starts:
        found = minimize(
            _negative_log_posterior, start.vector(), args=(pairs, y), jac=True,
            method="L-BFGS-B", bounds=bounds, options={"maxiter": iterations, "ftol": 1e-5},
        )  # fmt: skip
        if found.fun < least:
            best, least = Hyperparameters.of(found.x), float(found.fun)
    return best


@dataclass(frozen=True)
class _Pairs:
    """All pairs of observations, each once.

    Attributes:
        squares: squared distances by group of columns ``[g, n (n - 1) / 2]``.
        first, second: indices of the two, the first one being larger.
    """

    squares: Array
    first: NDArray[np.intp]
    second: NDArray[np.intp]

    @classmethod
    def of(cls, x: Array, groups: Sequence[int], count: int) -> _Pairs:
        """All pairs of rows of ``x`` ``[n, d]``, by the group of each column, of so many groups."""
        first, second = np.tril_indices(len(x), -1)
        squares = np.zeros((count, len(first)))
        for column, group in enumerate(groups):
            squares[group] += (x[first, column] - x[second, column]) ** 2
        return cls(squares, first, second)


def _negative_log_posterior(vector: Array, pairs: _Pairs, y: Array) -> tuple[float, Array]:
    squares, count, n = pairs.squares, len(pairs.squares), len(y)
    weights = np.exp(-2 * vector[:count])
    signal, noise = math.exp(vector[-2]), math.exp(vector[-1])
    distance = np.sqrt(5 * (weights @ squares))
    decay = np.exp(-distance)
    slope = signal * (1 + distance) * decay
    kernel = slope + signal / 3 * distance**2 * decay
    matrix = np.zeros((n, n), order="F")
    matrix[pairs.first, pairs.second] = kernel
    np.fill_diagonal(matrix, signal + noise + _JITTER)
    factor, failed = dpotrf(matrix, lower=1, overwrite_a=1)
    if failed:
        return 1e10, np.zeros_like(vector)
    solved = cho_solve((factor, True), y, check_finite=False)
    value = 0.5 * float(y @ solved) + float(np.log(np.diag(factor)).sum())
    inverse, _ = dpotri(factor, lower=1, overwrite_c=1)
    outer = solved[pairs.first] * solved[pairs.second] - inverse[pairs.first, pairs.second]
    trace = float(solved @ solved) - float(np.trace(inverse))
    gradient = np.empty_like(vector)
    # d kernel / d (squared scaled distance) = -5/6 signal (1 + distance) decay; each pair twice.
    gradient[:count] = -(5 / 3) * weights * (squares @ (outer * slope))
    gradient[-2] = -float(outer @ kernel) - 0.5 * signal * trace
    gradient[-1] = -0.5 * noise * trace
    centres = np.concatenate([np.full(count, _length_mean(count)), [_SIGNAL[0], _NOISE[0]]])
    widths = np.concatenate([np.full(count, _LENGTH_DEVIATION), [_SIGNAL[1], _NOISE[1]]])
    off = (vector - centres) / widths
    return value + 0.5 * float(off @ off), gradient + off / widths


class GaussianProcess:
    """The process given observations.

    Args:
        x: columns ``[n, d]``; n may be 0.
        y: observations ``[n]``.
        groups: index ``[d]`` of the length scale of each column.
        hyperparameters: of the kernel.
    """

    def __init__(
        self, x: Array, y: Array, groups: Sequence[int], hyperparameters: Hyperparameters
    ) -> None:
        self._signal = math.exp(hyperparameters.signal)
        self.noise = math.exp(hyperparameters.noise)
        self._weights = np.exp(-hyperparameters.lengths[list(groups)])
        self._x = x * self._weights
        kernel = self._kernel(self._x, self._x)
        factor = np.eye(len(x))
        for power in range(8):  # nearly equal points and little noise need more of it
            with contextlib.suppress(np.linalg.LinAlgError):
                jitter = self.noise + _JITTER * 10.0**power
                matrix = kernel + jitter * np.eye(len(x))
                factor = np.asarray(np.linalg.cholesky(matrix), float)
                break
        self._solved = cho_solve((factor, True), y, check_finite=False) if len(y) else np.zeros(0)
        # The inverse of the lower factor: a product with it is faster than solving with the factor.
        self._inverse: Array = dtrtri(factor, lower=1)[0] if len(y) else factor

    def predict(self, x: Array) -> tuple[Array, Array]:
        """Mean and standard deviation ``[c]``, without noise, at columns ``[c, d]``."""
        if not len(self._x) or not len(x):
            return np.zeros(len(x)), np.full(len(x), math.sqrt(self._signal))
        across = self._kernel(x * self._weights, self._x)
        mean = across @ self._solved
        explained = dtrmm(1.0, self._inverse, across.T, lower=1, overwrite_b=1)
        variance = self._signal - np.einsum("nc,nc->c", explained, explained)
        return mean, np.sqrt(np.maximum(variance, 1e-10))

    def mean(self, x: Array) -> Array:
        """The mean of :meth:`predict` alone, which is faster."""
        if not len(self._x):
            return np.zeros(len(x))
        return np.asarray(self._kernel(x * self._weights, self._x) @ self._solved)

    def without_each(self, y: Array) -> Array:
        """Mean ``[n]`` at each observation, had it not been made: ibid., equation 5.12.

        Args:
            y: the observations that the process was given.
        """
        return np.asarray(y - self._solved / (self._inverse**2).sum(axis=0))

    @property
    def unexplained(self) -> float:
        """Mean squared error at the observations, each predicted from all others; ibid.

        Of observations with variance 1, the share of it that the process does not explain.
        """
        return float(np.mean((self._solved / (self._inverse**2).sum(axis=0)) ** 2))

    def _kernel(self, a: Array, b: Array) -> Array:
        """Covariances ``[a, b]`` of scaled columns; in place, as this is most of an ask's time."""
        squared = (-10.0 * a) @ b.T  # five times the squared distance
        squared += 5.0 * (a**2).sum(axis=1)[:, None]
        squared += 5.0 * (b**2).sum(axis=1)
        np.maximum(squared, 0.0, out=squared)
        distance = np.sqrt(squared)
        squared /= 3.0
        squared += distance
        squared += 1.0
        squared *= np.exp(np.negative(distance, out=distance), out=distance)
        squared *= self._signal
        return np.asarray(squared)
