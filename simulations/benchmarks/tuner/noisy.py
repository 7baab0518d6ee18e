"""Problems whose results are off by a multiple of what they are off by usually.

How far an evaluation is from the truth is multiplied; of shares on the scale of the logit, so that
they stay shares. Meant for formulas and tables: the truth of real training takes three trainings.
"""

from __future__ import annotations

from scipy.special import expit, logit

from tuner.problem import Changed, Evaluation, Problem, Values

_LEAST = 1e-3
"""Shares nearer to 0 or 1 are taken to be this near."""


class Noisy(Changed):
    """A problem with so many times the noise; 0 is without noise."""

    def __init__(self, problem: Problem, factor: float) -> None:
        super().__init__(problem)
        self._factor = factor

    def evaluate(self, values: Values, rounds: int, seed: int) -> Evaluation:
        """The truth, and a multiple of how far a measurement is from it."""
        true = self._problem.truth(values)
        measured = self._problem.evaluate(values, rounds, seed)
        objectives = tuple(
            self._off(index, *pair)
            for index, pair in enumerate(zip(true.objectives, measured.objectives, strict=True))
        )
        return Evaluation(objectives, measured.constraints, measured.device_s)

    def _off(self, index: int, true: float, measured: float) -> float:
        if measured == true:
            return true
        if index not in self.shares:
            return true + self._factor * (measured - true)
        here, there = (logit(min(max(each, _LEAST), 1 - _LEAST)) for each in (true, measured))
        return float(expit(here + self._factor * (there - here)))
