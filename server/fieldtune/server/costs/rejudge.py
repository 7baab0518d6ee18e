"""Limits that a person changed, held against what was tried and what is queued."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fieldtune.profiles.common.errors import InfeasibleError
from fieldtune.server.costs.calibration import corrections, known_before
from fieldtune.server.costs.forecast import Forecaster
from fieldtune.server.outcomes.trial import Completed, Outcome, worst_constraint
from fieldtune.server.study.artefacts import Artefacts
from fieldtune.server.study.changes import Changes
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.space import Value


def rejudged(
    study: StudyConfig,
    history: Sequence[Outcome],
    forecaster: Forecaster,
    artefacts: Artefacts,
    changed: Changes,
) -> list[Outcome]:
    """Trained trials from before limits changed, as the limits have it now.

    Devices are taken to be as they had reported when the limits changed, so that a study that is
    killed afterwards judges alike.
    """
    before = known_before(changed.trial, history, set(), study.study.parallel)
    forecaster.correct(corrections(before))
    found: list[Outcome] = []
    for outcome in history:
        number = outcome.proposal.number
        told_before = number < changed.trial and number not in changed.in_flight
        if isinstance(outcome, Completed) and told_before:
            configuration = outcome.proposal.configuration
            manifest = artefacts.of(configuration).result().manifest
            found.append(replace(outcome, forecast=forecaster.forecast(configuration, manifest)))
    forecaster.correct({})
    return found


def check_queue(
    study: StudyConfig,
    history: Sequence[Outcome],
    forecaster: Forecaster,
    artefacts: Artefacts,
) -> None:
    """Refuse a queued configuration that is still to be tried and that the limits rule out.

    Raises:
        InfeasibleError: there is one; the message says which limit it exceeds.
    """
    tried = [values for outcome in history for values in _tried(outcome)]
    names = study.full_space.parameters()
    for number, entry in enumerate(study.queue, start=1):
        if entry.keys() != names.keys() or any(values == entry for values in tried):
            continue
        configuration = study.full_space.configuration(entry)
        manifest = artefacts.of(configuration).result().manifest
        forecast = forecaster.forecast(configuration, manifest)
        if not forecast.feasible:
            limit = worst_constraint(forecast.constraints)
            raise InfeasibleError(
                f"queue, entry {number}: the limits rule it out; it exceeds {limit} by "
                f"{100 * forecast.constraints[limit]:.0f} %: change it, or raise the limit"
            )


def _tried(outcome: Outcome) -> list[dict[str, Value]]:
    """The configuration of a trial, and those that shared its training."""
    values = outcome.proposal.configuration.flat()
    choice = outcome.learned.choice if isinstance(outcome, Completed) else None
    others = choice.configurations if choice else ()
    return [values, *({**values, **other} for other in others)]
