"""Every decoder of bytes from outside, with inputs that it accepts, and mutations of those.

A decoder may raise what it documents, a :class:`FieldtuneError`, and nothing else: anything else
would be shown to the user as a bug in fieldtune, or end a process.
"""

from __future__ import annotations

from pathlib import Path

from fieldtune.client.node.fleet_api import identify_process
from support.decoders.coordinator import coordinator
from support.decoders.decoder import Decoder, mutated
from support.decoders.device import device
from support.decoders.files import files
from support.decoders.messages import messages
from support.decoders.results import results

__all__ = ["Decoder", "decoders", "mutated"]


def decoders(folder: Path) -> dict[str, Decoder]:
    """All of them by name; files are written below ``folder``."""
    identify_process(1, 1)
    found: dict[str, Decoder] = {}
    for of in (files, messages, device, coordinator, results):
        (folder / of.__name__).mkdir()
        found |= of(folder / of.__name__)
    return found
