"""What the sampler's model predicts of a study's trials: a value and a 95 % interval of each.

Of many noisy results the best one is the luckiest, so a front of results promises more than it
keeps. The model that proposes configurations predicts each of them from all trials; by that value
trials are compared and recommended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fieldtune.profiles.common.estimate import Z95, Estimate
from fieldtune.server.bo.objective_model import Prediction
from fieldtune.server.federation.metrics import effective_samples
from fieldtune.server.outcomes.trial import Trained
from fieldtune.server.study.objectives import Objective

Predictions = Mapping[str, Mapping[int, Estimate]]
"""Learned objective -> number of a trial -> what is predicted of it."""


def estimates(
    objective: Objective, prediction: Prediction, trials: Sequence[Trained], *, sampling: bool
) -> dict[int, Estimate]:
    """The value of an objective and its 95 % interval, by the trials' numbers.

    The interval is that of the value itself under the model and, for a share of the test samples,
    of having so few of them, on clients that differ.

    Args:
        objective: the learned measure.
        prediction: for each of the trials.
        trials: these.
        sampling: whether intervals cover the few samples; not where trials are compared, which are
            all tested on the same ones.
    """
    few = _sampling(prediction, objective.name, trials) if sampling else 0.0
    bands = [prediction.at(z, few) for z in (0.0, -Z95, Z95)]
    if objective.maximised:
        value, high, low = (-band for band in bands)
    else:
        value, low, high = bands
    return {
        trial.proposal.number: Estimate(*ends)
        for trial, *ends in zip(trials, value.tolist(), low.tolist(), high.tolist(), strict=True)
    }


def _sampling(prediction: Prediction, name: str, trials: Sequence[Trained]) -> NDArray[np.float64]:
    """Standard deviation of a share of so many samples ``[n]``, on the model's line: by its logit.

    Where clients differ by more than chance, the samples count as fewer.
    """
    scale = prediction.scale
    if scale.kind != "logit":
        return np.zeros(len(trials))
    share = np.clip(prediction.at(0.0) - scale.offset, 1e-6, 1 - 1e-6)
    samples = np.array(
        [
            effective_samples(name, each, trial.learned.samples, trial.learned.measures)
            for each, trial in zip(share.tolist(), trials, strict=True)
        ]
    )
    return np.asarray(1 / np.sqrt(samples * share * (1 - share)) / scale.deviation)
