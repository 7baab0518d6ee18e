"""What a run recommends, and what that is worth.

The score of a run is the feasible hypervolume of the **true** values of what it recommends, on a
frozen scale. The **claimed** one, from the values that the run saw, stands beside it: choosing the
best of noisy values, a run that only looks at them claims too much.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import moocore
import numpy as np
from numpy.typing import NDArray

from tuner.encode import encode
from tuner.problem import WORST, Evaluation, Problem, Reference, Values, learned

Matrix = NDArray[np.float64]
_CLIP = 1e-4
"""Shares are kept this far from 0 and 1 before the logit."""


@dataclass(frozen=True)
class Tried:
    """One evaluation of a run, in the order in which it was made."""

    values: Values
    rounds: int
    evaluation: Evaluation
    paid: float
    """Full evaluations paid for so far, this one included."""
    device_s: float
    """Device-seconds paid for so far."""


@dataclass(frozen=True)
class Pick:
    """What a run recommends, and the objectives that it believes them to have."""

    values: Sequence[Values]
    claimed: Matrix


Picker = Callable[[Problem, Sequence[Tried]], Pick]


def hypervolume(reference: Reference, objectives: Matrix) -> float:
    """Of these points ``[n, m]``, over the reference front's; points beyond 1.1 add nothing."""
    ideal, nadir = np.array(reference.ideal), np.array(reference.nadir)
    scaled = (objectives - ideal) / (nadir - ideal)
    scaled = scaled[(scaled < WORST).all(axis=1) & np.isfinite(scaled).all(axis=1)]
    if len(scaled) == 0:
        return 0.0
    volume = moocore.hypervolume(scaled, ref=np.full(len(ideal), WORST))
    return float(volume) / reference.hypervolume


def true_hypervolume(problem: Problem, recommended: Sequence[Values]) -> float:
    """Of what these configurations are really worth; one that misses a limit is worth nothing."""
    truths = [problem.truth(values) for values in recommended]
    feasible = [truth.objectives for truth in truths if truth.feasible]
    if not feasible:
        return 0.0
    return hypervolume(problem.reference, np.array(feasible))


def by_value(problem: Problem, tried: Sequence[Tried]) -> Pick:
    """The points that no other beats, as measured: what Optuna's ``best_trials`` gives."""
    full = _usable(problem, tried)
    return _front(full, np.array([each.evaluation.objectives for each in full]))


def by_posterior(problem: Problem, tried: Sequence[Tried]) -> Pick:
    """The same, with each learned objective replaced by a model's mean at that point.

    A Gaussian process (Matérn 5/2, a length scale a dimension, noise) on the logit of shares and
    on standardised values of the rest: the same for every peer, and no part of the product.
    """
    full = _usable(problem, tried)
    measured = np.array([each.evaluation.objectives for each in full])
    if len(full) < 5:
        return _front(full, measured)
    points = encode(problem.space, [each.values for each in full])
    # What a model learns from includes what missed a limit: its objectives were measured too.
    everything = [each for each in tried if each.rounds == problem.rounds]
    seen = encode(problem.space, [each.values for each in everything])
    for index in learned(problem, problem.known(full[0].values)):
        share = index in problem.shares
        targets = np.array([each.evaluation.objectives[index] for each in everything])
        measured[:, index] = _posterior_mean(seen, targets, points, share=share)
    return _front(full, measured)


def _usable(problem: Problem, tried: Sequence[Tried]) -> list[Tried]:
    """Full evaluations that met every limit and gave numbers."""
    return [
        each
        for each in tried
        if each.rounds == problem.rounds
        and each.evaluation.feasible
        and np.isfinite(each.evaluation.objectives).all()
    ]


def _front(full: Sequence[Tried], objectives: Matrix) -> Pick:
    if not full:
        return Pick([], np.zeros((0, 1)))
    keep = np.flatnonzero(moocore.is_nondominated(objectives, keep_weakly=False))
    return Pick([full[int(index)].values for index in keep], objectives[keep])


def _posterior_mean(seen: Matrix, targets: Matrix, at: Matrix, *, share: bool) -> Matrix:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    finite = np.isfinite(targets)
    seen, targets = seen[finite], targets[finite]
    y = _logit(targets) if share else targets
    scales: Any = np.ones(seen.shape[1])
    kernel = ConstantKernel(1.0, (1e-2, 1e2)) * Matern(scales, (5e-2, 2e1), nu=2.5)
    model = GaussianProcessRegressor(
        kernel + WhiteKernel(1e-2, (1e-6, 1.0)), normalize_y=True, random_state=0
    )
    with warnings.catch_warnings():  # a length scale at its bound is an irrelevant parameter
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(seen, y)
    mean = np.asarray(model.predict(at), np.float64)
    return 1 / (1 + np.exp(-mean)) if share else mean


def _logit(share: Matrix) -> Matrix:
    clipped = np.clip(share, _CLIP, 1 - _CLIP)
    return np.log(clipped / (1 - clipped))
