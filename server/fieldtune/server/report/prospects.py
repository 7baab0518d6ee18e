"""``fieldtune retarget``: how far its answer can be trusted, in the terminal."""

from __future__ import annotations

import math

from rich.console import Console

from fieldtune.server.report.format import counted, setting
from fieldtune.server.results.retarget import MOST_PROSPECTS, Retargeted

_SHOWN = 3


def print_prospects(found: Retargeted, device: str, console: Console) -> None:
    """Say what was never tried, and which trials would settle the front."""
    lines = [
        f"Scored anew for {device} from stored trials; nothing was trained. Each point above was "
        "trained: its error is the fleet's, its costs are those of this device's profile."
    ]
    if found.unexplored >= 0.005:
        lines.append(
            f"{100 * found.unexplored:.0f} % of what fits it was ruled out by the study's own "
            "fleet and never tried: there, any claim is an extrapolation."
        )
    count = len(found.prospects)
    if not found.summary.front:
        lines.append("None of the study's trials fits it: run a study with this device type.")
    elif not count:
        lines.append("No further trial is expected to add 1 % to this front: it is settled.")
    else:
        about = "At least" if count == MOST_PROSPECTS else "About"
        lines.append(
            f"{about} {counted(count, 'more trial')} would settle it; the first of them, with what "
            "they are expected to add to the front:"
        )
        first = list(zip(found.prospects, found.extrapolated, strict=True))[:_SHOWN]
        for prospect, extrapolated in first:
            values = prospect.configuration.flat().items()
            shown = " ".join(f"{name}={setting(value)}" for name, value in values)
            gain = "" if math.isinf(prospect.gain) else f" (+{100 * prospect.gain:.0f} %)"
            lines.append(f"  {shown}{gain}{', extrapolated' if extrapolated else ''}")
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True, markup=False)
