"""What a trial may know of the others: those that had been told when it was asked for.

Several trials are in flight, and clients answer in any order. So what counts follows from the
trials' numbers alone, and the same seed gives the same study however fast the clients are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from fieldtune.server.costs.architecture_costs import Calibration
from fieldtune.server.costs.budget import Budget
from fieldtune.server.costs.calibration import corrections, known_before
from fieldtune.server.costs.cost_model import CostModel
from fieldtune.server.costs.rescore import rescore
from fieldtune.server.outcomes.trial import Infeasible, Outcome
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.tuner import Tuner

PATIENCE = 100
"""So many proposals in a row ruled out by the limits, and the whole space is looked at."""


class Knowledge:
    """The state of a study as its next trial may know it.

    Args:
        study: its budget and limits.
        tuner: remembers the outcomes.
        costs: the study's cost model.
    """

    def __init__(self, study: StudyConfig, tuner: Tuner, costs: CostModel) -> None:
        self._study, self._tuner, self._costs = study, tuner, costs
        self._budget, self._share = Budget(study.study), math.nan
        self._calibrated: tuple[int, Calibration] = (-1, {})
        self._ruled_out: set[int] = set()
        """Since the whole space was last looked at."""
        for outcome in tuner.history():
            if isinstance(outcome, Infeasible):
                self.exhausts_patience(outcome.proposal.number)

    def told_before(self, number: float, in_flight: Iterable[int]) -> list[Outcome]:
        """Outcomes of trials sent to devices that a trial may know; infinity is the next one."""
        parallel = self._study.study.parallel
        return known_before(number, self._tuner.history(), set(in_flight), parallel)

    def calibration(self, number: float, in_flight: Iterable[int]) -> Calibration:
        """By what devices had reported when a trial was asked for."""
        known = self.told_before(number, in_flight)
        if len(known) != self._calibrated[0]:  # trials sent to devices only ever grow in number
            self._calibrated = len(known), corrections(known)
        return self._calibrated[1]

    def evaluated(self, number: float, in_flight: Iterable[int]) -> list[Outcome]:
        """The outcomes that a trial may know, re-evaluated by its calibration."""
        known = self.told_before(number, in_flight)
        return rescore(known, self._costs, self.calibration(number, in_flight))

    def sent(self) -> int:
        """Trials that were told and not ruled out: those that count in a budget of trials."""
        return sum(not isinstance(each, Infeasible) for each in self._tuner.history())

    def budget_used(self, in_flight: Iterable[int]) -> float:
        """Of the budget that is nearest to its end, what is used; 1 or more where it is spent."""
        if math.isnan(self._share):
            flying = set(in_flight)
            told = self.told_before(math.inf, flying)
            self._share = self._budget.share(self.sent() + len(flying), told)
        return self._share

    def changed(self) -> None:
        """A trial was started or told: what is used of the budget is to be looked up again."""
        self._share = math.nan

    def exhausts_patience(self, number: int) -> bool:
        """Count one more that is ruled out; whether so many in a row are that one looks further."""
        self._ruled_out.add(number)
        if not self._ruled_out.issuperset(range(number - PATIENCE + 1, number + 1)):
            return False
        self._ruled_out.clear()
        return True
