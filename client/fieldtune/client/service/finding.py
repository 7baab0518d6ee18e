"""What ``fieldtune client doctor`` says of one check."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Args:
        topic: what was checked, in a word or two.
        message: the result.
        remedy: what to do; None if the check passed.
        blocking: whether a failure prevents the device from taking part.
    """

    topic: str
    message: str
    remedy: str | None = None
    blocking: bool = True
