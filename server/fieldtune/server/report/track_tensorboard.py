"""A run as TensorBoard's event files: a folder for the study, in it a folder for each trial."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from tensorboardX import SummaryWriter
from tensorboardX.summary import hparams

from fieldtune.profiles.common.errors import UsageError
from fieldtune.server.report.track import TrackedRun, TrackedTrial

_SUFFIX = ".fieldtune"
"""Of our event files, which replace those that were logged before."""
_TEXTS = {".toml", ".csv", ".md"}
"""Files that are shown as text; TensorBoard keeps no others."""


def write(run: TrackedRun, folder: Path, store: str | None) -> str:
    """Write event files, in the place of those of an earlier call.

    Args:
        run: what to log.
        folder: the run folder.
        store: the log folder; None for ``tensorboard`` in the run folder.

    Raises:
        UsageError: the log folder cannot be written.
    """
    logs = (Path(store) if store else folder / "tensorboard") / run.name
    try:
        for before in logs.rglob(f"*{_SUFFIX}"):
            before.unlink()
        with SummaryWriter(str(logs), filename_suffix=_SUFFIX) as writer:
            _study(writer, run)
        for trial in run.trials:
            with SummaryWriter(str(logs / trial.name), filename_suffix=_SUFFIX) as writer:
                _trial(writer, trial)
    except OSError as failed:
        raise UsageError(
            f"{logs} cannot be written ({failed.strerror}): name another folder with --store"
        ) from None
    how = f"tensorboard --logdir {logs.parent}"
    return f"{folder} is in {logs}; to see it (pip install tensorboard): {how}"


def _study(writer: SummaryWriter, run: TrackedRun) -> None:
    for trial, share in run.front_share.items():
        writer.add_scalar("front.share", share, trial)
    for name, value in run.metrics.items():
        writer.add_scalar(name, value, 0)
    writer.add_text("study", _table({**run.parameters, **run.tags}))
    _texts(writer, run.files)


def _trial(writer: SummaryWriter, trial: TrackedTrial) -> None:
    last = int(trial.metrics.get("rounds", 0))
    for rounds, values in trial.curve.items():
        for name, value in values.items():
            if not (rounds == last and name in trial.metrics):
                writer.add_scalar(name, value, rounds)
    # The session of the HPARAMS tab: parameters, the names of the metrics, and the end.
    parameters = {
        name: value if isinstance(value, (bool, int, float)) else str(value)
        for name, value in trial.parameters.items()
    }
    for part in hparams(parameters, dict(trial.metrics)):
        writer.file_writer.add_summary(part, walltime=time.time())
    for name, value in trial.metrics.items():
        writer.add_scalar(name, value, last)
    writer.add_text("trial", _table({"state": trial.state, **trial.tags}))
    _texts(writer, trial.files)


def _texts(writer: SummaryWriter, files: tuple[Path, ...]) -> None:
    for file in files:
        if file.suffix in _TEXTS:
            text = file.read_text(encoding="utf-8")
            shown = text if file.suffix == ".md" else f"```\n{text}\n```"
            writer.add_text(file.name, shown)


def _table(facts: Mapping[str, object]) -> str:
    rows = [f"| {name} | {value} |" for name, value in facts.items()]
    return "\n".join(["| | |", "|---|---|", *rows])
