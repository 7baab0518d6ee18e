"""How much a study may spend, and whether it has: in trials, device-hours, joules or bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fieldtune.server.expense import altogether
from fieldtune.server.report.format import figure
from fieldtune.server.study import StudySection
from fieldtune.server.trials import Outcome


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

    @property
    def sentence(self) -> str:
        """``12/40``, or ``31 % of 20 device-hours``."""
        if self.name == "trials":
            return f"{self.used:g}/{self.of:g}"
        return f"{100 * self.share:.0f} % of {self.whole}"

    @property
    def whole(self) -> str:
        """The budget itself: ``20 device-hours``, ``1.5 kJ``, ``24 MiB sent``."""
        if self.name in ("trials", "device_hours"):
            return f"{self.of:g} {self.name.replace('_', '-')}"
        return figure(self.name, self.of) + (" sent" if self.name == "sent_bytes" else "")


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
