"""Texts from other machines, made safe to show."""

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
