"""Retargeting: front and recommendation for a device type that was not in the fleet.

Learned objectives of the trials do not depend on the device type; costs are predicted anew. The
result also says what limits it: configurations that fit the new device but were infeasible on the
study's fleet were never tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fieldtune.client.contract.messages import Description
from fieldtune.profiles.device.load import load_profile
from fieldtune.server.costs.cost_model import CostModel
from fieldtune.server.costs.known_costs import KnownCosts
from fieldtune.server.costs.rescore import rescore
from fieldtune.server.outcomes.trial import Completed, Outcome
from fieldtune.server.results.schema import Summary
from fieldtune.server.results.summarize import summarise
from fieldtune.server.study.artefacts import Artefacts
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.tuner.predictions import Predictions
from fieldtune.server.tuner.suggestions import Prospect, prospects

MOST_PROSPECTS = 20


@dataclass(frozen=True)
class Retargeted:
    """The results of a study for another device type."""

    summary: Summary
    """Front and recommendation for a fleet of this device type only."""
    unexplored: float
    """Share of the configurations that fit the device, but were infeasible on the study's fleet."""
    prospects: Sequence[Prospect]
    """Suggested further trials; none where no improvement is expected."""
    extrapolated: Sequence[bool]
    """For each prospect, whether it was infeasible on the study's fleet, so that no trial was near
    it. All points of the front were trained."""


def retarget(
    study: StudyConfig,
    outcomes: Sequence[Outcome],
    members: Sequence[Description],
    device: str,
    artefacts: Artefacts,
    predicted: Predictions,
    compared: Predictions,
) -> Retargeted:
    """Re-evaluate a study's trials for a device type.

    Args:
        study: as it was run.
        outcomes: its trials.
        members: its clients; the new fleet has the same number of clients with the same data.
        device: name of a profile.
        artefacts: of the study.
        predicted: the tuner's predictions of learned objectives.
        compared: the same with the interval of the model alone.

    Raises:
        ProfileError: there is no such profile.
    """
    profile = load_profile(device)
    target = study.model_copy(
        update={
            "fleet": study.fleet.model_copy(update={"devices": {device: 1.0}}),
            "limits": study.limits.model_copy(
                update={"devices": {n: c for n, c in study.limits.devices.items() if n == device}}
            ),
        }
    )
    moved = [member.model_copy(update={"profile": device}) for member in members]
    names = sorted({member.profile for member in members})
    profiles = {name: load_profile(name) for name in names}
    costs = CostModel(target, moved, {device: profile})
    known = KnownCosts(target, costs)
    before = KnownCosts(study, CostModel(study, members, profiles))
    completed = [
        replace(outcome, observed={}) for outcome in outcomes if isinstance(outcome, Completed)
    ]
    for outcome in completed:
        configuration = outcome.proposal.configuration
        manifest = artefacts.of(configuration).result().manifest
        known.learn(configuration, manifest)
        before.learn(configuration, manifest)
    rescored = rescore(completed, costs, {})
    fitting = [o for o in rescored if isinstance(o, Completed) and o.forecast.feasible]
    sample = [c.flat() for c in study.full_space.sample(500, study.study.seed)]
    fits_now = [values for values in sample if known.allow(values)]
    new = [values for values in fits_now if not before.allow(values)]
    wanted = prospects(
        study.full_space,
        study.study.objectives,
        fitting,
        known,
        seed=study.study.seed,
        most=MOST_PROSPECTS,
    )
    return Retargeted(
        summarise(target, rescored, {}, predicted, compared=compared),
        len(new) / len(fits_now) if fits_now else 0.0,
        wanted,
        [not before.allow(each.configuration.flat()) for each in wanted],
    )
