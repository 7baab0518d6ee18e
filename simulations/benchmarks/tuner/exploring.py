"""FedEx: random search over what the server decides, each training of which tunes its clients."""

from __future__ import annotations

from dataclasses import replace

from fieldtune.server.study.tuner_options import Fedex
from tuner.optuna_peers import OptunaPeer, random
from tuner.peer import Filtered, Proposal
from tuner.problem import Problem


class FedexPeer(Filtered):
    """The product's own FedEx, with its defaults, around filtered random proposals.

    Khodak et al. 2021 (arXiv 2106.04502).
    """

    def __init__(self, problem: Problem, seed: int, options: Fedex | None = None) -> None:
        super().__init__(OptunaPeer(problem, random, seed), problem)
        self._options = options or Fedex()

    def ask(self) -> Proposal:
        """A random proposal, to be explored around."""
        return replace(super().ask(), explores=self._options)
