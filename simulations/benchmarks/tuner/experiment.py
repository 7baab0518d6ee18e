"""One peer on one problem with one seed, and many of them on several cores."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from typing import Any, Self, TypeVar

from tuner.federated import Federated
from tuner.noisy import Noisy
from tuner.peer import Peer, Proposal
from tuner.peers import chosen_peers
from tuner.problem import Evaluation, Problem, Values
from tuner.registry import STUDIES, make_problem
from tuner.scoring import Picker, Tried, by_posterior, by_value, hypervolume, true_hypervolume
from tuner.wrong import Error, Wrong

Found = TypeVar("Found")
CHECKPOINTS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0)
"""Shares of the budget after which a run's recommendation is scored."""


@dataclass(frozen=True)
class Variation:
    """How a problem is changed.

    Args:
        evaluation_share: share of the clients that evaluate; real training only.
        error: how the formulas are wrong, if they are.
        noise: how many times as far results are off; formulas and tables only.
    """

    evaluation_share: float = 1.0
    error: Error | None = None
    noise: float = 1.0


@dataclass(frozen=True)
class Job:
    """All peers on one problem with one seed, so that they share what was evaluated."""

    problem: str
    variation: Variation
    peers: tuple[str, ...]
    seed: int
    trials: int | None
    torch_python: str | None
    curve: bool = True


@dataclass(frozen=True)
class Score:
    """A recommendation's worth at one moment of a run."""

    paid: float
    """Full evaluations paid for."""
    device_s: float
    true: float
    claimed: float


@dataclass(frozen=True)
class Outcome:
    """What became of one run."""

    problem: str
    variation: Variation
    peer: str
    seed: int
    curve: tuple[Score, ...]
    """By the peer's own pick; the last one is the run's score."""
    value_pick: Score
    """At the end, had it recommended what measured best."""
    posterior_pick: Score
    """At the end, had it recommended by the judge's model."""
    evaluations: int
    infeasible: int
    """Evaluations that missed a limit."""
    tried: tuple[tuple[Values, tuple[float, ...]], ...] = ()
    """Each configuration with the objectives as measured, in order."""

    @property
    def final(self) -> Score:
        """At the end of the budget."""
        return self.curve[-1]


def run(problem: Problem, peer: Peer, seed: int, trials: int) -> list[Tried]:
    """Ask, try and tell until so many full evaluations are paid for."""
    tried: list[Tried] = []
    paid_rounds, device_s = 0, 0.0
    while paid_rounds < trials * problem.rounds:
        proposal = peer.ask()
        training = seed * 100_000 + proposal.seed
        values, evaluation = _try(problem, proposal, training)
        # What an earlier rung ran is not run again; time grows with rounds.
        new_rounds = proposal.rounds - proposal.paid_rounds
        paid_rounds += new_rounds
        device_s += evaluation.device_s * new_rounds / proposal.rounds
        paid = paid_rounds / problem.rounds
        tried.append(Tried(values, proposal.rounds, evaluation, paid, device_s))
        peer.tell(proposal, evaluation)
    return tried


def _try(problem: Problem, proposal: Proposal, training: int) -> tuple[Values, Evaluation]:
    """What was tried in the end, and what it taught."""
    if proposal.explores is None:
        return proposal.values, problem.evaluate(proposal.values, proposal.rounds, training)
    assert isinstance(problem, Federated), "only clients of a training explore"
    return problem.explore(proposal.values, proposal.rounds, training, proposal.explores)


def score(problem: Problem, tried: Sequence[Tried], pick: Picker) -> Score:
    """What is recommended after these evaluations, and its worth."""
    picked = pick(problem, tried)
    claimed = hypervolume(problem.reference, picked.claimed) if picked.values else 0.0
    last = tried[-1]
    return Score(last.paid, last.device_s, true_hypervolume(problem, picked.values), claimed)


def until(tried: Sequence[Tried], paid: float) -> Sequence[Tried]:
    """The evaluations that this budget pays for; at least one."""
    return [each for each in tried if each.paid <= paid + 1e-9] or tried[:1]


@cache
def problem_of(name: str, variation: Variation) -> Problem:
    """The problem, made once a process."""
    if variation.evaluation_share != 1.0:
        return Federated(STUDIES / f"{name}.toml", evaluation_share=variation.evaluation_share)
    problem = make_problem(name)
    if variation.error:
        problem = Wrong(problem, variation.error)
    return problem if variation.noise == 1.0 else Noisy(problem, variation.noise)


def work(job: Job) -> tuple[list[Outcome], list[str]]:
    """Do a job; also why some peers were left out."""
    problem = problem_of(job.problem, job.variation)
    trials = job.trials or problem.trials
    outcomes, notes = [], []
    for entry in chosen_peers(list(job.peers)):
        why = entry.unavailable(problem, job.torch_python)
        if why:
            notes.append(f"{entry.name} is left out: {why}")
            continue
        peer = entry.make(problem, job.seed, job.torch_python)
        try:
            tried = run(problem, peer, job.seed, trials)
        finally:
            peer.close()
        pick = by_posterior if entry.posterior else by_value
        shares = CHECKPOINTS if job.curve else (1.0,)
        outcomes.append(
            Outcome(
                problem=job.problem,
                variation=job.variation,
                peer=entry.name,
                seed=job.seed,
                curve=tuple(score(problem, until(tried, at * trials), pick) for at in shares),
                value_pick=score(problem, tried, by_value),
                posterior_pick=score(problem, tried, by_posterior),
                evaluations=len(tried),
                infeasible=sum(not each.evaluation.feasible for each in tried),
                tried=tuple((each.values, each.evaluation.objectives) for each in tried),
            )
        )
    return outcomes, notes


class Workers:
    """Processes that do jobs, kept from one part of the benchmark to the next."""

    def __init__(self, count: int) -> None:
        # One thread each: BLAS would otherwise take all cores in every process.
        for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ.setdefault(variable, "1")
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(count, mp_context=context)
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def map(self, function: Callable[..., Found], jobs: Sequence[tuple[Any, ...]]) -> list[Found]:
        """Call a function with each tuple of arguments; results in the order of the jobs."""
        futures = [self._pool.submit(function, *job) for job in jobs]
        found = []
        for done, future in enumerate(futures, start=1):
            found.append(future.result())
            elapsed_s = time.monotonic() - self._began
            print(f"{done}/{len(jobs)} · {elapsed_s:.0f} s", file=sys.stderr)
        return found

    def do(self, jobs: Sequence[Job]) -> Iterator[tuple[list[Outcome], list[str]]]:
        """Outcomes and notes in the order in which jobs end; progress on stderr."""
        futures = {self._pool.submit(work, job): job for job in jobs}
        for done, future in enumerate(as_completed(futures), start=1):
            job, elapsed_s = futures[future], time.monotonic() - self._began
            found = future.result()
            print(
                f"{done}/{len(jobs)} {job.problem}, seed {job.seed} · {elapsed_s:.0f} s",
                file=sys.stderr,
            )
            yield found
