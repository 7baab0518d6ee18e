"""Printing the results of ``fieldtune client status`` and ``doctor``."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import typer
from rich.console import Console
from rich.text import Text

from fieldtune.client.node.state import Status, statuses
from fieldtune.client.service.finding import Finding
from fieldtune.profiles.common.errors import FleetError


def print_findings(findings: Iterable[Finding], *, as_json: bool = False) -> None:
    """Print each finding as it arrives, one per line, with its remedy below; or all as JSON.

    Raises:
        FleetError: a failed check prevents the device from taking part.
    """
    console, blocking = Console(soft_wrap=True, highlight=False), 0
    if as_json:
        findings = list(findings)
        typer.echo(
            json.dumps([asdict(each) | {"ok": each.remedy is None} for each in findings], indent=1)
        )
    for finding in findings:
        mark, style = ("✓", "green") if finding.remedy is None else ("!", "yellow")
        if finding.remedy is not None and finding.blocking:
            mark, style, blocking = "✗", "red", blocking + 1
        if as_json:
            continue
        console.print(Text(mark, style), Text(f"{finding.topic:<12}"), Text(finding.message))
        if finding.remedy is not None:
            console.print(Text(f"  {'':<12} → {finding.remedy}", "bold"))
    if blocking:
        problems = "1 problem prevents" if blocking == 1 else f"{blocking} problems prevent"
        raise FleetError(f"{problems} this device from taking part: fix what is marked ✗")


def print_statuses(*, as_json: bool = False) -> None:
    """Print the clients of this machine, a few lines each, or all as JSON.

    Raises:
        FleetError: there are no clients.
    """
    found = statuses()
    if not found:
        raise FleetError(
            "no client runs on this machine, or you may not read its status (try sudo): 'fieldtune "
            "client run' starts one, 'install' makes it a service"
        )
    if as_json:
        typer.echo(json.dumps([asdict(each) | {"ended": _gone(each)} for each in found], indent=1))
        return
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


def _gone(status: Status) -> bool:
    """Whether its process has ended without saying so."""
    return status.state != "stopped" and not Path(f"/proc/{status.pid}").exists()


def _state(status: Status) -> str:
    if _gone(status):
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
