"""``fieldtune retarget``: how far its answer can be trusted, in the terminal."""

from __future__ import annotations

import math

from rich.console import Console

from fieldtune.server.report.format import counted, setting
from fieldtune.server.retarget import MOST_PROSPECTS, Retargeted

_SHOWN = 3


def print_prospects(found: Retargeted, device: str, console: Console) -> None:
    """Say what was never tried, and which trials would settle the front."""
    lines = [f"Scored anew for {device} from stored trials; nothing was trained."]
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
        more = "at least " if count == MOST_PROSPECTS else ""
        lines.append(
            f"About {more}{counted(count, 'more trial')} would settle it; the first of them:"
        )
        for prospect in found.prospects[:_SHOWN]:
            values = prospect.configuration.flat().items()
            shown = " ".join(f"{name}={setting(value)}" for name, value in values)
            gain = "" if math.isinf(prospect.gain) else f" (+{100 * prospect.gain:.0f} %)"
            lines.append(f"  {shown}{gain}")
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True, markup=False)
