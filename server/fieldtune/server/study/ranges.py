"""Which values the settings of the client's trainer and of the server may take."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fieldtune.client.contract.encoding import ENCODINGS
from fieldtune.client.contract.messages import MOST_PERSONAL_STEPS
from fieldtune.server.study.server_options import RULES
from fieldtune.server.study.space import Parameter


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included unless ``open`` names the end left out."""

    low: float
    high: float = math.inf
    whole: bool = False
    open: str = ""

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        low = f"above {self.low:g}" if self.open == "low" else f"of at least {self.low:g}"
        if self.high == math.inf:
            return f"{kind} {low}"
        high = f"below {self.high:g}" if self.open == "high" else f"at most {self.high:g}"
        return f"{kind} {low} and {high}"

    def contains(self, value: object) -> bool:
        """Whether a setting may have this value."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        if not self.low <= value <= self.high or (self.whole and value != int(value)):
            return False
        return value != {"low": self.low, "high": self.high}.get(self.open)


@dataclass(frozen=True)
class Names:
    """Some texts."""

    names: tuple[str, ...]
    whole = False

    def __str__(self) -> str:
        return f"one of {', '.join(self.names)}"

    def contains(self, value: object) -> bool:
        """Whether a setting may have this value."""
        return value in self.names


RANGES: dict[str, Range | Names] = {
    "batch_size": Range(1, 100_000, whole=True),
    "local_epochs": Range(1, 100_000, whole=True),
    "learning_rate": Range(0),
    "momentum": Range(0, 1),
    "beta_1": Range(0, 1, open="high"),
    "beta_2": Range(0, 1, open="high"),
    "epsilon": Range(0, open="low"),
    "rho": Range(0, 1, open="high"),
    "weight_decay": Range(0),
    "clip_norm": Range(0),
    "proximal": Range(0),
    "clients_per_round": Range(1, 1_000_000, whole=True),
    "server_learning_rate": Range(0),
    "server_momentum": Range(0, 1),
    "server_optimizer": Names(("sgd", "adagrad", "yogi", "adam")),
    "server_beta_1": Range(0, 1, open="high"),
    "server_beta_2": Range(0, 1, open="high"),
    "server_tau": Range(0, open="low"),
    "dp_clip": Range(0, open="low"),
    "dp_noise": Range(0, 1000, open="low"),
    "aggregation": Names(RULES),
    "over_selection": Range(1, 10),
    "deadline_s": Range(0),
    "concurrency": Range(0, 1_000_000, whole=True),
    "buffer_size": Range(0, 1_000_000, whole=True),
    "staleness_exponent": Range(0),
    "mixing": Range(0, 1, open="low"),
    "tiers": Range(1, 1000, whole=True),
    "exploration": Range(0, 1),
    "speed_weight": Range(0),
    "fairness": Range(0, 10),
    "update": Names(ENCODINGS),
    "topk_share": Range(0, 1, open="low"),
    "download": Names(("float32", "float16")),
    "drift_correction": Names(("none", "scaffold")),
    "personal_steps": Range(0, MOST_PERSONAL_STEPS, whole=True),
}
"""Of each setting in ``[space.client]`` and ``[space.server]``."""


def out_of_range(name: str, parameter: Parameter) -> str | None:
    """Why a setting cannot be varied as stated, as the end of a sentence; None where it can."""
    allowed = RANGES[name]
    for value in parameter.extremes():
        if not allowed.contains(value):
            return f"takes the value {value!r}: it must be {allowed}"
    if allowed.whole and parameter.choices is None and not parameter.integer:
        return f"is a range of real numbers: write its ends as whole numbers, it must be {allowed}"
    return None
