"""A run in Weights & Biases: a project of the study's name, a run of the study, one of each trial.

Runs are written offline, below ``wandb/``, unless ``WANDB_MODE`` says otherwise: nothing leaves the
machine before ``wandb sync``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb

from fieldtune.profiles.common.errors import UsageError
from fieldtune.server.report.track import TrackedRun, TrackedTrial


def write(run: TrackedRun, folder: Path, store: str | None) -> str:
    """Log a run.

    Its identifiers follow from the results, so that logging them twice is not two runs on the
    server.

    Args:
        run: what to log.
        folder: the run folder.
        store: the folder in which ``wandb/`` is made; None for this one.

    Raises:
        UsageError: Weights & Biases refuses it.
    """
    where = Path(store or ".")
    where.mkdir(parents=True, exist_ok=True)
    try:
        with _opened(run, where, run.name, "study", run.parameters) as study:
            for trial, share in run.front_share.items():
                study.log({"trial": trial, "front.share": share})
            study.summary.update({**run.metrics, **run.tags})
            _files(study, f"{run.name}-results", run.files)
        for each in run.trials:
            _trial(run, each, where)
    except wandb.errors.Error as refused:
        reason = " ".join(str(refused).split())
        raise UsageError(f"Weights & Biases refuses the run: {reason}") from None
    then = "wandb sync --sync-all" if _mode() == "offline" else "it is on the server"
    return f"{folder} is in {where / 'wandb'}, project {run.name!r}; {then}"


def _mode() -> Any:
    return os.environ.get("WANDB_MODE", "offline")


def _opened(
    run: TrackedRun, where: Path, name: str, kind: str, config: Mapping[str, Any]
) -> wandb.Run:
    return wandb.init(
        project=run.name, group=f"{run.name}-{run.identity[:12]}", name=name, job_type=kind,
        id=f"{run.identity[:12]}-{name}", config=dict(config), dir=str(where),
        mode=_mode(), reinit="finish_previous", resume="allow",
        settings=wandb.Settings(
            silent=True, console="off", disable_git=True, x_disable_stats=True,
            x_disable_meta=True, save_code=False,
        ),
    )  # fmt: skip


def _trial(run: TrackedRun, trial: TrackedTrial, where: Path) -> None:
    with _opened(run, where, trial.name, "trial", trial.parameters) as opened:
        for rounds, values in trial.curve.items():
            opened.log(dict(values), step=rounds)
        opened.summary.update({**trial.metrics, "state": trial.state, **trial.tags})
        _files(opened, f"{run.name}-{trial.name}", trial.files)


def _files(opened: wandb.Run, name: str, files: tuple[Path, ...]) -> None:
    if files:
        artefact = wandb.Artifact(name, type="results")
        for file in files:
            artefact.add_file(str(file))
        opened.log_artifact(artefact)
