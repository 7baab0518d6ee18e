"""Who is compared: the table of peers, and what each of them needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fieldtune.profiles.common.errors import UsageError, did_you_mean
from tuner import optuna_peers, warm
from tuner.asha import MoAsha
from tuner.exploring import FedexPeer
from tuner.federated import Federated
from tuner.peer import Filtered, Peer
from tuner.problem import Problem
from tuner.remote import Botorch, RemoteGp, missing

Make = Callable[[Problem, int, str | None], Peer]
"""``(problem, seed, interpreter with torch) -> peer``."""

OURS = "grey"


@dataclass(frozen=True)
class Entry:
    """One peer.

    Args:
        name: what tables call it.
        make: a fresh one.
        optuna: whether it is a sampler that comes with Optuna, without the formulas.
        needs: packages that only the interpreter with torch has.
        posterior: whether it recommends by a model; otherwise by what measured best.
    """

    name: str
    make: Make
    optuna: bool = False
    needs: tuple[str, ...] = ()
    posterior: bool = False

    def unavailable(self, problem: Problem, python: str | None) -> str | None:
        """Why it cannot take part, in a sentence; None where it can."""
        if self.name == "mo-asha" and problem.rounds == 1:
            return f"{problem.name} has no partial evaluations"
        if self.name == "grey, no rung" and not optuna_peers.rung(problem):
            return f"{problem.name} has no rung, so it is grey itself"
        if self.make is _fedex and not isinstance(problem, Federated):
            return f"{problem.name} has no clients to try several configurations"
        if self.make is warm.after_other_data and problem.name not in warm.OTHER_DATA:
            return f"{problem.name} has no study of other data beside it"
        return missing(python, self.needs) if self.needs else None


def _sampler(make: optuna_peers.MakeSampler, *, filtered: bool = False) -> Make:
    def made(problem: Problem, seed: int, python: str | None) -> Peer:
        peer: Peer = optuna_peers.OptunaPeer(problem, make, seed)
        return Filtered(peer, problem) if filtered else peer

    return made


def _informed(problem: Problem, seed: int, python: str | None) -> Peer:
    return Botorch(problem, seed, python, informed=True)


def _fedex(problem: Problem, seed: int, python: str | None) -> Peer:
    return FedexPeer(problem, seed)


PEERS = (
    Entry("random", _sampler(optuna_peers.random), optuna=True),
    Entry("nsga2", _sampler(optuna_peers.nsga2), optuna=True),
    Entry("tpe", _sampler(optuna_peers.tpe), optuna=True),
    Entry("gp", RemoteGp, optuna=True, needs=("torch", "scipy", "optuna")),
    Entry("random+filter", _sampler(optuna_peers.random, filtered=True)),
    Entry("tpe+filter", _sampler(optuna_peers.tpe_multivariate, filtered=True)),
    Entry("mo-asha", lambda problem, seed, _: Filtered(MoAsha(problem, seed), problem)),
    Entry("fedex", _fedex),
    Entry("botorch", Botorch, needs=("torch", "botorch"), posterior=True),
    Entry("botorch, informed", _informed, needs=("torch", "botorch"), posterior=True),
    Entry("grey, no rung", _sampler(optuna_peers.grey), posterior=True),
    Entry(
        OURS,
        lambda problem, seed, _: optuna_peers.as_product(problem, optuna_peers.grey, seed),
        posterior=True,
    ),
)

WARM = (
    Entry("grey, after related", warm.after_related, posterior=True),
    Entry("grey, after other data", warm.after_other_data, posterior=True),
    Entry("grey, after both", warm.after_both, posterior=True),
    Entry("grey, after permuted", warm.after_permuted, posterior=True),
    Entry("grey, after opposed", warm.after_opposed, posterior=True),
)
"""Ours with earlier studies; compared with ours without, and not by default."""


def chosen_peers(names: list[str]) -> list[Entry]:
    """The peers of these names, or all.

    Raises:
        UsageError: a name is not known.
    """
    known = {entry.name: entry for entry in (*PEERS, *WARM)}
    for name in names:
        if name not in known:
            raise UsageError(
                f"the peer {name} is not known{did_you_mean(name, known)}: give one of "
                f"{', '.join(known)}"
            )
    return [known[name] for name in names] if names else list(PEERS)
