"""Colours of the pictures for a light and a dark page, and what all pictures have in common.

Okabe and Ito's palette, lightened for dark backgrounds where a hue has too little contrast there.
``assets/report.css`` holds the same colours for the page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

ColourScale = tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Theme:
    """Colours by what they stand for."""

    name: str
    surface: str
    ink: str
    muted: str
    grid: str
    front: str
    chosen: str
    bad: str
    scale: ColourScale
    """From small to large; monotone in lightness, every step visible on the surface."""


LIGHT = Theme(
    name="light",
    surface="#ffffff",
    ink="#1c2430",
    muted="#8a94a3",
    grid="#e6eaf0",
    front="#0072b2",
    chosen="#d55e00",
    bad="#d55e00",
    scale=((0.0, "#00204c"), (0.33, "#414d6b"), (0.66, "#9d9161"), (1.0, "#e5c83f")),
)
DARK = Theme(
    name="dark",
    surface="#171d26",
    ink="#e6ebf2",
    muted="#76818f",
    grid="#2a3340",
    front="#56b4e9",
    chosen="#ff9a4d",
    bad="#ff9a4d",
    scale=((0.0, "#3f6fb5"), (0.33, "#7d8ea5"), (0.66, "#bcae72"), (1.0, "#ffea46")),
)
THEMES = (LIGHT, DARK)

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def layout(theme: Theme, *, height: int, **extra: Any) -> dict[str, Any]:
    """A picture's layout: no title (the page has one), the theme's colours, the page's font."""
    return {
        "template": "none",
        "height": height,
        "autosize": True,
        "paper_bgcolor": theme.surface,
        "plot_bgcolor": theme.surface,
        "font": {"family": _FONT, "size": 13, "color": theme.ink},
        "margin": {"l": 8, "r": 16, "t": 16, "b": 8},
        "hoverlabel": {
            "bgcolor": theme.surface,
            "bordercolor": theme.muted,
            "font": {"family": _FONT, "size": 13, "color": theme.ink},
            "align": "left",
        },
        "legend": {
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "yref": "container",
            "y": 0,
            "yanchor": "bottom",
            "font": {"size": 12},
            "traceorder": "normal",
        },
        "uirevision": "kept",
        **extra,
    }


def axis(theme: Theme, title: str, **extra: Any) -> dict[str, Any]:
    """One axis."""
    return {
        "title": {"text": title, "standoff": 10, "font": {"size": 13}},
        "gridcolor": theme.grid,
        "linecolor": theme.muted,
        "showline": True,
        "zeroline": False,
        "ticks": "outside",
        "tickcolor": theme.muted,
        "ticklen": 4,
        "automargin": True,
        **extra,
    }
