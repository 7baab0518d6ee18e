"""MO-ASHA: asynchronous successive halving with several objectives, over random configurations.

Schmucker et al. 2021 (arXiv 2106.12639), with one worker: a trial moves to the next rung where it
is among the best 1/eta of its rung by non-dominated sorting, ties broken by how much hypervolume
it adds; otherwise a new configuration enters the lowest rung. A promoted trial is continued, so
only its further rounds are paid for.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fieldtune.server.bo.known import Known
from fieldtune.server.tuner.early_stopping import ranked
from tuner.encode import draw
from tuner.peer import Proposal
from tuner.problem import Evaluation, Problem, Values

ETA = 3


@dataclass
class _Rung:
    rounds: int
    results: dict[int, tuple[float, ...]] = field(default_factory=dict)
    """Training -> objectives."""
    promoted: set[int] = field(default_factory=set)


class MoAsha:
    """Rungs at a ninth, a third and all of the rounds."""

    def __init__(self, problem: Problem, seed: int) -> None:
        self._problem, self._rng = problem, np.random.default_rng([seed, 3])
        rounds = sorted({max(1, problem.rounds // ETA**n) for n in range(3)})
        self._rungs = [_Rung(each) for each in rounds]
        self._values: list[Values] = []
        self._next = 0

    def ask(self) -> Proposal:
        """A promotion from the highest rung that has one, or a new configuration."""
        self._next += 1
        for below, above in reversed(list(zip(self._rungs, self._rungs[1:], strict=False))):
            chosen = self._promotable(below)
            if chosen is not None:
                below.promoted.add(chosen)
                values = self._values[chosen]
                return Proposal(self._next, values, above.rounds, below.rounds, chosen)
        self._values.append(draw(self._problem.space, self._rng))
        training = len(self._values) - 1
        return Proposal(self._next, self._values[training], self._rungs[0].rounds, 0, training)

    def tell(self, proposal: Proposal, evaluation: Evaluation) -> None:
        """The result of a rung; one that misses a limit is never promoted."""
        rung = next(rung for rung in self._rungs if rung.rounds == proposal.rounds)
        if evaluation.feasible:
            rung.results[proposal.seed] = evaluation.objectives

    def reject(self, proposal: Proposal, known: Known) -> None:
        """The next one is drawn anew."""

    def close(self) -> None:
        """Nothing to end."""

    def _promotable(self, rung: _Rung) -> int | None:
        best = len(rung.results) // ETA
        trainings = list(rung.results)
        order = ranked(np.array(list(rung.results.values()))) if best else []
        top = (trainings[index] for index in order[:best])
        return next((training for training in top if training not in rung.promoted), None)
