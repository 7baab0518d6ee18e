"""What the tuning loop needs of an optimizer: ``ask`` and ``tell``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fieldtune.server.bo.known import Formulas
from fieldtune.server.outcomes.trial import Outcome, Proposal
from fieldtune.server.study.changes import Changes
from fieldtune.server.study.space import Configuration
from fieldtune.server.study.tuner_options import Phase
from fieldtune.server.tuner.predictions import Predictions


class Tuner(Protocol):
    """Proposes configurations and learns from what became of them."""

    def ask(
        self,
        phase: Phase = "refine",
        configuration: Configuration | None = None,
        formulas: Formulas | None = None,
    ) -> Proposal:
        """The next configuration; first those that an earlier session left in flight.

        Args:
            phase: what the trial is for.
            configuration: to run again, rather than a new one.
            formulas: what is known of any configuration, where it is more than at the last ask.
        """

    def tell(self, outcome: Outcome, then: Configuration | None = None) -> None:
        """What became of a proposal. Once it returns, the outcome outlives the process.

        Args:
            outcome: of a proposal that this tuner was asked for.
            then: a configuration that the next new trial is to have.
        """

    def predict(
        self,
        outcomes: Sequence[Outcome],
        formulas: Formulas | None = None,
        *,
        sampling: bool = True,
    ) -> Predictions:
        """What the model that proposes predicts of the learned objectives of these trials.

        Every trial that was trained to its end is predicted from all of these, so that none is
        recommended for its luck. Of fewer than ten such trials, or where all results are equal,
        nothing is predicted. It depends on the stored trials and on what formulas say, never on
        when it was asked before.

        Args:
            outcomes: as told, or re-evaluated since.
            formulas: what is known of any configuration, where it is more than before.
            sampling: whether intervals cover the few test samples; see
                :func:`~fieldtune.server.tuner.predictions.estimates`.
        """

    def revise(self, outcomes: Sequence[Outcome]) -> None:
        """Store what these trials come to now, re-evaluated, for whoever reads the storage.

        Proposals stay what they would have been, and the next session begins with the outcomes as
        they were told.
        """

    def history(self) -> Sequence[Outcome]:
        """Every outcome told so far, in the order of the trials' numbers."""

    @property
    def resumes(self) -> bool:
        """Whether the next ``ask`` gives what an earlier session left in flight."""

    @property
    def changes(self) -> tuple[Changes, ...]:
        """What a person changed while the study ran."""
