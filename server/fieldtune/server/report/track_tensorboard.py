"""A run as TensorBoard's event files: a folder for the study, in it a folder for each trial."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import hparams, scalar, text

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
        with _event_file(logs) as file:
            _study(file, run)
        for trial in run.trials:
            with _event_file(logs / trial.name) as file:
                _trial(file, trial)
    except OSError as failed:
        raise UsageError(
            f"{logs} cannot be written ({failed.strerror}): name another folder with --store"
        ) from None
    how = f"tensorboard --logdir {logs.parent}"
    return f"{folder} is in {logs}; to see it (pip install tensorboard): {how}"


class _EventFile:
    """An event file, written by the thread that calls: what fails, as on a full disk, is raised."""

    def __init__(self, writer: EventsWriter) -> None:
        self._writer = writer

    def add(self, summary: Any, step: int = 0) -> None:
        """Add a ``Summary`` of tensorboardX."""
        self._writer.write_event(Event(wall_time=time.time(), step=step, summary=summary))


@contextmanager
def _event_file(logs: Path) -> Iterator[_EventFile]:
    logs.mkdir(parents=True, exist_ok=True)
    writer = EventsWriter(str(logs / "events"), _SUFFIX)
    try:
        yield _EventFile(writer)
    finally:
        writer.close()


def _study(file: _EventFile, run: TrackedRun) -> None:
    for trial, share in run.front_share.items():
        file.add(scalar("front.share", share), trial)
    for name, value in run.metrics.items():
        file.add(scalar(name, value))
    file.add(text("study", _table({**run.parameters, **run.tags})))
    _texts(file, run.files)


def _trial(file: _EventFile, trial: TrackedTrial) -> None:
    last = int(trial.metrics.get("rounds", 0))
    for rounds, values in trial.curve.items():
        for name, value in values.items():
            if not (rounds == last and name in trial.metrics):
                file.add(scalar(name, value), rounds)
    # The session of the HPARAMS tab: parameters, the names of the metrics, and the end.
    parameters = {
        name: value if isinstance(value, (bool, int, float)) else str(value)
        for name, value in trial.parameters.items()
    }
    for part in hparams(parameters, dict(trial.metrics)):
        file.add(part)
    for name, value in trial.metrics.items():
        file.add(scalar(name, value), last)
    file.add(text("trial", _table({"state": trial.state, **trial.tags})))
    _texts(file, trial.files)


def _texts(file: _EventFile, files: tuple[Path, ...]) -> None:
    for each in files:
        if each.suffix in _TEXTS:
            content = each.read_text(encoding="utf-8")
            shown = content if each.suffix == ".md" else f"```\n{content}\n```"
            file.add(text(each.name, shown))


def _table(facts: Mapping[str, object]) -> str:
    rows = [f"| {name} | {value} |" for name, value in facts.items()]
    return "\n".join(["| | |", "|---|---|", *rows])
