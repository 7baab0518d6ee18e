"""``coordinator.toml``: the names and ports of the coordinator's machine."""

from __future__ import annotations

import re
import socket
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

LOOPBACK = ("localhost", "127.0.0.1")
DEVICE_PORT = 8443
SUPERLINK_PORT = 18443
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f:]{2,39}")
"""A DNS name, an IPv4 or an IPv6 address; no characters that are special in nginx.conf."""


def _host(value: str) -> str:
    if not _HOST.fullmatch(value):
        raise ValueError(f"{value!r} is neither a host name nor an address")
    return value


class Settings(BaseModel):
    """``coordinator.toml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    hosts: Annotated[
        tuple[Annotated[str, AfterValidator(_host)], ...], Field(min_length=1, max_length=16)
    ]
    """Names and addresses of this machine; bundles contain the first."""
    port: int = Field(default=DEVICE_PORT, ge=1, le=65535)
    """Where devices connect."""
    superlink_port: int = Field(default=SUPERLINK_PORT, ge=1, le=65535)
    """SuperLink's port on the loopback interface."""
    client_certificates: Literal["required", "optional"] = "optional"
    """Whether the proxy refuses devices without a certificate: those that were enrolled before
    bundles had one, and Flower's own SuperNode. New folders say ``required``."""

    @property
    def address(self) -> str:
        """``host:port`` for a bundle."""
        host = self.hosts[0]
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @property
    def superlink_address(self) -> str:
        """``host:port`` of SuperLink on this machine."""
        return f"127.0.0.1:{self.superlink_port}"


def listens(port: int) -> bool:
    """Whether something listens on a port of the loopback interface."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True


def this_machine() -> str:
    """The name under which other machines on the local network most likely reach this one."""
    name = socket.gethostname()
    return name if "." in name or name == "localhost" else f"{name}.local"
