"""Printing what ``fieldtune client status`` and ``doctor`` found."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.text import Text

from fieldtune.client.node.state import Status, statuses
from fieldtune.client.service.doctor import Finding
from fieldtune.profiles.common.errors import FleetError


def print_findings(findings: Iterable[Finding]) -> None:
    """A line a finding as it comes in, what to mend below it.

    Raises:
        FleetError: the device cannot take part like this.
    """
    console, grave = Console(soft_wrap=True, highlight=False), 0
    for finding in findings:
        mark, style = ("✓", "green") if finding.remedy is None else ("!", "yellow")
        if finding.remedy is not None and finding.grave:
            mark, style, grave = "✗", "red", grave + 1
        console.print(Text(mark, style), Text(f"{finding.about:<12}"), Text(finding.said))
        if finding.remedy is not None:
            console.print(Text(f"  {'':<12} → {finding.remedy}", "bold"))
    if grave:
        things = "1 thing keeps" if grave == 1 else f"{grave} things keep"
        raise FleetError(f"{things} this device from taking part: mend what is marked ✗")


def print_statuses() -> None:
    """The clients of this machine, a few lines each.

    Raises:
        FleetError: there is none.
    """
    found = statuses()
    if not found:
        raise FleetError(
            "no client runs here, or none whose status you may read (try sudo): 'fieldtune client "
            "run' starts one, 'install' makes it a service"
        )
    console = Console(soft_wrap=True, highlight=False)
    for status in found:
        console.print(Text(status.name, "bold"), Text(_state(status)))
        console.print(Text(f"  coordinator  {status.address}"))
        console.print(Text(f"  device       {status.profile}"))
        console.print(
            Text(f"  messages     {status.answered} answered, {status.refused} of them refused")
        )
        if status.last:
            console.print(Text(f"  last         {status.last}"))


def _state(status: Status) -> str:
    gone = not Path(f"/proc/{status.pid}").exists()
    if gone and status.state != "stopped":
        return f"ended unexpectedly {_ago(status.changed)} ago, while {status.state}"
    detail = f": {status.detail}" if status.detail else ""
    state = "not connected" if status.state == "connecting" else status.state
    return f"{state}{detail} (for {_ago(status.changed)}, process {status.pid})"


def _ago(since: float) -> str:
    seconds = max(0, int(time.time() - since))
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {name}"
    return f"{seconds} s"
