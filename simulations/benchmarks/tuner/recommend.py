"""Whether what is recommended is as good as promised, and no worse than the defaults.

A study of the product's default size is emulated: its sampler, its repetitions and its decision on
a problem whose truth is known. Costs are known exactly, so only what is learned is at stake.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import moocore
import numpy as np

from fieldtune.profiles.common.estimate import Z95, Estimate
from fieldtune.server.outcomes.decision import Candidate, Decision, decide, next_run
from fieldtune.server.study.decision_options import DecisionSection
from fieldtune.server.study.objectives import Objective
from fieldtune.server.study.space import Configuration, Space, Value
from fieldtune.server.study.tuner_options import FEWEST_PREDICTED
from fieldtune.server.tuner.schedule import AGAIN_EVERY, AGAIN_MOST, VALIDATED
from tuner.encode import draw_allowed
from tuner.optuna_peers import Emulated
from tuner.problem import Evaluation, Problem, Values, ruled_out
from tuner.registry import make_problem

TRIALS = 40
WORSE = (0.01, 0.05)
"""What counts as worse, as shares of the defaults' value."""


@dataclass(frozen=True)
class Verdict:
    """What became of one emulated study.

    Attributes:
        problem, seed: which.
        defaults: whether the defaults themselves were recommended.
        promised: change of the learned objective against the defaults that was promised, as a
            share; below 0 it is better.
        true: what it is really.
        gain: true joint log gain over the defaults, in all objectives.
        possible: the largest one of a configuration that was tried and is no worse by 1 %.
        by_mean: true change of the learned objective, had the configuration been recommended that
            is predicted to be no worse and has the largest joint gain.
        repeats: trials that were repetitions.
    """

    problem: str
    seed: int
    defaults: bool
    promised: float
    true: float
    gain: float
    possible: float
    by_mean: float
    repeats: int


@dataclass(frozen=True)
class _Task:
    """A problem as a study of the product sees it."""

    problem: Problem
    defaults: Values
    objectives: tuple[Objective, ...]
    learned: int

    @classmethod
    def of(cls, problem: Problem) -> _Task:
        space = Space(client=dict(problem.space))
        middle: Values = space.defaults().flat()
        if ruled_out(problem.known(middle)):
            middle = draw_allowed(problem, np.random.default_rng(0))
        (learned,) = set(range(len(problem.objectives))) - set(problem.known(middle).objectives)
        objectives = tuple(
            Objective(name, name, "share" if n in problem.shares else "", learned=n == learned)
            for n, name in enumerate(problem.objectives)
        )
        return cls(problem, middle, objectives, learned)

    def values(self, evaluation: Evaluation) -> tuple[float, ...]:
        """Objectives, a logarithm of a loss undone."""
        found = list(evaluation.objectives)
        if self.objectives[self.learned].name == "log_loss":
            found[self.learned] = 10 ** found[self.learned]
        return tuple(found)


def judge(name: str, seed: int, trials: int = TRIALS) -> Verdict:
    """Emulate a study and hold what it recommends against the truth."""
    task = _Task.of(make_problem(name))
    study = Emulated(task.problem, seed, task.defaults)
    tried: list[Values] = []
    repeats = 0
    for number in range(trials):
        again = _repeated(task, study, tried, number, trials)
        values = study.ask(again)
        tried.append(values)
        evaluation = task.problem.evaluate(values, task.problem.rounds, seed * 100_000 + number)
        study.tell(task.values(evaluation), evaluation.constraints)
        repeats += again is not None and number > 0
    candidates = _candidates(task, study, tried)
    decision = decide(list(candidates.values()), candidates[0], task.objectives, DecisionSection())
    assert decision is not None
    return _verdict(task, seed, tried, decision, repeats)


def _repeated(
    task: _Task, study: Emulated, tried: Sequence[Values], number: int, trials: int
) -> Values | None:
    """The configuration to run again, as the product's schedule has it."""
    runs = sum(values == task.defaults for values in tried)
    if runs <= min(number // AGAIN_EVERY, AGAIN_MOST):
        return task.defaults
    if number < (1 - VALIDATED) * trials or number < FEWEST_PREDICTED:
        return None
    candidates = _candidates(task, study, tried)
    found = next_run(
        list(candidates.values()), candidates[0], task.objectives, DecisionSection(), {},
        last=number == trials - 1,
    )  # fmt: skip
    return None if found is None else tried[found[1]]


def _candidates(task: _Task, study: Emulated, tried: Sequence[Values]) -> dict[int, Candidate]:
    """The front and the defaults, by the number of their first trial."""
    keys = [Configuration({}, dict(values), {}).key for values in tried]
    first: dict[tuple[tuple[str, Value], ...], int] = {}
    for number, key in enumerate(keys):
        first.setdefault(key, number)
    runs = Counter(keys)
    prediction = study.predict(tried)
    middle, low, high = (prediction.at(z).tolist() for z in (0.0, -Z95, Z95))
    found: dict[int, Candidate] = {}
    for identity, number in first.items():
        known = task.problem.known(tried[number])
        if ruled_out(known):
            continue
        values = {
            each.name: Estimate(middle[number], low[number], high[number])
            if n == task.learned
            else Estimate(known.objectives[n], known.objectives[n], known.objectives[n])
            for n, each in enumerate(task.objectives)
        }
        found[number] = Candidate(number, values, runs[identity])
    points = np.array([[e.value for e in each.values.values()] for each in found.values()])
    keep = moocore.is_nondominated(points, keep_weakly=False)
    return {
        number: each
        for (number, each), kept in zip(found.items(), keep, strict=True)
        if kept or number == 0
    }


def _verdict(
    task: _Task, seed: int, tried: Sequence[Values], decision: Decision, repeats: int
) -> Verdict:
    truths = {
        number: np.array(task.values(task.problem.truth(values)))
        for number, values in enumerate(tried)
        if not ruled_out(task.problem.known(values))
    }
    with np.errstate(divide="ignore"):
        logs = {n: np.log(np.maximum(truths[0], 1e-4) / np.maximum(v, 1e-4))
                for n, v in truths.items()}  # fmt: skip
    learned = task.learned

    def change(number: int) -> float:
        return float(math.expm1(-logs[number][learned]))

    chosen = decision.chosen
    number = chosen.candidate.trial
    name = task.objectives[learned].name
    no_worse = [each for each in decision.rated if each.gains[name].log >= 0]
    by_mean = max(no_worse, key=lambda each: sum(g.log for g in each.gains.values()))
    return Verdict(
        task.problem.name,
        seed,
        number == 0,
        math.expm1(-chosen.gains[name].counted),
        change(number),
        float(logs[number].sum()),
        max(float(each.sum()) for n, each in logs.items() if change(n) <= WORSE[0]),
        change(by_mean.candidate.trial),
        repeats,
    )


def worse(changes: Sequence[float], by: float) -> float:
    """The share of these changes that are larger."""
    return float(np.mean([each > by for each in changes]))


def by_problem(verdicts: Sequence[Verdict]) -> Mapping[str, list[Verdict]]:
    """Verdicts of each problem, and of all."""
    found: dict[str, list[Verdict]] = {}
    for each in sorted(verdicts, key=lambda each: (each.problem, each.seed)):
        found.setdefault(each.problem, []).append(each)
    return {**found, "all": list(verdicts)}
