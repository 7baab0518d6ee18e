"""What the page says of a run beside its results: data, settings and progress."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from fieldtune.profiles.common.errors import FieldtuneError, RunFolderError
from fieldtune.profiles.common.files import locked, readable
from fieldtune.profiles.common.text import printable
from fieldtune.server.report.format import counted, listed
from fieldtune.server.results.card import OWN_DATA
from fieldtune.server.results.schema import Summary
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.load import load_study

State = Literal["running", "interrupted", "finished"]


@dataclass(frozen=True)
class RunInfo:
    """A run, as far as ``pareto.json`` does not tell it."""

    state: State = "finished"
    study: StudyConfig | None = None
    """None where the folder holds no study file that this version reads."""
    written: str = ""
    """The date on which the results were written, in UTC."""
    versions: tuple[tuple[str, str], ...] = ()
    """Packages that the results depend on, and their versions."""
    folder: str = "DIR"
    """Where it is, as it was given; for commands."""


def run_info(folder: Path, summary: Summary) -> RunInfo:
    """Of a run folder with a ``pareto.json``.

    A study that has not ended is running while a process has its folder open, else interrupted.
    """
    study = None
    with suppress(FieldtuneError, OSError):
        study = load_study(readable(folder / "study.toml"))
    state: State = "finished"
    if summary.state != "finished":
        state = "running" if summary.state == "running" and _is_open(folder) else "interrupted"
    return RunInfo(state, study, _written(folder), _versions(folder), str(folder))


def _is_open(folder: Path) -> bool:
    refusal = RunFolderError("open elsewhere")
    try:
        with locked(folder / ".lock", refusal):
            return False
    except RunFolderError:
        return True
    except OSError:  # a folder that may not be written: nobody runs a study in it
        return False


def _versions(folder: Path) -> tuple[tuple[str, str], ...]:
    """As ``fingerprint.json`` has them; none where there is no such file, or another form of it."""
    try:
        found = json.loads(readable(folder / "fingerprint.json").read_bytes())["versions"].items()
        return tuple(
            (printable(str(package)), printable(str(version))) for package, version in found
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return ()


def _written(folder: Path) -> str:
    try:
        seconds = (folder / "pareto.json").stat().st_mtime
    except OSError:
        return ""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"


def progress(summary: Summary, run: RunInfo) -> str:
    """``running, 12 of 40 trials``."""
    trials = next((each for each in summary.budget if each.budget == "trials"), None)
    done = sum(attempt.state != "infeasible" for attempt in summary.attempts)
    of = f"{done} of " if trials else ""
    return f"{run.state}, {of}{counted(int(trials.of) if trials else done, 'trial')}"


def task_facts(summary: Summary, run: RunInfo) -> list[tuple[str, str]]:
    """Data, partition, model, metric, rounds, seed and date, as pairs of a fact and a remark."""
    error = any(objective.name in ("error", "worst_error") for objective in summary.objectives)
    metric = summary.metric + (", error = 1 - it" if error else "")
    facts = [("metric", metric), ("seed", str(summary.seed))]
    if run.study is not None:
        task = run.study.task
        kind = task.partition.kind or summary.partition or "natural, else dirichlet"
        split = f"{kind}, alpha {task.partition.alpha:g}" if kind == "dirichlet" else kind
        facts = [
            *([("data", OWN_DATA)] if not summary.simulated else []),
            *(
                [("data", task.data), ("partition", split)]
                if summary.simulated and task.data
                else []
            ),
            ("model", listed(task.models)),
            facts[0],
            ("rounds", str(run.study.study.rounds)),
            facts[1],
        ]
    facts += [("results of", run.written)] if run.written else []
    return [(name, printable(fact)) for name, fact in facts]
