"""Finished studies as prior knowledge: a prior mean for models, and the first configurations.

An earlier study's results become a Gaussian process over the parameters that both studies have.
How such processes are weighed follows Feurer et al. 2018, "Scalable meta-learning for Bayesian
optimization using ranking-weighted Gaussian process ensembles" (RGPE): by how often each ranks
this study's own results better than the others do. Unlike there, the weighted mean is not mixed
with this study's model: it is that model's prior mean, which observations overrule. So that
an unrelated study does no harm, two more take part in that ranking: this study's own model, each
result predicted from the others, and chance. The weight that they win is lost to earlier studies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import moocore
import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution

from fieldtune.server.bo.candidates import Candidates, FormulaEvaluator, violation
from fieldtune.server.bo.encoding import Encoding
from fieldtune.server.bo.gp import GaussianProcess
from fieldtune.server.bo.objective_model import Expectation, Observations, model
from fieldtune.server.bo.shared_space import shared
from fieldtune.server.bo.transforms import Transform

Array = NDArray[np.float64]

TRANSFERRED = 3
"""Of a study's first trials every other may be what earlier ones would have tried; so many at most.

Those between are spread evenly: one trial shows whether an earlier study ranks results rightly."""

FEWEST_RESULTS = 4
"""Results of this study from which on earlier ones are weighted by how well they rank them."""

TRUSTED = 0.5
"""Weight of all earlier studies from which on their predictions replace evenly spread trials."""

_LEAST_WEIGHT = 0.1
"""Earlier studies of less weight are not used: chance gives as much with few results."""

_MOST = 256
"""Results of an earlier study that its process is made of; of more, the latest."""
_RESAMPLES = 128
_SLOPE_PRIOR = 2.0
"""The slope of results over predictions is shrunk towards 1 with the weight of so many results."""


@dataclass(frozen=True, eq=False)
class Earlier:
    """A finished study's results.

    Attributes:
        space: its parameters.
        configurations: parameter values ``[n]``.
        values: index of an objective of the study at hand -> what the earlier one measured of it
            ``[n]``, in the direction of the study at hand.
    """

    space: Mapping[str, BaseDistribution]
    configurations: Sequence[Mapping[str, Any]]
    values: Mapping[int, Sequence[float]]


class Prior:
    """Earlier studies, seen from the space of the study at hand.

    Args:
        encoding: of that space.
        space: the same, as Optuna has it.
        signs: -1 for an objective that is maximised, else 1, ``[m]``.
        earlier: the studies; one that has no parameter or no objective in common is left out.
    """

    def __init__(
        self,
        encoding: Encoding,
        space: Mapping[str, BaseDistribution],
        signs: Sequence[float],
        earlier: Sequence[Earlier],
    ) -> None:
        self._encoding, self._signs = encoding, signs
        sources = [_Source(encoding, space, signs, each) for each in earlier]
        self._sources = [source for source in sources if source.objectives]

    def __bool__(self) -> bool:
        return bool(self._sources)

    @property
    def objectives(self) -> frozenset[int]:
        """Indices of the objectives that some earlier study predicts."""
        return frozenset().union(*(source.objectives for source in self._sources))

    def expectation(
        self, index: int, units: Array, line: Array, own: GaussianProcess
    ) -> tuple[float, Expectation] | None:
        """What to expect of an objective, and the weight 0..1 that the earlier studies have in it.

        Args:
            index: of the objective.
            units: places of this study's own results ``[n, p]``.
            line: the results, on the line on which the objective is modelled ``[n]``.
            own: this study's model of them, without any prior knowledge.

        Returns:
            None where no earlier study predicts this objective, or none ranks it well enough.
        """
        sources = [source for source in self._sources if index in source.objectives]
        if not sources or len(line) < FEWEST_RESULTS:
            return None
        predicted = np.stack([source.mean(index, units) for source in sources])
        weights = _weights(predicted, line, own.without_each(line))
        trust = float(weights.sum())
        if trust < _LEAST_WEIGHT:
            return None
        mixed = weights @ predicted / trust
        off = mixed - mixed.mean()
        agreement = float(off @ (line - line.mean()))
        slope = max(0.0, agreement + _SLOPE_PRIOR) / (float(off @ off) + _SLOPE_PRIOR)
        base, middle = float(line.mean()), float(mixed.mean())

        def expected(points: Array) -> Array:
            each = np.stack([source.mean(index, points) for source in sources])
            return np.asarray(trust * (base + slope * (weights @ each / trust - middle)))

        return trust, expected

    def transferred(
        self, pool: Candidates, evaluator: FormulaEvaluator, units: Array, told: Array
    ) -> Candidates:
        """What earlier studies would try first, given the results here; at most ``TRANSFERRED``.

        Each study in turn names a configuration, of the pool or of its own trials, such that all
        of its choices together cover most hypervolume by its own prediction. One that puts more
        than half of the pairs of results in the wrong order is not asked.

        Args:
            pool: configurations to choose from.
            evaluator: of the formulas.
            units: places ``[n, p]`` of what was tried.
            told: the results ``[n, m]``.
        """
        named: list[list[Candidates]] = []
        for source in (each for each in self._sources if each.agrees(units, told)):
            own = evaluator.of(source.configurations(pool.units))
            known = Candidates.join([pool, own.take(violation(own) <= 0)])
            objectives = known.objectives.copy()
            for index in source.objectives:
                learned = np.isnan(objectives[:, index])
                objectives[learned, index] = source.mean(index, known.units[learned])
            chosen = _covering(objectives, [*source.objectives], TRANSFERRED)
            named.append([known.take(np.array([i])) for i in chosen])
        turns = [each[turn] for turn in range(TRANSFERRED) for each in named if turn < len(each)]
        return Candidates.join([pool.take(slice(0, 0)), *turns[:TRANSFERRED]])


class _Source:
    """One earlier study: a process for each objective that it shares."""

    def __init__(
        self,
        encoding: Encoding,
        space: Mapping[str, BaseDistribution],
        signs: Sequence[float],
        earlier: Earlier,
    ) -> None:
        joint = shared(space, earlier.space)
        self._outer, self._joint = encoding, Encoding.of(joint)
        self._tried = list(earlier.configurations)[-_MOST:]
        self._processes = _processes(earlier, tuple(joint.items()), tuple(signs))

    @property
    def objectives(self) -> frozenset[int]:
        """Indices of the objectives that it predicts."""
        return frozenset(self._processes)

    def mean(self, index: int, units: Array) -> Array:
        """What it predicts ``[c]`` at places ``[c, p]``, on its own standardised line."""
        own = [
            self._outer.axes[name].onto(axis, units[:, list(self._outer.axes).index(name)])
            for name, axis in self._joint.axes.items()
        ]
        return self._processes[index].mean(self._joint.features(np.stack(own, axis=1)))

    def agrees(self, units: Array, told: Array) -> bool:
        """Whether it puts at least half of the pairs of results ``[n, m]`` in the right order."""
        right = wrong = 0
        for index in self.objectives:
            predicted, line = self.mean(index, units), told[:, index]
            first, second = np.triu_indices(len(line), 1)
            together = np.sign(predicted[first] - predicted[second]) * np.sign(
                line[first] - line[second]
            )
            right += int((together > 0).sum())
            wrong += int((together < 0).sum())
        return right >= wrong

    def configurations(self, others: Array) -> Array:
        """Places of its trials here; where one lacks a parameter, the others' values in turn."""
        units = np.array([self._outer.unit(values) for values in self._tried])
        rest = others[np.arange(len(units)) % len(others)]
        return self._outer.confined(self._outer.snap(np.where(np.isnan(units), rest, units)))


@lru_cache(maxsize=32)  # a sampler is made anew whenever its formulas change
def _processes(
    earlier: Earlier, joint: tuple[tuple[str, BaseDistribution], ...], signs: tuple[float, ...]
) -> Mapping[int, GaussianProcess]:
    """A process for each objective, over the parameters in common."""
    encoding = Encoding.of(dict(joint))
    names = list(dict.fromkeys(encoding.groups))
    tried = list(earlier.configurations)[-_MOST:]
    if not names or not tried:
        return {}
    x = encoding.features(np.array([encoding.unit(values) for values in tried]))
    groups, none = [names.index(name) for name in encoding.groups], np.empty((0, x.shape[1]))
    found = {}
    for index, values in earlier.values.items():
        y = signs[index] * np.array(list(values)[-_MOST:], float)
        usable = np.isfinite(y)
        if usable.sum() < FEWEST_RESULTS or np.ptp(y[usable]) == 0:
            continue
        observed = Observations(x[usable], y[usable], none, none, groups, names)
        found[index], _ = model(observed, Transform.of(y[usable]), None, refit=True)
    return found


def _weights(predicted: Array, line: Array, own: Array) -> Array:
    """Weights ``[k]`` of earlier studies' predictions ``[k, n]``; this study's own has the rest.

    Results are resampled; each sample counts for whoever puts most pairs in the right order, split
    among equals. A weight is a share of the samples.
    """
    rng = np.random.default_rng(len(line))
    first, second = np.triu_indices(len(line), 1)
    differ = line[first] != line[second]
    first, second = first[differ], second[differ]
    up = line[first] < line[second]
    rivals = np.concatenate([predicted, own[None]])
    wrong = (rivals[:, first] < rivals[:, second]) != up
    chosen = rng.integers(len(line), size=(_RESAMPLES, len(line)))
    times = np.stack([np.bincount(each, minlength=len(line)) for each in chosen])
    pairs = times[:, first] * times[:, second]
    loss = pairs @ wrong.T.astype(float)
    chance = pairs.sum(axis=1, keepdims=True) / 2
    loss = np.concatenate([loss, chance], axis=1)
    best = loss == loss.min(axis=1, keepdims=True)
    return np.asarray((best / best.sum(axis=1, keepdims=True)).mean(axis=0)[: len(predicted)])


def _covering(objectives: Array, learned: Sequence[int], count: int) -> list[int]:
    """Indices of so many points that together dominate most, greedily.

    The reference is the worst of a known objective and the median of a learned one, as in
    :mod:`~fieldtune.server.bo.reference_point`.
    """
    objectives = np.nan_to_num(objectives, nan=0.0, posinf=1e300)
    low, reference = objectives.min(axis=0), objectives.max(axis=0)
    for index in learned:
        reference[index] = np.median(objectives[:, index])
    extent = reference - low
    scaled = (objectives - low) / np.where(extent > 0, extent, 1.0)
    inside = np.flatnonzero((scaled < 1.1).all(axis=1))
    inside = (
        inside[moocore.is_nondominated(scaled[inside], keep_weakly=False)]
        if len(inside)
        else inside
    )
    chosen: list[int] = []
    while len(chosen) < min(count, len(inside)):
        left = [int(i) for i in inside if i not in chosen]
        covered = [
            moocore.hypervolume(scaled[[*chosen, i]], ref=np.full(scaled.shape[1], 1.1))
            for i in left
        ]
        chosen.append(left[int(np.argmax(covered))])
    return chosen
