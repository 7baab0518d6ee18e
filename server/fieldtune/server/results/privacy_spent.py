"""The differential privacy that the trials of a study spent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from fieldtune.server.costs.epsilon import Rounds, epsilon, epsilon_of_all
from fieldtune.server.costs.fleet_groups import FleetGroups
from fieldtune.server.outcomes.trial import Failed, Infeasible, Outcome, Trained
from fieldtune.server.results.schema import PrivacySpent
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.private_averaging import is_private


def privacy_spent(
    study: StudyConfig, outcomes: Sequence[Outcome], fleet: FleetGroups
) -> PrivacySpent | None:
    """What the trials spent; None where the study averages without noise.

    Args:
        study: its rounds and delta.
        outcomes: as told, not re-evaluated: their forecasts have the participants of that time.
        fleet: the clients.
    """
    if not is_private(study.space.server):
        return None
    trainings, delta = list(_trainings(outcomes, fleet)), study.server.dp_delta
    return PrivacySpent(
        delta=delta,
        largest=max((epsilon(each, delta) for each in set(trainings)), default=0.0),
        study=epsilon_of_all(trainings, delta),
        trials=len(trainings),
    )


def _trainings(outcomes: Sequence[Outcome], fleet: FleetGroups) -> Iterator[Rounds]:
    for outcome in outcomes:
        if isinstance(outcome, Infeasible) or (isinstance(outcome, Failed) and not outcome.sent):
            continue
        # Of a failed trial only the smallest number of participants is known, and not how far it
        # got: both count as what spends most.
        participants = fleet.needed
        if isinstance(outcome, Trained):
            participants = len(outcome.forecast.participants)
        rounds = fleet.private_rounds(outcome.proposal.configuration, participants)
        if rounds is not None:
            done = outcome.learned.rounds if isinstance(outcome, Trained) else rounds.count
            yield replace(rounds, count=done)
