"""The input of one federated training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from fieldtune.client.contract.messages import Weights
from fieldtune.server.federation.exchange import GoesOn, Situation, Untimed
from fieldtune.server.study.server_options import ServerSection
from fieldtune.server.study.space import Configuration


@dataclass(frozen=True)
class Target:
    """An error, the time to which is measured."""

    error: float
    unreached_h: float
    """What counts as the time of a training that does not reach it."""


@dataclass(frozen=True)
class Plan:
    """The input of one training."""

    trial: int
    configuration: Configuration
    artefact: str
    hyperparameters: Sequence[str]
    """Names of the hyperparameter inputs of the artefact's train signature."""
    initial_weights: Weights
    participants: Sequence[int]
    classes: int
    """0 where the model reconstructs its input."""
    rounds: int
    metric: str
    deadline_s: Mapping[int, float]
    """Client -> time limit of its training in one round, in seconds; absent where there is none."""
    seed: int
    rungs: Sequence[int] = ()
    """Rounds after which all participants evaluate, and ``goes_on`` decides on early stopping."""
    goes_on: GoesOn = lambda rounds, measures: True
    server: ServerSection = field(default_factory=ServerSection)
    secret: bool = False
    """Whether differential privacy is for real, so that its noise may not come from the seed."""
    micro_batch: int = 1
    """Samples of one call of the artefact; a step on a larger batch takes several."""
    trainable: int | None = None
    """Number of weights that are trained, which come first; None: all."""
    on_clipped: Callable[[int, int, float], None] = lambda client, round, times: None
    """Called with the norm of an update that was scaled down, as a multiple of the median."""
    on_norm: Callable[[int, float], None] = lambda client, times: None
    """Called with the norm of each update that is compared with others, as such a multiple."""
    on_opposed: Callable[[int, int, float], None] = lambda client, round, evidence: None
    """Called with the evidence against a client whose update was left out because its updates
    point against those of the others."""
    situation: Situation = field(default_factory=Untimed)
    """The time, and which clients could be asked."""
    expected_s: Mapping[int, float] = field(default_factory=dict)
    """Client -> predicted seconds of one training, transfers included."""
    target: Target | None = None
    study_seed: int = 0
    """The same for all trials of a study."""
    looks: Sequence[int] = ()
    """Rounds after which the model is evaluated, beside the rungs."""
    most_s: float = math.inf
    """Seconds after which no round is begun, and none is waited for."""

    @property
    def has_time(self) -> bool:
        """Whether the training's time is not over."""
        return self.situation.now_s < self.most_s
