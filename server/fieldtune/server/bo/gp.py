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
from scipy.linalg import LinAlgError, cho_factor, cho_solve, solve_triangular
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize

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
    count = len(starts[0].lengths)
    squares = np.zeros((count, len(x), len(x)))
    for column, group in enumerate(groups):
        squares[group] += (x[:, None, column] - x[None, :, column]) ** 2
    bounds = [_BOUNDS[0]] * count + [_BOUNDS[1], _BOUNDS[2]]
    best, least = starts[0], math.inf
    for start in starts:
        found = minimize(
            _negative_log_posterior, start.vector(), args=(squares, y), jac=True,
            method="L-BFGS-B", bounds=bounds, options={"maxiter": iterations},
        )  # fmt: skip
        if found.fun < least:
            best, least = Hyperparameters.of(found.x), float(found.fun)
    return best


def _negative_log_posterior(vector: Array, squares: Array, y: Array) -> tuple[float, Array]:
    count, n = len(squares), len(y)
    weights = np.exp(-2 * vector[:count])
    signal, noise = math.exp(vector[-2]), math.exp(vector[-1])
    distance = np.sqrt(5 * np.tensordot(weights, squares, 1))
    decay = np.exp(-distance)
    kernel = signal * (1 + distance + distance**2 / 3) * decay
    matrix = kernel + (noise + _JITTER) * np.eye(n)
    try:
        factor = cho_factor(matrix, lower=True, check_finite=False)
    except LinAlgError:
        return 1e10, np.zeros_like(vector)
    solved = cho_solve(factor, y, check_finite=False)
    inverse, _ = dpotri(factor[0], lower=1)
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    outer = np.outer(solved, solved) - inverse
    value = 0.5 * float(y @ solved) + float(np.log(np.diag(factor[0])).sum())
    # d kernel / d (squared scaled distance) = -5/6 signal (1 + distance) decay
    slope = outer * (signal * (5 / 3) * (1 + distance) * decay)
    gradient = np.empty_like(vector)
    gradient[:count] = -0.5 * weights * np.tensordot(squares, slope, 2)
    gradient[-2] = -0.5 * float((outer * kernel).sum())
    gradient[-1] = -0.5 * noise * float(np.trace(outer))
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
        self._factor: Array = np.eye(len(x))
        for power in range(8):  # nearly equal points and little noise need more of it
            with contextlib.suppress(np.linalg.LinAlgError):
                jitter = self.noise + _JITTER * 10.0**power
                matrix = kernel + jitter * np.eye(len(x))
                self._factor = np.asarray(np.linalg.cholesky(matrix), float)
                break
        self._solved = (
            cho_solve((self._factor, True), y, check_finite=False) if len(y) else np.zeros(0)
        )

    def predict(self, x: Array) -> tuple[Array, Array]:
        """Mean and standard deviation ``[c]``, without noise, at columns ``[c, d]``."""
        if not len(self._x):
            return np.zeros(len(x)), np.full(len(x), math.sqrt(self._signal))
        across = self._kernel(x * self._weights, self._x)
        explained = solve_triangular(self._factor, across.T, lower=True, check_finite=False)
        variance = self._signal - (explained**2).sum(axis=0)
        return across @ self._solved, np.sqrt(np.maximum(variance, 1e-10))

    def without_each(self, y: Array) -> Array:
        """Mean ``[n]`` at each observation, had it not been made: ibid., equation 5.12.

        Args:
            y: the observations that the process was given.
        """
        half = solve_triangular(self._factor, np.eye(len(self._x)), lower=True, check_finite=False)
        return np.asarray(y - self._solved / (half**2).sum(axis=0))

    def _kernel(self, a: Array, b: Array) -> Array:
        squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * a @ b.T
        distance = np.sqrt(5 * np.maximum(squared, 0.0))
        return np.asarray(self._signal * (1 + distance + distance**2 / 3) * np.exp(-distance))
