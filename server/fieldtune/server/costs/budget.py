"""How much a study may spend, and whether it has: in trials, device-hours, joules or bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fieldtune.server.costs.usage import altogether
from fieldtune.server.outcomes.trial import Outcome
from fieldtune.server.study.config import StudySection


@dataclass(frozen=True)
class Account:
    """One of the things that a study may spend."""

    name: str
    """As the study file has it."""
    used: float
    of: float

    @property
    def share(self) -> float:
        """Of the budget, what is used."""
        return self.used / self.of


class Budget:
    """A study ends when any of its budgets is used up; trials in flight then still end.

    Args:
        study: the ``[study]`` section.
    """

    def __init__(self, study: StudySection) -> None:
        self._study = study

    def accounts(self, trials: int, outcomes: Sequence[Outcome]) -> list[Account]:
        """How each budget that is set stands.

        Args:
            trials: sent to devices so far, those in flight among them.
            outcomes: whose expenses count.
        """
        spent = altogether(outcomes)
        used = {
            "trials": trials,
            "device_hours": spent.device_s / 3600,
            "energy_j": spent.energy_j or 0.0,
            "sent_bytes": spent.sent_bytes,
        }
        caps = {name: getattr(self._study, name) for name in used}
        return [Account(name, used[name], cap) for name, cap in caps.items() if cap is not None]

    def share(self, trials: int, outcomes: Sequence[Outcome]) -> float:
        """Of the budget that is nearest to its end, what is used; 1 or more where it is spent."""
        return max(account.share for account in self.accounts(trials, outcomes))
