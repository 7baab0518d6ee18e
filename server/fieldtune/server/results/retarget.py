"""Answering for a device type that was not in the fleet, from the trials that there are.

What was learned does not depend on the device type; what it costs is computed anew. Facts that
limit the answer are said: configurations that fit the device and that the old fleet's limits ruled
out were never tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fieldtune.client.contract.messages import Description
from fieldtune.profiles.device.load import load_profile
from fieldtune.server.costs.forecast import Forecaster, fleet_measure
from fieldtune.server.costs.known_costs import Formulas
from fieldtune.server.outcomes.trial import Completed, Outcome
from fieldtune.server.results.schema import Summary
from fieldtune.server.results.summarize import summarise
from fieldtune.server.study.artefacts import Artefacts
from fieldtune.server.study.config import COST_MEASURES, StudyConfig
from fieldtune.server.tuner.suggestions import Prospect, prospects

MOST_PROSPECTS = 20


@dataclass(frozen=True)
class Retargeted:
    """A study's answer for another device type."""

    summary: Summary
    """Front and recommendation as a fleet of this device type alone would have them."""
    unexplored: float
    """Of what fits the device, the share that the limits of the study's own fleet ruled out."""
    prospects: Sequence[Prospect]
    """Trials that would settle the front; none where it is settled."""
    extrapolated: Sequence[bool]
    """Of each prospect, whether the study's own fleet ruled out what it asks for, so that nothing
    like it was tried. Points of the front were all trained."""


def retarget(
    study: StudyConfig,
    outcomes: Sequence[Outcome],
    members: Sequence[Description],
    device: str,
    artefacts: Artefacts,
) -> Retargeted:
    """Score a study's trials anew for a device type.

    Args:
        study: as it was run.
        outcomes: its trials.
        members: its fleet; the new one has as many clients with the same data.
        device: name of a profile.
        artefacts: of the study.

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
    forecaster = Forecaster(target, moved, {device: profile})
    formulas = Formulas(target, forecaster, artefacts)
    completed = [outcome for outcome in outcomes if isinstance(outcome, Completed)]
    rescored = []
    for outcome in completed:
        manifest = artefacts.of(outcome.proposal.configuration).result().manifest
        formulas.learn(outcome.proposal.configuration, manifest)
        forecast = forecaster.forecast(outcome.proposal.configuration, manifest)
        objectives = {
            name: fleet_measure(forecast, name) if name in COST_MEASURES else value
            for name, value in outcome.objectives.items()
        }
        rescored.append(replace(outcome, forecast=forecast, objectives=objectives, observed={}))
    fitting = [outcome for outcome in rescored if outcome.forecast.feasible]
    before = _formulas_before(study, completed, members, artefacts)
    sample = [c.flat() for c in study.full_space.sample(500, study.study.seed)]
    fits_now = [values for values in sample if _allowed(formulas, values)]
    new = [values for values in fits_now if not _allowed(before, values)]
    wanted = prospects(
        study.full_space,
        study.study.objectives,
        fitting,
        formulas,
        seed=study.study.seed,
        most=MOST_PROSPECTS,
    )
    return Retargeted(
        summarise(target, rescored),
        len(new) / len(fits_now) if fits_now else 0.0,
        wanted,
        [not _allowed(before, each.configuration.flat()) for each in wanted],
    )


def _formulas_before(
    study: StudyConfig,
    completed: Sequence[Completed],
    members: Sequence[Description],
    artefacts: Artefacts,
) -> Formulas:
    """The formulas by which the study itself was limited."""
    profiles = {name: load_profile(name) for name in {member.profile for member in members}}
    formulas = Formulas(study, Forecaster(study, members, profiles), artefacts)
    for outcome in completed:
        configuration = outcome.proposal.configuration
        formulas.learn(configuration, artefacts.of(configuration).result().manifest)
    return formulas


def _allowed(formulas: Formulas, values: dict[str, int | float | str | bool]) -> bool:
    return all(value <= 0 for value in formulas(values).constraints.values())
