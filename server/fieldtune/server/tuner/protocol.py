"""The tuner's interface to the tuning loop: ``ask``, ``tell`` and ``predict``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fieldtune.server.bo.known import Formulas
from fieldtune.server.outcomes.trial import Completed, Outcome, Proposal
from fieldtune.server.study.changes import Change, Changes
from fieldtune.server.study.space import Configuration
from fieldtune.server.study.tuner_options import Phase
from fieldtune.server.tuner.predictions import Predictions


class Tuner(Protocol):
    """Proposes configurations and learns from their outcomes."""

    def ask(
        self,
        phase: Phase = "refine",
        configuration: Configuration | None = None,
        formulas: Formulas | None = None,
    ) -> Proposal:
        """The next configuration; first those that an earlier session left in flight.

        Args:
            phase: of the trial.
            configuration: to repeat, instead of a new one.
            formulas: known objectives and constraints of any configuration, if they have changed.
        """

    def tell(self, outcome: Outcome, then: Configuration | None = None) -> None:
        """Store a proposal's outcome; it is on disk when this returns.

        Args:
            outcome: of a proposal of this tuner.
            then: the configuration of the next new trial.
        """

    def predict(
        self,
        outcomes: Sequence[Outcome],
        formulas: Formulas | None = None,
        *,
        sampling: bool = True,
    ) -> Predictions:
        """Predict the learned objectives of these trials with the tuner's surrogate model.

        The prediction for each completed trial uses all trials, so that none is recommended for a
        lucky result. With fewer than ten completed trials, or where all results are equal, nothing
        is predicted. It depends on the stored trials and the known objectives only, not on earlier
        calls.

        Args:
            outcomes: as told, or re-evaluated since.
            formulas: known objectives and constraints of any configuration, if they have changed.
            sampling: whether intervals include the sampling noise of the test data; see
                :func:`~fieldtune.server.tuner.predictions.estimates`.
        """

    def revise(self, outcomes: Sequence[Outcome]) -> None:
        """Store re-evaluated outcomes, for other programs that read the storage.

        Proposals do not change, and the next session begins with the outcomes as they were told.
        """

    def replace(self, outcome: Completed) -> None:
        """Store the new outcome of a completed trial that was trained again."""

    def history(self) -> Sequence[Outcome]:
        """All outcomes so far, by trial number."""

    @property
    def resumes(self) -> bool:
        """Whether the next ``ask`` returns a trial that an earlier session left in flight."""

    @property
    def changes(self) -> tuple[Changes, ...]:
        """Changes of the study file, and others that were accepted, while the study ran."""

    def accept_changes(self, found: Sequence[Change]) -> None:
        """Store that the user goes on although data, code or versions have changed."""
