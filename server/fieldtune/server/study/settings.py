"""What a configuration sets on the client and on the coordinator, defaults filled in."""

from __future__ import annotations

from fieldtune.server.study.config import CLIENT_DEFAULTS, SERVER_DEFAULTS
from fieldtune.server.study.space import Configuration, Value


def client_settings(configuration: Configuration) -> dict[str, Value]:
    """What the client's trainer is told, defaults filled in."""
    return {**CLIENT_DEFAULTS, **configuration.client}


def server_settings(configuration: Configuration) -> dict[str, Value]:
    """What the coordinator does, defaults filled in."""
    return {**SERVER_DEFAULTS, **configuration.server}
