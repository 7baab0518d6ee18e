"""``fieldtune compare``: several runs on one page, with fronts, attainment and recommendations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fieldtune.profiles.common.errors import UsageError
from fieldtune.server.report import format, trials_view, view
from fieldtune.server.report.history import Box, box_of, growth, spendings
from fieldtune.server.report.html import render
from fieldtune.server.report.page_data import ends_of, short
from fieldtune.server.report.run_info import RunInfo, progress, run_info, task_facts
from fieldtune.server.results.run_folder import read_summary
from fieldtune.server.results.schema import Summary
from fieldtune.server.study.objectives import Objective

MOST_RUNS = 6
"""As many as there are colours that are told apart."""


@dataclass(frozen=True)
class Run:
    """One of the runs: its name on the page, and its results."""

    name: str
    summary: Summary
    info: RunInfo


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """The runs of these folders, named by their folders, apart where two have one name.

    Raises:
        RunFolderError: a folder holds no results.
        UsageError: there are fewer than two or too many, or they have no objective in common.
    """
    if not 2 <= len(folders) <= MOST_RUNS:
        raise UsageError(f"compare takes 2 to {MOST_RUNS} run folders, not {len(folders)}")
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    runs = []
    for name, folder in zip(names, folders, strict=True):
        summary = read_summary(folder)
        runs.append(Run(name, summary, run_info(folder, summary)))
    common(runs)
    return runs


def common(runs: Sequence[Run]) -> list[Objective]:
    """The objectives that all runs have, as the first one orders and names them.

    Raises:
        UsageError: there is none.
    """
    shared = set.intersection(*({o.name for o in run.summary.objectives} for run in runs))
    first, alike = runs[0].summary, len({run.summary.metric for run in runs}) == 1
    named = view.objectives(first) if alike else first.objectives
    found = [each for each in named if each.name in shared]
    if not found:
        has = "; ".join(
            f"{run.name} has {', '.join(o.name for o in run.summary.objectives)}" for run in runs
        )
        raise UsageError(f"these runs have no objective in common: {has}")
    return found


def compare_html(runs: Sequence[Run]) -> str:
    """The page, as one HTML file that loads nothing."""
    goals = common(runs)
    units = {
        goal.name: format.display_unit(goal.name, [
            point.objectives[goal.name].value for run in runs for point in run.summary.front
        ])
        for goal in goals
    }  # fmt: skip
    data = {
        "study": " against ".join(run.name for run in runs),
        "objectives": [goal.name for goal in goals],
        "measures": {
            goal.name: {
                "label": goal.label,
                "unit": units[goal.name].unit,
                "factor": units[goal.name].factor,
                "steps": format.unit_steps(goal.name),
                "maximised": goal.maximised,
                "learned": goal.learned,
                "known": _known(runs, goal),
            }
            for goal in goals
        },
        "kinds": {"together": _known_together(runs, goals)},
        "runs": [
            {
                "name": run.name,
                "points": [
                    {
                        "trial": point.trial,
                        "runs": point.runs,
                        "objectives": {g.name: ends_of(point.objectives[g.name]) for g in goals},
                    }
                    for point in run.summary.front
                ],
                "attainment": _attainment(run, _shared_box(runs, goals)),
            }
            for run in runs
        ],
        "attainment_by": _shared_spendings(runs),
    }
    return render(
        "compare.html",
        scripts=("dom", "format", "scale", "plot", "compare"),
        data=data,
        runs=runs,
        goals=goals,
        units=units,
        devices=list(dict.fromkeys(name for run in runs for name in run.summary.devices)),
        facts=_facts(runs),
        measures=data["measures"],
        view=view,
        format=format,
    )


def _known(runs: Sequence[Run], goal: Objective) -> str:
    """How an objective's figures are known, where that is the same in all runs."""
    found = {view.how_known(run.summary, goal) for run in runs}
    return found.pop() if len(found) == 1 else ""


def _known_together(runs: Sequence[Run], goals: Sequence[Objective]) -> str:
    """The same of figures of all objectives together."""
    known = [_known(runs, goal) for goal in goals]
    return ", ".join(dict.fromkeys(known)) if all(known) else ""


def _shared_box(runs: Sequence[Run], goals: Sequence[Objective]) -> Box | None:
    """One box around the completed trials of all runs, so that their shares compare."""
    attempts = [a for run in runs for a in trials_view.completed(run.summary)]
    return box_of(attempts, goals) if attempts else None


def _attainment(run: Run, box: Box | None) -> list[dict[str, Any]]:
    return [
        {"trial": s.trial, "share": short(s.share), "grew": s.grew,
         **{name: short(value) for name, value in s.spent.items()}}
        for s in (growth(run.summary, box) if box else [])
    ]  # fmt: skip


def _shared_spendings(runs: Sequence[Run]) -> Mapping[str, str]:
    found = [spendings(run.summary) for run in runs]
    return {name: text for name, text in found[0].items() if all(name in each for each in found)}


def _facts(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """What each run is, a row a fact; facts that all have in common come last."""
    columns = [
        {
            "study": run.summary.study,
            "state": progress(run.summary, run.info),
            **dict(task_facts(run.summary, run.info)),
            "fleet": ", ".join(f"{count} {n}" for n, count in run.summary.devices.items()),
            "defaults": _defaults(run.summary, common(runs)),
            "took": "; ".join(
                f"{device} {text}" for device, text in trials_view.spent(run.summary)
            ),
        }
        for run in runs
    ]
    rows = [
        (name, [column.get(name, "") for column in columns])
        for name in dict.fromkeys(name for column in columns for name in column)
    ]
    return sorted(rows, key=lambda row: len(set(row[1])) == 1)


def _defaults(summary: Summary, goals: Sequence[Objective]) -> str:
    point = summary.defaults
    if point is None:
        return "not trained"
    return ", ".join(
        f"{goal.phrase} {format.figure(goal.name, point.objectives[goal.name].value)}"
        for goal in goals
        if np.isfinite(point.objectives[goal.name].value)
    )
