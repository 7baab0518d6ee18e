"""Who runs what, and how the devices are: tables of at most 80 columns, and the same as JSON."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fieldtune.profiles.common.errors import RunFolderError
from fieldtune.profiles.common.files import Stamp, stamp
from fieldtune.profiles.common.text import duration
from fieldtune.server.deployment.fleet_state import FleetState, Seen
from fieldtune.server.deployment.folder import CoordinatorFolder
from fieldtune.server.federation.refusals import Refused
from fieldtune.server.operation.delivery import said
from fieldtune.server.operation.health import FleetHealth
from fieldtune.server.operation.rollouts import Rollout, RolloutStore, deployed_cards
from fieldtune.server.results import device_rows
from fieldtune.server.results.run_folder import read_summary
from fieldtune.server.results.schema import Summary

_MIB_OF_GIB = 1024.0


@dataclass(frozen=True)
class Watched:
    """All that is known of the enrolled devices.

    Args:
        numbers: name -> number of each enrolled device, in order.
        connected: names of those that are connected; None where that is not known.
        seen: name -> last status.
        health: the same with the cards of their models.
        refused: name -> what was refused of its reports.
        waiting: name -> number of the rollout for which a device waits.
        study: results of the latest study, as far as it is; None where there are none.
        now: Unix time.
    """

    numbers: Mapping[str, int]
    connected: Collection[str] | None
    seen: Mapping[str, Seen]
    health: FleetHealth
    refused: Mapping[str, Refused]
    waiting: Mapping[str, int]
    study: Summary | None = None
    now: float = field(default_factory=time.time)

    @classmethod
    def of(cls, folder: CoordinatorFolder, connected: Collection[str] | None) -> Watched:
        """What a coordinator's folder holds of its devices."""
        rollouts = RolloutStore(folder.path).all()
        numbers = {device.name: device.number for device in folder.devices()}
        seen = {n: each for n, each in FleetState(folder.path).read().items() if n in numbers}
        waiting = {
            name: each.number
            for each in reversed(rollouts)
            for name in each.waiting()
            if name in numbers
        }
        statuses = {name: each.status for name, each in seen.items()}
        health, study = FleetHealth(statuses, deployed_cards(rollouts)), _latest_study(folder)
        return cls(numbers, connected, seen, health, folder.refused(), waiting, study)

    def problems(self, name: str) -> list[str]:
        """What is to be said of a device, each as a sentence about it."""
        found = self.health.problems(name) if name in self.seen else []
        refused = self.refused.get(name, Refused())
        if refused.sits_out:
            found.append(f"it takes no part after {refused.count} refused reports: {refused.why}")
        elif refused.count:
            what = "report was" if refused.count == 1 else "reports were"
            found.append(f"{refused.count} {what} refused, the latest: {refused.why}")
        if name in self.waiting:
            found.append("waits for a model that was deployed while it was off")
        return found


def _latest_study(folder: CoordinatorFolder) -> Summary | None:
    run = folder.last_run()
    try:
        return None if run is None else _summary(run, stamp(run / "pareto.json"))
    except (RunFolderError, OSError):  # moved, or it has no results yet
        return None


@lru_cache(maxsize=1)
def _summary(run: Path, content: Stamp | None) -> Summary:
    """A run's results, read once for each content of the file: metrics are asked for often."""
    return read_summary(run)


def print_devices(watched: Watched, console: Console, coordinator: Path) -> None:
    """The tables, what is wrong with whom, and the command to tune again where models drift."""
    models, boards = _table("#", "device", "last seen", "type", "runs", "error"), _table(
        "device", "version", "°C", "memory", "disk", "up", "failed", "model"
    )  # fmt: skip
    for name, number in watched.numbers.items():
        _add(models, str(number), name, _seen(watched, name), *_model(watched, name))
        if name in watched.seen:
            _add(boards, name, *_board(watched.seen[name]))
    console.print(models)
    if watched.seen:
        console.print()
        console.print(boards)
    if studied := _in_study(watched):
        console.print(f"\nIn the study {watched.study.study}:" if watched.study else "")
        table = _table(*device_rows.HEADINGS)
        for row in studied:
            _add(table, *row)
        console.print(table)
    for name in watched.numbers:
        for sentence in watched.problems(name):
            console.print(f"{name}: {sentence}", highlight=False, soft_wrap=True, markup=False)
    for command in watched.health.retune(coordinator):
        console.print(
            f"The data have drifted. To tune again from what is known: {command}",
            highlight=False, soft_wrap=True, markup=False,
        )  # fmt: skip


def _in_study(watched: Watched) -> list[tuple[str, ...]]:
    """A row for each enrolled device that the latest study has seen."""
    rows = device_rows.rows(watched.study) if watched.study else []
    return [row for row in rows if row[0] in watched.numbers]


def devices_json(watched: Watched, coordinator: Path) -> list[dict[str, Any]]:
    """The same for programs, a dictionary a device."""
    return [_device_json(watched, name, coordinator) for name in watched.numbers]


def _device_json(watched: Watched, name: str, coordinator: Path) -> dict[str, Any]:
    seen, card = watched.seen.get(name), watched.health.card(name)
    refused = watched.refused.get(name, Refused())
    return {
        "number": watched.numbers[name],
        "device": name,
        "connected": None if watched.connected is None else name in watched.connected,
        "seen": seen.at if seen else None,
        "status": seen.status.model_dump(mode="json") if seen else None,
        "card": card.model_dump(mode="json") if card else None,
        "drifted": watched.health.drifted(name),
        "outlier": watched.health.outlier(name),
        "study": _study_json(watched.study, name) if watched.study else None,
        "refused_reports": refused.count,
        "takes_part": not refused.sits_out,
        "why_not": refused.why if refused.sits_out else "",
        "waits_for": watched.waiting.get(name),
        "problems": watched.problems(name),
        "retune": next(iter(watched.health.retune(coordinator, [name])), None),
    }


def _study_json(study: Summary, name: str) -> dict[str, Any]:
    error, seen = device_rows.measured(study).get(name), study.seen.get(name)
    return {
        "study": study.study,
        "error": error.model_dump() if error else None,
        "seen": seen.model_dump() if seen else None,
        "refused": study.refused.get(name, {}),
    }


def print_rollout(rollout: Rollout, watched: Watched, console: Console) -> None:
    """A row for each device of a rollout: what it runs now, and what became of it."""
    table = _table("device", "type", "runs", "outcome")
    for name in rollout.devices:
        _, runs, _ = _model(watched, name)
        kind = watched.seen[name].status.profile if name in watched.seen else "-"
        mark = " (canary)" if name in rollout.canary else ""
        _add(table, f"{name}{mark}", kind, runs, rollout.devices[name].state)
    console.print(table)
    for name, member in rollout.devices.items():
        if member.state not in ("switched", "unchanged"):
            sentence = f"{name} {said(rollout, name)}"
            console.print(sentence, highlight=False, soft_wrap=True, markup=False)


def rollout_json(rollouts: Sequence[Rollout], watched: Watched) -> list[dict[str, Any]]:
    """The same for programs, a dictionary a rollout."""
    return [
        {
            "number": each.number,
            "kind": each.kind,
            "run": each.run or None,
            "canary": list(each.canary),
            "stopped": each.stopped or None,
            "devices": [
                {
                    "device": name,
                    "state": member.state,
                    "why": member.why or None,
                    "runs": (member.report.runs if member.report else None)
                    or (watched.seen[name].status.runs if name in watched.seen else None),
                    "report": member.report.model_dump(mode="json") if member.report else None,
                }
                for name, member in each.devices.items()
            ],
        }
        for each in rollouts
    ]


def _table(*headings: str) -> Table:
    """Columns that are never shortened; names of devices are folded where space is short."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings:
        wraps = heading in ("device", "failed", "refused")
        table.add_column(heading, no_wrap=not wraps, overflow="fold")
    return table


def _add(table: Table, *cells: str) -> None:
    """Add a row of texts as they are: brackets in a device's text are no markup."""
    table.add_row(*map(Text, cells))


def _seen(watched: Watched, name: str) -> str:
    if watched.connected is not None and name in watched.connected:
        return "now"
    if name not in watched.seen:
        return "never"
    return f"{duration(max(0.0, watched.now - watched.seen[name].at))} ago"


def _model(watched: Watched, name: str) -> tuple[str, str, str]:
    """Type, model and error of a device."""
    if name not in watched.seen:
        return "-", "-", "-"
    status = watched.seen[name].status
    card = watched.health.card(name)
    runs = f"trial {card.trial} {card.variant}" if card else status.model or "-"
    error = "-" if status.error is None else f"{100 * status.error:.1f} %"
    return status.profile, runs, error


def _board(seen: Seen) -> tuple[str, ...]:
    status = seen.status
    return (
        status.version,
        "-" if status.temperature_c is None else f"{status.temperature_c:.0f}",
        _size(status.memory_free_mib),
        _size(status.disk_free_mib),
        "-" if status.up_s is None else duration(status.up_s),
        f"{status.refused}/{status.answered}",
        (status.runs or "-")[:8],
    )


def _size(mib: float | None) -> str:
    if mib is None:
        return "-"
    return f"{mib / _MIB_OF_GIB:.1f} GiB" if mib >= _MIB_OF_GIB else f"{mib:.0f} MiB"
