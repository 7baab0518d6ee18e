"""What any model needs on a fleet, known from device profiles alone: before anything is compiled.

A process that trains takes memory, a message takes its time and energy, and samples take storage,
however small the model is. Lower limits are refused at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fieldtune.client.contract.messages import Description
from fieldtune.profiles.device.profile import DeviceProfile
from fieldtune.server.compiler.manifest import Manifest
from fieldtune.server.costs.algorithm_work import algorithm_coefficients
from fieldtune.server.costs.architecture_costs import ArchitectureCosts
from fieldtune.server.costs.coefficients import coefficients
from fieldtune.server.costs.feasible_space import (
    SAMPLED_CONFIGURATIONS,
    distance,
    shown_limits,
    sufficing,
)
from fieldtune.server.costs.fleet_groups import FleetGroups
from fieldtune.server.study.config import StudyConfig

_ALL_AT_ONCE = 2**20
"""Samples of a call of ``train``: with fewer there are more calls, which only cost more."""


def needed_by_any_model(
    study: StudyConfig, members: Sequence[Description], profiles: Mapping[str, DeviceProfile]
) -> dict[str, tuple[float, float]]:
    """The limits that not even a model without weights and operations keeps.

    Args:
        study: its space and limits.
        members: the fleet's clients.
        profiles: of all device types of the study.

    Returns:
        limit as the study file names it -> its value, and what is needed at least; none where such
        a model fits.

    Raises:
        StudyError: an objective or a limit cannot be predicted from a device type's profile.
    """
    fleet = FleetGroups(study, members, profiles)
    nothing = _model_of_no_size(members[0].input_shape)
    table = np.stack([coefficients(profiles[name], nothing) for name in fleet.types])
    costs = ArchitectureCosts(
        fleet, table, _ALL_AT_ONCE, {}, nothing.parameters,
        lambda: np.stack([algorithm_coefficients(profiles[name], nothing) for name in fleet.types]),
    )  # fmt: skip
    sample = study.full_space.sample(SAMPLED_CONFIGURATIONS, study.study.seed)
    closest = min((costs.of(configuration) for configuration in sample), key=distance)
    return {} if closest.feasible else sufficing(study, fleet, closest)


def no_model_fits(study: StudyConfig, needed: Mapping[str, tuple[float, float]]) -> str:
    """The sentence for limits that no model keeps; see :func:`needed_by_any_model`."""
    return (
        f"Nothing in the space fits {100 * study.limits.coverage:g} % of the fleet, whatever the "
        f"model: at least {shown_limits(needed)} is needed by one without weights and operations."
    )


def _model_of_no_size(input_shape: tuple[int, ...]) -> Manifest:
    return Manifest(
        artefact_sha256="",
        input_shape=input_shape,
        classes=0,
        micro_batch=_ALL_AT_ONCE,
        hyperparameters=(),
        weights=(),
        parameters=0,
        flops_per_step=0.0,
        work={"infer": {}, "train": {}, "evaluate": {}},
        train_arena_bytes=0,
        infer_arena_bytes=0,
        artefact_bytes=0,
        model_bytes=0,
    )
