"""A configuration's client and server settings, with defaults for what the space leaves out."""

from __future__ import annotations

from fieldtune.server.study.config import CLIENT_DEFAULTS, SERVER_DEFAULTS
from fieldtune.server.study.space import Configuration, Value


def client_settings(configuration: Configuration) -> dict[str, Value]:
    """Settings of the client's trainer by name."""
    return {**CLIENT_DEFAULTS, **configuration.client}


def server_settings(configuration: Configuration) -> dict[str, Value]:
    """Settings of client sampling and of the server optimizer by name."""
    return {**SERVER_DEFAULTS, **configuration.server}
