"""``fieldtune log``: a run's results copied into an experiment tracker.

:func:`tracked` puts together what is logged, the same for every tracker: a run for the study and,
nested in it, a run for each trial. ``track_mlflow``, ``track_tensorboard`` and ``track_wandb``
write it, each with the tracker's own client.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Literal, cast

from fieldtune.profiles.common.errors import MissingExtraError
from fieldtune.server.report import view
from fieldtune.server.report.history import growth
from fieldtune.server.report.run_info import run_info, task_facts
from fieldtune.server.results.run_folder import read_result, read_summary, trial_name
from fieldtune.server.results.schema import Attempt, Summary
from fieldtune.server.study.space import Value

Tracker = Literal["mlflow", "tensorboard", "wandb"]
State = Literal["completed", "stopped", "infeasible", "failed"]

_PACKAGES = {"mlflow": "mlflow", "tensorboard": "tensorboardX", "wandb": "wandb"}
"""Tracker -> the package that writes it."""
_OF_STUDY = ("study.toml", "pareto.json", "trials.csv", "report.html")
_OF_TRIAL = ("card.json", "card.md", "fp32.tflite", "fp16.tflite", "dynamic.tflite", "int8.tflite")


@dataclass(frozen=True)
class TrackedTrial:
    """A trial as a tracker shows it."""

    number: int
    state: State
    parameters: Mapping[str, Value]
    metrics: Mapping[str, float]
    """Objectives, constraints (used / cap - 1) and what all devices together spent."""
    curve: Mapping[int, Mapping[str, float]]
    """Rounds -> learned objectives then: at each rung, and at the end."""
    tags: Mapping[str, str]
    files: tuple[Path, ...]
    """Of a trial that there are files to deploy of."""

    @property
    def name(self) -> str:
        """``trial-0007``."""
        return trial_name(self.number)


@dataclass(frozen=True)
class TrackedRun:
    """A study as a tracker shows it."""

    name: str
    identity: str
    """SHA-256 of ``pareto.json``: by it results that were logged before are found."""
    parameters: Mapping[str, Value]
    metrics: Mapping[str, float]
    """Counts of trials, and the objectives of what is recommended for each device type."""
    front_share: Mapping[int, float]
    """Trial -> share of the objectives' box that the front dominates after it."""
    tags: Mapping[str, str]
    files: tuple[Path, ...]
    trials: tuple[TrackedTrial, ...] = field(default=())


def log_run(folder: Path, to: Tracker, store: str | None) -> str:
    """Copy a run's results into a tracker; says in one sentence where they are.

    Args:
        folder: of the run.
        to: the tracker.
        store: where the tracker keeps its runs; None for its own default.

    Raises:
        RunFolderError: the folder holds no results.
        MissingExtraError: the tracker's package is not installed.
        UsageError: the tracker refuses the store.
    """
    run = tracked(folder)
    try:
        module = import_module(f"fieldtune.server.report.track_{to}")
    except ModuleNotFoundError as missing:
        package = _PACKAGES[to]
        if (missing.name or "").partition(".")[0] != package:
            raise
        raise MissingExtraError(f"fieldtune log --to {to}", "track", package) from None
    write = cast(Callable[[TrackedRun, Path, str | None], str], module.write)
    return write(run, folder, store)


def tracked(folder: Path) -> TrackedRun:
    """What is logged of a run folder.

    Raises:
        RunFolderError: the folder holds no results.
    """
    summary = read_summary(folder)
    info = run_info(folder, summary)
    return TrackedRun(
        name=summary.study,
        identity=hashlib.sha256(read_result(folder, "pareto.json").encode()).hexdigest(),
        parameters={name.replace(" ", "_"): text for name, text in task_facts(summary, info)},
        metrics=_finite(_counts(summary) | _recommended(summary)),
        front_share={step.trial: step.share for step in growth(summary)},
        tags={
            "state": info.state,
            "costs": "simulated" if summary.simulated else "measured",
            **{f"recommended.{device}": str(each.trial)
               for device, each in summary.recommended.items()},
        },
        files=_there(folder, _OF_STUDY),
        trials=tuple(_trial(folder, summary, attempt) for attempt in summary.attempts),
    )  # fmt: skip


def _trial(folder: Path, summary: Summary, attempt: Attempt) -> TrackedTrial:
    chosen = view.recommended_for(summary).get(attempt.trial, [])
    facts = {
        "phase": attempt.phase,
        "reason": attempt.reason,
        "recommended_for": ", ".join(chosen),
        "on_front": "yes" if attempt.trial in {p.trial for p in summary.front} else "",
    }
    has_files = attempt.trial in {point.trial for point in summary.deployable}
    return TrackedTrial(
        number=attempt.trial,
        state=attempt.state,
        parameters=attempt.configuration,
        metrics=_finite(
            {**attempt.objectives}
            | {f"constraint.{name}": value for name, value in attempt.constraints.items()}
            | {f"spent.{name}": value for name, value in attempt.spent.items()}
            | {"rounds": float(attempt.rounds)}
        ),
        curve={rounds: _finite(values) for rounds, values in sorted(attempt.curve.items())},
        tags={name: text for name, text in facts.items() if text},
        files=_there(folder / "models" / trial_name(attempt.trial), _OF_TRIAL) if has_files else (),
    )


def _counts(summary: Summary) -> dict[str, float]:
    return {
        "trials": summary.trials,
        "trials.stopped": summary.stopped,
        "trials.infeasible": summary.infeasible,
        "trials.failed": summary.failed,
        "front.points": len(summary.front),
    }


def _recommended(summary: Summary) -> dict[str, float]:
    return {
        f"recommended.{device}.{objective.name}": view.on_device(
            summary.point(chosen.trial), device, objective.name
        ).value
        for device, chosen in summary.recommended.items()
        for objective in summary.objectives
    }


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}


def _there(folder: Path, names: tuple[str, ...]) -> tuple[Path, ...]:
    return tuple(folder / name for name in names if (folder / name).is_file())
