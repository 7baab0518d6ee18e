"""Hyperparameters of a study's models, kept with its trials."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from fieldtune.server.bo.objective_model import KernelParameters

_KERNEL_KEY = "fieldtune:kernel"


def stored_hyperparameters(
    study: Study, before: float = math.inf
) -> tuple[dict[str, KernelParameters], int]:
    """The latest hyperparameters that an earlier trial stored, and from how many observations."""
    for trial in reversed(study.get_trials(deepcopy=False)):
        if trial.number < before and (text := trial.system_attrs.get(_KERNEL_KEY)):
            stored = json.loads(text)
            return stored["kernels"], stored["observations"]
    return {}, 0


def store_hyperparameters(
    study: Study, trial: FrozenTrial, kernels: Mapping[str, KernelParameters], observations: int
) -> None:
    """Store hyperparameters with the trial, so that what follows does not depend on the process."""
    if trial.state == TrialState.RUNNING:
        text = json.dumps({"kernels": kernels, "observations": observations})
        # Private, as in Optuna's own samplers: there is no public way to keep what a sampler knows.
        study._storage.set_trial_system_attr(trial._trial_id, _KERNEL_KEY, text)
