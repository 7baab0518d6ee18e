"""What the tuner and the cost model may know when a trial is proposed.

Several trials are in flight, and clients answer in any order. Which outcomes count as finished
before a trial therefore follows from the trials' numbers alone, and the same seed gives the same
study however fast the clients are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from fieldtune.server.costs.architecture_costs import Calibration
from fieldtune.server.costs.budget import Budget
from fieldtune.server.costs.calibration import Calibrator, finished_before, was_sent
from fieldtune.server.costs.cost_model import CostModel
from fieldtune.server.costs.rescore import Rescorer
from fieldtune.server.outcomes.trial import Infeasible, Outcome
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.tuner import Tuner

INFEASIBLE_IN_A_ROW = 100
"""After this many infeasible proposals in a row, a sample of the whole space is searched for a
feasible one."""


class Knowledge:
    """Outcomes, calibration and used budget, as known to a given trial or to the next one.

    Trials are given by number; ``math.inf`` stands for the next one. ``in_flight`` are the numbers
    of the trials that are being trained.

    Args:
        study: its budget, limits and number of parallel trials.
        tuner: keeps the outcomes.
        costs: the study's cost model.
    """

    def __init__(self, study: StudyConfig, tuner: Tuner, costs: CostModel) -> None:
        self._study, self._tuner = study, tuner
        self._calibrator, self._rescorer = Calibrator(), Rescorer(costs)
        self._budget, self._share = Budget(study.study), math.nan
        self._calibrated: tuple[int, Calibration] = (-1, {})
        self._history: Sequence[Outcome] = ()
        self._sent, self._not_infeasible = list[Outcome](), 0
        """Of ``_history``: the trials that were sent to devices; the number of all but infeasible
        ones."""
        self._finished: dict[tuple[float, frozenset[int]], list[Outcome]] = {}
        """What was found since a trial was started or told."""
        self._infeasible: set[int] = set()
        """Numbers of infeasible trials since the whole space was last searched."""
        for outcome in tuner.history():
            if isinstance(outcome, Infeasible):
                self.many_infeasible(outcome.proposal.number)

    def finished_before(self, number: float, in_flight: Iterable[int]) -> list[Outcome]:
        """Outcomes that were known when a trial was proposed, without infeasible ones."""
        at = number, frozenset(in_flight)
        if at not in self._finished:
            parallel = self._study.study.parallel
            self._finished[at] = finished_before(number, self._told()[0], at[1], parallel)
        return self._finished[at]

    def calibration(self, number: float, in_flight: Iterable[int]) -> Calibration:
        """Fitted to what devices had reported when a trial was proposed."""
        finished = self.finished_before(number, in_flight)
        if len(finished) != self._calibrated[0]:  # outcomes are only ever added
            self._calibrated = len(finished), self._calibrator.corrections(finished)
        return self._calibrated[1]

    def rescored_before(self, number: float, in_flight: Iterable[int]) -> list[Outcome]:
        """The outcomes of :meth:`finished_before`, re-evaluated with :meth:`calibration`."""
        finished = self.finished_before(number, in_flight)
        return self._rescorer.rescore(finished, self.calibration(number, in_flight))

    def sent(self) -> int:
        """Number of finished trials without infeasible ones: what ``study.trials`` counts."""
        return self._told()[1]

    def _told(self) -> tuple[list[Outcome], int]:
        """Outcomes of trials that were sent, and the number of all but infeasible ones."""
        history, seen = self._tuner.history(), len(self._history)
        if history[:seen] != self._history:  # compares by identity first
            self._sent, self._not_infeasible, seen = [], 0, 0
        further = history[seen:]
        self._sent += [each for each in further if was_sent(each)]
        self._not_infeasible += sum(not isinstance(each, Infeasible) for each in further)
        self._history = history
        return self._sent, self._not_infeasible

    def budget_used(self, in_flight: Iterable[int]) -> float:
        """Used share of the budget that is closest to exhausted; 1 or more where one is used up."""
        if math.isnan(self._share):
            numbers = set(in_flight)
            finished = self.finished_before(math.inf, numbers)
            self._share = self._budget.share(self.sent() + len(numbers), finished)
        return self._share

    def trials_changed(self) -> None:
        """A trial was started or told: what is known is found anew."""
        self._share = math.nan
        self._finished.clear()

    def many_infeasible(self, number: int) -> bool:
        """Note an infeasible trial; whether it completes ``INFEASIBLE_IN_A_ROW`` in a row.

        Where it does, counting starts anew.
        """
        self._infeasible.add(number)
        if not self._infeasible.issuperset(range(number - INFEASIBLE_IN_A_ROW + 1, number + 1)):
            return False
        self._infeasible.clear()
        return True
