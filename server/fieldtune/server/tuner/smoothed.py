"""What a study's trials say of each other: the believed value of each, rather than the observed.

Of many noisy results the best one is the luckiest, so a front of observations promises more than it
keeps. The model that proposes configurations also says what each of them is worth once its
neighbours are taken into account; that value is recommended by, with an interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fieldtune.server.bo.encoding import Encoding
from fieldtune.server.bo.objective_model import Observed, model
from fieldtune.server.bo.threads import one_thread
from fieldtune.server.bo.transforms import Scale
from fieldtune.server.federation.metrics import effective_samples
from fieldtune.server.outcomes.trial import Completed
from fieldtune.server.study.space import Space
from fieldtune.server.tuner.optuna_tuner import distribution

FEWEST = 10
"""Trials, below which a result is taken as it was observed."""

_MOST = 1024
"""Trials in the model; of more, the latest."""
_Z95 = 1.959964


@dataclass(frozen=True)
class Believed:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


def believe(
    space: Space, outcomes: Sequence[Completed], objective: str, *, sampling: bool = True
) -> dict[int, Believed]:
    """What is believed of a learned objective, by the trials' numbers.

    The interval is that of the value itself under the model and, for a share of the test samples,
    of having so few of them, on clients that differ. Empty where there are fewer than
    :data:`FEWEST` trials, or all results are equal.

    Args:
        space: of the study.
        outcomes: its completed trials.
        objective: the measure's name.
        sampling: whether intervals cover the few samples; not where trials are compared, which are
            all tested on the same ones.
    """
    outcomes = outcomes[-_MOST:]
    if len(outcomes) < FEWEST:
        return {}
    y = np.array([outcome.objectives[objective] for outcome in outcomes])
    if y.min() == y.max():
        return {}
    parameters = space.parameters()
    encoding = Encoding.of({name: distribution(each) for name, each in parameters.items()})
    units = np.array([encoding.unit(o.proposal.configuration.flat()) for o in outcomes])
    x, names = encoding.features(encoding.snap(units)), list(dict.fromkeys(encoding.groups))
    groups = [names.index(name) for name in encoding.groups]
    scale, none = Scale.of(y), np.empty((0, x.shape[1]))
    with one_thread():
        process, _ = model(Observed(x, y, none, none, groups, names), scale, None, refit=True)
        mean, deviation = process.predict(x)
    few = _sampling(mean, scale, objective, outcomes) if sampling else 0.0
    spread = np.sqrt(deviation**2 + few**2)
    bands = [scale.backward(mean + z * spread).tolist() for z in (0.0, -_Z95, _Z95)]
    return {
        outcome.proposal.number: Believed(*values)
        for outcome, *values in zip(outcomes, *bands, strict=True)
    }


def _sampling(
    mean: NDArray[np.float64], scale: Scale, objective: str, outcomes: Sequence[Completed]
) -> NDArray[np.float64]:
    """Standard deviation of a share of so many samples, on the model's line: by its logit.

    Where clients differ by more than chance, the samples count as fewer.
    """
    if scale.kind != "logit":
        return np.zeros(len(mean))
    share = np.clip(scale.backward(mean) - scale.offset, 1e-6, 1 - 1e-6)
    samples = np.array(
        [
            effective_samples(objective, each, outcome.learned.samples, outcome.learned.measures)
            for each, outcome in zip(share.tolist(), outcomes, strict=True)
        ]
    )
    return np.asarray(1 / np.sqrt(samples * share * (1 - share)) / scale.deviation)
