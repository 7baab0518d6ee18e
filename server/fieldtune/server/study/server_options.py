"""``[server]``: whom the coordinator asks, when a round ends, how updates become one model."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, field_validator

from fieldtune.profiles.common.errors import did_you_mean
from fieldtune.server.study.section import Section

Rule = Literal["mean", "trimmed_mean", "median", "krum", "multi_krum", "qfedavg"]
RULES: tuple[Rule, ...] = get_args(Rule)
Mode = Literal["sync", "buffered", "async"]
Selection = Literal["uniform", "available", "tiers", "oort"]

USED_BY_MODE: dict[str, tuple[Mode, ...]] = {
    "over_selection": ("sync",),
    "concurrency": ("buffered", "async"),
    "buffer_size": ("buffered",),
    "staleness_exponent": ("buffered", "async"),
    "mixing": ("async",),
}
"""Parameter of ``[space.server]`` -> the modes that use it; a parameter left out here: all."""
USED_BY_SELECTION: dict[str, tuple[Selection, ...]] = {
    "tiers": ("tiers",),
    "exploration": ("oort",),
    "speed_weight": ("oort",),
}
"""The same for ways of selection."""
USED_BY_OPTIMIZER: dict[str, tuple[str, ...]] = {
    "server_beta_1": ("yogi", "adam"),
    "server_beta_2": ("yogi", "adam"),
    "server_tau": ("adagrad", "yogi", "adam"),
}
"""The same for server optimizers."""

_CALLED = {
    "fedavg": "server.aggregation = 'mean'",
    "fedavgm": "space.server.server_momentum above 0",
    "fedadagrad": "space.server.server_optimizer = 'adagrad'",
    "fedadam": "space.server.server_optimizer = 'adam'",
    "fedyogi": "space.server.server_optimizer = 'yogi'",
    "fedprox": "space.client.proximal above 0",
    "scaffold": "space.client.drift_correction = 'scaffold'",
    "q-fedavg": "server.aggregation = 'qfedavg'",
    "fedbuff": "server.mode = 'buffered'",
    "fedasync": "server.mode = 'async'",
}
"""Published name of an algorithm -> the setting that chooses it."""


class ServerSection(Section):
    """``[server]``: the coordinator's part of the federated algorithm."""

    mode: Mode = "sync"
    """When the model is updated: at the end of a round (``sync``), when so many updates have
    arrived (``buffered``), or at each (``async``)."""
    selection: Selection = "uniform"
    """Which clients are asked."""
    evaluate_clients: int | None = Field(default=None, ge=2, le=1_000_000)
    """Number of clients that evaluate, drawn anew for each evaluation; None: all."""
    aggregation: str = "mean"
    """The rule, one of :data:`RULES` or ``package.module:Class``; ``mean`` weights each client by
    its samples."""
    malicious_share: float = Field(default=0.2, ge=0, lt=0.5)
    """Share of a round's clients that the rules other than ``mean`` withstand."""
    clip: bool = True
    """Whether an update far larger than the others is scaled down before they are aggregated."""
    check_direction: bool = True
    """Whether the updates of a client that point against the others' round after round are left
    out."""
    dp_delta: float = Field(default=1e-5, gt=0, lt=1)
    """Probability with which the bound by epsilon may not hold, where updates are averaged with
    noise (``dp_noise`` in ``[space.server]``)."""

    @field_validator("aggregation")
    @classmethod
    def _known(cls, rule: str) -> str:
        if rule not in RULES and (setting := _CALLED.get(rule.lower())):
            raise ValueError(f"is {rule!r}, which is chosen by {setting}: set that")
        if rule not in RULES and ":" not in rule:
            raise ValueError(
                f"is {rule!r}{did_you_mean(rule, RULES)}; known are {', '.join(RULES)}, or "
                "'package.module:Class'"
            )
        return rule

    @property
    def own_aggregation(self) -> bool:
        """Whether the rule is the user's own class."""
        return ":" in self.aggregation
