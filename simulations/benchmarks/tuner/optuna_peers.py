"""Peers that are Optuna samplers, our own among them: the one module that imports Optuna."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import optuna

from fieldtune.server.bo import Earlier, GreySampler, Known
from fieldtune.server.bo import trial_rows as history
from fieldtune.server.bo.objective_model import Prediction
from fieldtune.server.tuner.early_stopping import among_best
from fieldtune.server.tuner.optuna_terms import distribution
from tuner.peer import Peer, Proposal
from tuner.problem import Evaluation, Problem, Values

REDUCTION = 3.0
"""One in so many goes on from a rung, as the product's default."""

MakeSampler = Callable[[Problem, int], optuna.samplers.BaseSampler]
"""``(problem, seed) -> sampler``."""


def new_study(problem: Problem, sampler: optuna.samplers.BaseSampler) -> optuna.Study:
    """An empty study of a problem, in memory."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(directions=["minimize"] * len(problem.objectives), sampler=sampler)


class Emulated:
    """The product's sampler in a study in memory, whose configurations may be repeated."""

    def __init__(self, problem: Problem, seed: int, defaults: Values) -> None:
        self._space = {name: distribution(each) for name, each in problem.space.items()}
        with _quiet():
            self._sampler = GreySampler(
                known=problem.known, seed=seed, space=self._space, beat=defaults
            )
            self._study = new_study(problem, self._sampler)
        self._open: optuna.Trial | None = None

    def ask(self, again: Values | None = None) -> Values:
        """The configuration to run again, or the sampler's next one."""
        with _quiet():
            if again is not None:
                self._study.enqueue_trial(dict(again))
            self._open = self._study.ask(self._space)
        return self._open.params

    def tell(self, objectives: Sequence[float], constraints: Mapping[str, float]) -> None:
        """What it came to."""
        assert self._open is not None
        with _quiet():
            for name, value in constraints.items():
                self._open.set_constraint(name, value)
            self._study.tell(self._open, list(objectives))

    def predict(self, tried: Sequence[Values]) -> Prediction:
        """What the learned objective of every trial so far is predicted to be."""
        with _quiet():
            found = self._sampler.predict(self._study, dict(enumerate(tried)))
        (prediction,) = (each for each in found if each is not None)
        return prediction


class OptunaPeer:
    """A sampler in a study in memory, told as Optuna documents it.

    A rejected proposal is told as failed, which samplers ignore: it taught nothing about training.
    """

    def __init__(self, problem: Problem, make: MakeSampler, seed: int) -> None:
        self._problem = problem
        self._distributions = {name: distribution(each) for name, each in problem.space.items()}
        with _quiet():
            self.study = new_study(problem, make(problem, seed))
        self._open: dict[int, optuna.Trial] = {}

    def ask(self) -> Proposal:
        """The sampler's next trial."""
        with _quiet():
            trial = self.study.ask(self._distributions)
        self._open[trial.number] = trial
        return Proposal(trial.number, trial.params, self._problem.rounds, 0, trial.number)

    def tell(self, proposal: Proposal, evaluation: Evaluation) -> None:
        """Constraints first, in one order, then the objectives."""
        trial = self._open.pop(proposal.number)
        with _quiet():
            for name, value in evaluation.constraints.items():
                trial.set_constraint(name, value)
            self.study.tell(trial, list(evaluation.objectives))

    def stop(self, proposal: Proposal, evaluation: Evaluation) -> None:
        """A pruned trial."""
        trial = self._open.pop(proposal.number)
        with _quiet():
            for name, value in evaluation.constraints.items():
                trial.set_constraint(name, value)
            self.study.tell(trial, state=optuna.trial.TrialState.PRUNED)

    def annotate(self, number: int, key: str, value: object) -> None:
        """Note something about an open trial."""
        self._open[number].set_user_attr(key, value)

    def reject(self, proposal: Proposal, known: Known) -> None:
        """A failed trial."""
        self.study.tell(self._open.pop(proposal.number), state=optuna.trial.TrialState.FAIL)

    def close(self) -> None:
        """Nothing to end."""


def rung(problem: Problem) -> int:
    """The round after which the product compares trials where it counts costs; 0 for none."""
    return problem.rounds // 3


class RungPeer:
    """The same, with one rung as the product has it.

    A trial that goes on is continued, so only its further rounds are paid for.
    """

    def __init__(self, problem: Problem, make: MakeSampler, seed: int) -> None:
        self._peer, self._problem = OptunaPeer(problem, make, seed), problem
        self._rung = rung(problem)
        assert self._rung, "too few rounds for a rung"
        self._there: dict[int, tuple[float, ...]] = {}
        self._going_on: Proposal | None = None

    def ask(self) -> Proposal:
        """The rest of the trial that goes on, or a new one up to the rung."""
        proposal, self._going_on = self._going_on, None
        return proposal or replace(self._peer.ask(), rounds=self._rung)

    def tell(self, proposal: Proposal, evaluation: Evaluation) -> None:
        """At the rung it goes on or is stopped; a trial with all its rounds is complete."""
        number = proposal.number
        if proposal.rounds == self._problem.rounds:
            partial = self._partial(self._there[number])
            self._peer.annotate(number, history.CURVE_KEY, [partial])
            self._peer.tell(proposal, evaluation)
            return
        others = np.array(list(self._there.values()))
        self._there[number] = evaluation.objectives
        if among_best(np.array(evaluation.objectives), others, REDUCTION):
            whole = self._problem.rounds
            self._going_on = replace(proposal, rounds=whole, paid_rounds=self._rung)
            return
        self._peer.annotate(number, history.PARTIAL_KEY, self._partial(evaluation.objectives))
        self._peer.stop(proposal, evaluation)

    def reject(self, proposal: Proposal, known: Known) -> None:
        """Passed on."""
        self._peer.reject(proposal, known)

    def close(self) -> None:
        """Nothing to end."""

    def _partial(self, objectives: Sequence[float]) -> dict[str, Any]:
        return {"share": self._rung / self._problem.rounds, "values": list(objectives)}


def as_product(problem: Problem, make: MakeSampler, seed: int) -> Peer:
    """A sampler with the rung that it has in a study whose budget is in device time."""
    kind = RungPeer if rung(problem) else OptunaPeer
    return kind(problem, make, seed)


def random(problem: Problem, seed: int) -> optuna.samplers.BaseSampler:
    """Uniform."""
    return optuna.samplers.RandomSampler(seed=seed)


def nsga2(problem: Problem, seed: int) -> optuna.samplers.BaseSampler:
    """Deb et al. 2002, constrained; the population fits budgets of some dozens."""
    return optuna.samplers.NSGAIISampler(population_size=20, seed=seed)


def tpe(problem: Problem, seed: int) -> optuna.samplers.BaseSampler:
    """As Optuna comes."""
    return optuna.samplers.TPESampler(seed=seed)


def tpe_multivariate(problem: Problem, seed: int) -> optuna.samplers.BaseSampler:
    """All parameters jointly: the stronger variant, for where the filter is."""
    return optuna.samplers.TPESampler(seed=seed, multivariate=True)


def gp(problem: Problem, seed: int) -> optuna.samplers.BaseSampler:
    """Optuna's Gaussian process; needs torch."""
    return optuna.samplers.GPSampler(seed=seed, deterministic_objective=False)


def grey(problem: Problem, seed: int) -> optuna.samplers.BaseSampler:
    """Ours, given the formulas."""
    return grey_after([])(problem, seed)


def grey_without_formulas(problem: Problem, seed: int) -> optuna.samplers.BaseSampler:
    """Ours, which learns every objective and every limit."""
    space = {name: distribution(each) for name, each in problem.space.items()}
    return GreySampler(seed=seed, space=space)


def grey_after(earlier: Sequence[Earlier]) -> MakeSampler:
    """Ours, given the formulas and what earlier studies found."""
    return lambda problem, seed: _grey(problem, seed, earlier)


def _grey(problem: Problem, seed: int, earlier: Sequence[Earlier]) -> optuna.samplers.BaseSampler:
    space = {name: distribution(each) for name, each in problem.space.items()}
    return GreySampler(known=problem.known, seed=seed, space=space, prior=earlier)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's notices that something is experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
