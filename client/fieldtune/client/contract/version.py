"""The version of what coordinator and devices exchange.

It is raised when a request needs something that earlier clients do not have. Fields that are merely
new are optional, and ignored by who does not know them, so they do not raise it.
"""

from __future__ import annotations

from importlib import metadata

CONTRACT = 3
"""1: fieldtune 0.1, whose messages do not state it. 2: encoded updates, corrections and training
before an evaluation; orders to deploy. 3: small weights among a message's scalars."""

INLINE = 3
"""The contract with which :mod:`~fieldtune.client.contract.inline` came."""

FIRST_WITH = {1: "0.1", 2: "0.2", 3: "0.2"}
"""Contract -> the first version of fieldtune that has it."""

RECORD = "contract"
"""Name of the record in each of Flower's messages that states it."""


def unsuitable(contract: int, version: str, needed: int) -> str | None:
    """Why a device cannot take part in a study, or None.

    Args:
        contract: of the device.
        version: of fieldtune on the device; empty where it does not say so.
        needed: the contract that the study needs.
    """
    runs = f"its fieldtune is {version or FIRST_WITH.get(contract, 'of another version')}"
    if contract < needed:
        return f"{runs}, and this study needs >= {FIRST_WITH[needed]}: upgrade it there"
    if contract > CONTRACT:
        ours = metadata.version("fieldtune")
        return f"{runs}, which is newer than the coordinator's ({ours}): upgrade the coordinator"
    return None
