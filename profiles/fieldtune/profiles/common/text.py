"""Texts from other machines, made safe to show; and times in words."""

from __future__ import annotations

import json
import re
from typing import Any

_PERHAPS_ODD = re.compile(r"\\[bfnrtu]|[^\n -~]")


def printable(text: str, most: int | None = None) -> str:
    """The text in one line: control, format and separator characters are spaces.

    Otherwise escape sequences and line breaks in a device's text could change what a terminal or a
    log shows. At most ``most`` characters are kept.
    """
    text = text[:most]
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else " " for each in text)


def printable_lines(text: str) -> str:
    """The same of a text of several lines, which stay apart."""
    return "\n".join(map(printable, text.split("\n")))


def printable_json(text: str) -> str:
    """A JSON text with each of its strings printable.

    Raises:
        ValueError: it is not JSON, or nests too deeply.
    """
    if not _PERHAPS_ODD.search(text):
        return text
    try:
        return json.dumps(_printable(json.loads(text)), ensure_ascii=False)
    except RecursionError:
        raise ValueError("it nests lists too deeply") from None


def _printable(value: Any) -> Any:
    match value:
        case str():
            return printable(value)
        case list():
            return [_printable(each) for each in value]
        case dict():
            return {printable(name): _printable(each) for name, each in value.items()}
    return value


def duration(seconds: float) -> str:
    """So many seconds in words: ``90 s``, ``12 minutes``, ``30 hours``, ``12 days``."""
    for unit, unit_s in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * unit_s:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds:.0f} s"
