"""Trials of the front whose weights are lost: they are trained again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from fieldtune.profiles.common.errors import RunFolderError
from fieldtune.server.outcomes.trial import Completed, Failed, Outcome
from fieldtune.server.results.run_folder import RunFolder
from fieldtune.server.session.loop import TuningLoop
from fieldtune.server.tuner import Tuner


def train_lost_again(
    trials: Sequence[int],
    folder: RunFolder,
    tuner: Tuner,
    loop: TuningLoop,
    notes: Callable[[str], None],
) -> bool:
    """Train those of these completed trials again whose weights are missing or damaged.

    Where the fleet or its data have changed, the outcome differs; then it replaces the earlier one.

    Returns whether any outcome was replaced.

    Raises:
        RunFolderError: a trial could not be trained again.
    """
    replaced = False
    for outcome in tuner.history():
        if isinstance(outcome, Completed) and outcome.proposal.number in trials:
            try:
                folder.load_weights(outcome.proposal.number, outcome.weights_sha256)
            except RunFolderError as lost:
                notes(f"{lost}; the trial is trained again")
                replaced = _train_again(outcome, tuner, loop, notes) or replaced
    return replaced


def _train_again(
    outcome: Completed, tuner: Tuner, loop: TuningLoop, notes: Callable[[str], None]
) -> bool:
    number, again = outcome.proposal.number, loop.train_again(outcome)
    if not isinstance(again, Completed):
        raise RunFolderError(
            f"The weights of trial {number} are lost, and it could not be trained again"
            f"{_why(again)}: restore its folder from a backup, or choose another folder with --out"
        )
    if again == outcome:
        return False
    if replace(again, weights_sha256="") != replace(outcome, weights_sha256=""):
        figures = ", ".join(
            f"{name} {value:.4g} (before {outcome.objectives[name]:.4g})"
            for name, value in again.objectives.items()
        )
        notes(f"Trial {number} was trained again by other devices or on other data: {figures}")
    tuner.replace(again)
    return True


def _why(outcome: Outcome) -> str:
    return f" ({outcome.reason})" if isinstance(outcome, Failed) else ""
