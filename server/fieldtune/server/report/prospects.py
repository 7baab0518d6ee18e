"""``fieldtune retarget`` in the terminal: what its result rests on, and suggested trials."""

from __future__ import annotations

import math

from rich.console import Console

from fieldtune.server.report.format import counted, in_percent, setting, whole
from fieldtune.server.results.retarget import MOST_PROSPECTS, Retargeted

_SHOWN = 3


def print_prospects(found: Retargeted, device: str, console: Console) -> None:
    """Print what was never tried, and which trials are expected to improve the front."""
    lines = [
        f"Re-evaluated for {device} from stored trials; nothing was trained. Learned measures are "
        "the study's own, costs are predicted from the profile of this device type."
    ]
    if found.unexplored >= 0.005:
        lines.append(
            f"{in_percent(found.unexplored)} of the configurations that fit it did not fit the "
            "study's own fleet and were never tried: predictions for them are extrapolated."
        )
    count = len(found.prospects)
    if not found.summary.front:
        lines.append("None of the study's trials fits it: run a study with this device type.")
    elif not count:
        lines.append("No further trial is expected to add 1 % of hypervolume to this front.")
    else:
        about = "At least" if count == MOST_PROSPECTS else "About"
        lines.append(
            f"{about} {counted(count, 'more trial')} would improve it; the first of them, with the "
            "hypervolume that each is expected to add:"
        )
        first = list(zip(found.prospects, found.extrapolated, strict=True))[:_SHOWN]
        for prospect, extrapolated in first:
            values = prospect.configuration.flat().items()
            shown = " ".join(f"{name}={setting(value)}" for name, value in values)
            gain = "" if math.isinf(prospect.gain) else f" (+{whole(100 * prospect.gain)})"
            lines.append(f"  {shown}{gain}{', extrapolated' if extrapolated else ''}")
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True, markup=False)
