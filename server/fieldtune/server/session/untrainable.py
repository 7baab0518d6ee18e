"""Studies of which no trial can be trained: when to end them, and what is said."""

from __future__ import annotations

from collections.abc import Sequence

from fieldtune.client.contract.messages import Description
from fieldtune.profiles.common.errors import FleetError
from fieldtune.server.costs.budget import Budget
from fieldtune.server.outcomes.trial import Completed, Failed, Infeasible, Outcome
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.study_options import BUDGETS

_MOST_IN_VAIN = 50


class InVain:
    """Ends a simulated study that would not end by itself, since its trials use no budget.

    Real devices that are away may come back, so theirs is not ended.

    Args:
        study: with the budget.
        members: the fleet's clients.
    """

    def __init__(self, study: StudyConfig, members: Sequence[Description]) -> None:
        self._study, self._budget, self._failed = study, Budget(study.study), 0
        self._on_devices = any(member.name for member in members)

    def note(self, outcome: Outcome) -> None:
        """Count a trial.

        Raises:
            FleetError: so many in a row failed and used nothing.
        """
        if self._on_devices or isinstance(outcome, Infeasible):
            return
        vain = isinstance(outcome, Failed) and not self._budget.share(0, [outcome])
        self._failed = self._failed + 1 if vain and self._study.study.trials is None else 0
        if isinstance(outcome, Failed) and self._failed >= _MOST_IN_VAIN:
            set_ones = [name for name in BUDGETS if getattr(self._study.study, name) is not None]
            raise FleetError(
                f"{self._failed} trials in a row failed and used none of the study's budget "
                f"({', '.join(set_ones)}), so it would not end; the last one: "
                f"{_why(self._study, outcome)}"
            )


def check_learned(study: StudyConfig, outcomes: Sequence[Outcome]) -> None:
    """Raise FleetError where every trial failed: there is nothing to report."""
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    if failed and not any(isinstance(outcome, Completed) for outcome in outcomes):
        raise FleetError(
            f"None of {len(failed)} trials could be trained; the last one: "
            f"{_why(study, failed[-1])}"
        )


def _why(study: StudyConfig, outcome: Failed) -> str:
    """Why a trial failed, and which settings may be the reason.

    Where no request failed, the reason says all: the model could not be compiled, an objective is
    not finite, or no client was there within ``limits.time_h``.
    """
    kind = max(outcome.failures, key=outcome.failures.__getitem__, default="")
    faults, settings = study.fleet.faults, list[str]()
    match kind:
        case "late":
            settings += ["space.server.deadline_s"] if "deadline_s" in study.space.server else []
            settings += ["limits.time_h"] if study.limits.time_h is not None else []
        case "deadline":
            settings += ["limits.round_s"]
        case "dropout" | "lost_upload" | "out_of_memory" if faults and getattr(faults, kind):
            settings += [f"fleet.faults.{kind}"]
        case "no_reply" if study.fleet.availability:
            settings += ["fleet.availability"]
    return outcome.reason + (f"; change {' or '.join(settings)}" if settings else "")
