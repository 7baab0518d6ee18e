"""Peers that start with what an earlier study found: related to the problem, or not at all.

The earlier study is a run of ours, without a rung, on a related problem with a seed of its own, as
long as that problem's budget. Of real training that is the same task with its data dealt out to
other clients, and other initial weights; of HPOLib's tables another regression set. ``permuted``
and ``opposed`` are the same study with its learned results in random order, and turned upside down:
what the worst of earlier studies would teach. What the earlier study cost is not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from fieldtune.server.bo.transfer import Earlier
from fieldtune.server.tuner.optuna_terms import distribution
from tuner import optuna_peers
from tuner.federated import Federated
from tuner.peer import Peer, Proposal
from tuner.problem import Evaluation, Problem, learned
from tuner.registry import STUDIES, make_problem

RELATED = {
    "hpolib-naval": "hpolib-parkinsons",
    "hpolib-parkinsons": "hpolib-slice",
    "hpolib-slice": "hpolib-protein",
    "hpolib-protein": "hpolib-naval",
}
"""Tables -> another of which the earlier study was."""

OTHER_DATA = {"digits": "har", "har": "spoken", "spoken": "har"}
"""Real training -> a study of other data on other devices, with parameters in common."""

_EARLIER_SEED = 500
"""Added to the seed of a run to give that of the study before it."""

Tell = Callable[[np.ndarray], np.ndarray]


def has_related(problem: str) -> bool:
    """Whether there is a study that may have been run before this one."""
    return problem in RELATED or problem in OTHER_DATA


def after_related(problem: Problem, seed: int, python: str | None) -> Peer:
    """Ours, after the same task on other clients, or a related one."""
    return _after(problem, seed, [_earlier(problem.name, seed)])


def after_other_data(problem: Problem, seed: int, python: str | None) -> Peer:
    """Ours, after a study of other data on other devices."""
    return _after(problem, seed, [_run(OTHER_DATA[problem.name], seed, None)])


def after_permuted(problem: Problem, seed: int, python: str | None) -> Peer:
    """Ours, after a study whose learned results are in random order."""
    shuffle = np.random.default_rng([seed, 13]).permutation
    return _after(problem, seed, [_changed(_earlier(problem.name, seed), shuffle)])


def after_opposed(problem: Problem, seed: int, python: str | None) -> Peer:
    """Ours, after a study in which what is good here was bad."""
    upside_down: Tell = lambda values: values.min() + values.max() - values  # noqa: E731
    return _after(problem, seed, [_changed(_earlier(problem.name, seed), upside_down)])


def after_both(problem: Problem, seed: int, python: str | None) -> Peer:
    """Ours, after a related study and one in random order."""
    shuffle = np.random.default_rng([seed, 13]).permutation
    related = _earlier(problem.name, seed)
    return _after(problem, seed, [_changed(related, shuffle), related])


def _after(problem: Problem, seed: int, earlier: list[Earlier]) -> Peer:
    return optuna_peers.as_product(problem, optuna_peers.grey_after(earlier), seed)


def _earlier(problem: str, seed: int) -> Earlier:
    if problem in RELATED:
        return _run(RELATED[problem], seed, None)
    return _run(problem, seed, _EARLIER_SEED)


@cache
def _run(problem: str, seed: int, data_seed: int | None) -> Earlier:
    """What a study of this problem leaves to later ones."""
    source = _source(problem, data_seed)
    peer = optuna_peers.OptunaPeer(source, optuna_peers.grey, seed + _EARLIER_SEED)
    tried: list[tuple[Proposal, Evaluation]] = []
    while len(tried) < source.trials:
        proposal = peer.ask()
        training = (seed + _EARLIER_SEED) * 100_000 + proposal.seed
        tried.append((proposal, source.evaluate(proposal.values, source.rounds, training)))
        peer.tell(*tried[-1])
    uncertain = learned(source, source.known(tried[0][0].values))
    return Earlier(
        {name: distribution(each) for name, each in source.space.items()},
        [proposal.values for proposal, _ in tried],
        {n: [evaluation.objectives[n] for _, evaluation in tried] for n in uncertain},
    )


@cache
def _source(problem: str, data_seed: int | None) -> Problem:
    if data_seed is None:
        return make_problem(problem)
    return Federated(STUDIES / f"{problem}.toml", data_seed=data_seed)


def _changed(earlier: Earlier, change: Tell) -> Earlier:
    return Earlier(
        earlier.space,
        earlier.configurations,
        {n: change(np.array(values)).tolist() for n, values in earlier.values.items()},
    )
