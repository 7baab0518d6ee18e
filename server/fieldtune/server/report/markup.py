"""HTML that cannot be forgotten to be escaped: whatever is not markup yet becomes text."""

from __future__ import annotations

from html import escape

_VOID = frozenset({"br", "hr", "meta"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, /, *children: str, **attributes: str | bool | None) -> Markup:
    """An element; children that are no markup are escaped, as are attribute values.

    ``class_`` stands for ``class`` and ``data_key`` for ``data-key``; an attribute that is None or
    False is left out, one that is True stands without a value.
    """
    opened = "".join(
        f" {key}" if value is True else f' {key}="{escape(str(value))}"'
        for key, value in (
            (key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items()
        )
        if value is not None and value is not False
    )
    if name in _VOID:
        return Markup(f"<{name}{opened}>")
    return Markup(f"<{name}{opened}>{joined(*children)}</{name}>")


def breakable(name: str) -> Markup:
    """A name that may be broken after its underscores where the line is short."""
    return Markup(escape(name).replace("_", "_<wbr>"))


def joined(*children: str) -> Markup:
    """Children one after the other, escaped where they are no markup."""
    return Markup("".join(c if isinstance(c, Markup) else escape(c) for c in children))
