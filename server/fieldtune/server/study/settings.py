"""A configuration's client and server settings, with defaults for what the space leaves out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar, cast

from fieldtune.client.contract.encoding import Download, Encoding
from fieldtune.server.compiler.manifest import DEFAULTS
from fieldtune.server.study.server_options import ServerSection
from fieldtune.server.study.space import Configuration, Value

Made = TypeVar("Made")

ALGORITHM: dict[str, Value] = {
    "update": "float32",
    "topk_share": 0.1,
    "download": "float32",
    "drift_correction": "none",
    "personal_steps": 0,
}
"""Settings of the federated algorithm's part on the client."""

CLIENT_DEFAULTS: dict[str, Value] = {
    **{name: value for name, value in DEFAULTS.items() if name != "seed"},
    "batch_size": 8,
    "local_epochs": 1,
    **ALGORITHM,
}
"""Settings of the client's trainer, with the values for those that the space leaves out."""

SERVER_DEFAULTS: dict[str, Value] = {
    "clients_per_round": 10,
    "server_optimizer": "sgd",
    "server_learning_rate": 1.0,
    "server_momentum": 0.0,
    "server_beta_1": 0.9,
    "server_beta_2": 0.99,
    "server_tau": 1e-3,
    "dp_clip": 0.0,
    "dp_noise": 0.0,
    "over_selection": 1.0,
    "deadline_s": 0.0,
    "concurrency": 0,
    "buffer_size": 0,
    "staleness_exponent": 0.5,
    "mixing": 0.6,
    "tiers": 5,
    "exploration": 0.9,
    "speed_weight": 2.0,
    "fairness": 0.1,
}
"""Settings of the server side, likewise. A deadline of 0 is none; a concurrency or buffer size of 0
is ``clients_per_round``."""

ADAPTIVE_LEARNING_RATE = 0.1
"""``server_learning_rate`` where the space leaves it out and the optimizer is not SGD."""


def client_settings(configuration: Configuration) -> dict[str, Value]:
    """Settings of the client's trainer by name."""
    return {**CLIENT_DEFAULTS, **configuration.client}


def server_settings(configuration: Configuration) -> dict[str, Value]:
    """Settings of client sampling, aggregation and the server optimizer by name.

    ``aggregation`` is among them only if it is a parameter of the space.
    """
    settings = {**SERVER_DEFAULTS, **configuration.server}
    if settings["server_optimizer"] != "sgd" and "server_learning_rate" not in configuration.server:
        settings["server_learning_rate"] = ADAPTIVE_LEARNING_RATE
    return settings


def asked_per_round(configuration: Configuration) -> int:
    """The number of clients that a round asks: with over-selection, more than it waits for."""
    settings = server_settings(configuration)
    return math.ceil(int(settings["clients_per_round"]) * float(settings["over_selection"]) - 1e-9)


def own_settings(configuration: Configuration) -> dict[str, Value]:
    """Parameters of ``[space.server]`` that are the user's own, for their aggregation class."""
    known = {*SERVER_DEFAULTS, "aggregation"}
    return {name: value for name, value in configuration.server.items() if name not in known}


COST_SETTINGS = (
    "batch_size", "local_epochs", "clients_per_round", "over_selection", "update", "topk_share",
    "download", "drift_correction", "personal_steps", "aggregation", "dp_noise",
)  # fmt: skip
"""Settings of client and server on which predicted costs depend."""


@dataclass(frozen=True)
class Algorithm:
    """What the federated algorithm asks of clients beyond training float32 weights."""

    update: Encoding = "float32"
    """How a client's update is encoded."""
    topk_share: float = 1.0
    """Of the weights, that a ``topk`` update sends."""
    download: Download = "float32"
    """How the weights are sent to a client that is to train."""
    corrects_drift: bool = False
    """Whether SCAFFOLD's correction is sent along, and applied after each step."""
    measures_loss: bool = False
    """Whether a client evaluates the weights on its training samples before it trains."""
    personal_steps: int = 0
    """Steps on its own training samples before a client evaluates."""

    @property
    def is_plain(self) -> bool:
        """Whether it asks for nothing of the kind."""
        return self == PLAIN

    @classmethod
    def of(cls, configuration: Configuration, server: ServerSection) -> Algorithm:
        """The algorithm of a configuration."""
        client = client_settings(configuration)
        update = cast(Encoding, client["update"])
        rule = server_settings(configuration).get("aggregation", server.aggregation)
        return cls(
            update=update,
            topk_share=float(client["topk_share"]) if update == "topk" else 1.0,
            download=cast(Download, client["download"]),
            corrects_drift=client["drift_correction"] == "scaffold",
            measures_loss=rule == "qfedavg",
            personal_steps=int(client["personal_steps"]),
        )


PLAIN = Algorithm()


def of_each(
    configurations: Mapping[int, Configuration], made: Callable[[Configuration], Made]
) -> dict[int, Made]:
    """What is made of each client's configuration, once of those that clients share."""
    known = {id(each): each for each in configurations.values()}
    found = {key: made(each) for key, each in known.items()}
    return {client: found[id(each)] for client, each in configurations.items()}


def algorithms(
    configurations: Mapping[int, Configuration], server: ServerSection
) -> dict[int, Algorithm]:
    """Client -> the algorithm of its configuration."""
    return of_each(configurations, lambda configuration: Algorithm.of(configuration, server))
