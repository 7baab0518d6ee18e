"""Texts from other machines, made safe to show; and times in words."""

from __future__ import annotations


def printable(text: str, most: int | None = None) -> str:
    """The text in one line: control, format and separator characters are spaces.

    Otherwise escape sequences and line breaks in a device's text could change what a terminal or a
    log shows. At most ``most`` characters are kept.
    """
    text = text[:most]
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else " " for each in text)


def duration(seconds: float) -> str:
    """So many seconds in words: ``90 s``, ``12 minutes``, ``30 hours``, ``12 days``."""
    for unit, unit_s in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * unit_s:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds:.0f} s"
