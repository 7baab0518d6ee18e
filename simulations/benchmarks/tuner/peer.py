"""The seam between the judge and whoever proposes configurations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from fieldtune.server.bo.known import Known
from fieldtune.server.study.tuner_options import Fedex
from tuner.problem import Evaluation, Problem, Values, ruled_out

MOST_REJECTIONS = 200
"""So many proposals in a row ruled out by formulas, and the next is tried all the same."""


@dataclass(frozen=True)
class Proposal:
    """What a peer wants tried.

    Args:
        number: the peer's own, to tell it apart.
        values: the configuration.
        rounds: for how long.
        paid_rounds: how many of them were run for an earlier proposal of the same ``seed``.
        seed: index of the training; the same index continues the same one.
        explores: how the training itself chooses other values nearby, where it does.
    """

    number: int
    values: Values
    rounds: int
    paid_rounds: int
    seed: int
    explores: Fedex | None = None


class Peer(Protocol):
    """Proposes configurations and learns what became of them."""

    def ask(self) -> Proposal:
        """The next one to try."""

    def tell(self, proposal: Proposal, evaluation: Evaluation) -> None:
        """What trying it taught."""

    def reject(self, proposal: Proposal, known: Known) -> None:
        """Formulas rule it out: it is not tried, and costs nothing."""

    def close(self) -> None:
        """End what the peer started."""


class Filtered:
    """A peer whose proposals are held against the formulas before they cost anything."""

    def __init__(self, peer: Peer, problem: Problem) -> None:
        self._peer, self._problem = peer, problem

    def ask(self) -> Proposal:
        """The peer's next proposal that the formulas allow."""
        for _ in range(MOST_REJECTIONS):
            proposal = self._peer.ask()
            known = self._problem.known(proposal.values)
            if not ruled_out(known):
                return proposal
            self._peer.reject(proposal, known)
        return self._peer.ask()

    def tell(self, proposal: Proposal, evaluation: Evaluation) -> None:
        """Passed on."""
        self._peer.tell(proposal, evaluation)

    def reject(self, proposal: Proposal, known: Known) -> None:
        """Passed on."""
        self._peer.reject(proposal, known)

    def close(self) -> None:
        """Passed on."""
        self._peer.close()
