"""A study's budgets in trials, device-hours, joules and bytes sent, and how much is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fieldtune.server.costs.usage import RunningUsage
from fieldtune.server.outcomes.trial import Outcome
from fieldtune.server.study.study_options import StudySection


@dataclass(frozen=True)
class Account:
    """One budget and how much of it is used."""

    name: str
    """The key in the study file."""
    used: float
    of: float

    @property
    def share(self) -> float:
        """The used share; 1 or more where the budget is used up."""
        return self.used / self.of


class Budget:
    """A study ends when any of its budgets is used up; trials in flight are finished.

    Args:
        study: the ``[study]`` section.
    """

    def __init__(self, study: StudySection) -> None:
        self._study, self._usage = study, RunningUsage()

    def accounts(self, trials: int, outcomes: Sequence[Outcome]) -> list[Account]:
        """Used amount of each budget that is set.

        Args:
            trials: number sent to devices so far, including those in flight.
            outcomes: those whose usage counts.
        """
        spent = self._usage.total(outcomes)
        used = {
            "trials": trials,
            "device_hours": spent.device_s / 3600,
            "energy_j": spent.energy_j or 0.0,
            "sent_bytes": spent.sent_bytes,
        }
        caps = {name: getattr(self._study, name) for name in used}
        return [Account(name, used[name], cap) for name, cap in caps.items() if cap is not None]

    def share(self, trials: int, outcomes: Sequence[Outcome]) -> float:
        """Used share of the budget that is closest to exhausted; 1 or more where one is used up."""
        return max(account.share for account in self.accounts(trials, outcomes))
