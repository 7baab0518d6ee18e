"""The console that tables are printed on."""

from __future__ import annotations

from rich.console import Console

_NARROWEST = 80


def table_console() -> Console:
    """Stdout, taken to be 80 columns wide at least.

    A narrower terminal wraps the lines of a table, which would otherwise lose names and figures.
    """
    console = Console()
    return Console(width=_NARROWEST) if console.width < _NARROWEST else console
