"""The run folder: names of its files, and atomic writing of them."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Collection
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import tomlkit
from pydantic import ValidationError

from fieldtune.client.contract.messages import Weights
from fieldtune.profiles.common.errors import RunFolderError
from fieldtune.profiles.common.files import (
    locked,
    readable,
    remove_parts,
    write_atomically,
    writing,
)
from fieldtune.profiles.common.text import printable, printable_json
from fieldtune.profiles.common.validation import first_error
from fieldtune.server.results.checkpoints import Checkpoint, DiskTime
from fieldtune.server.results.consistent import contradiction
from fieldtune.server.results.schema import Summary
from fieldtune.server.study.changes import identity, steered
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.load import load_study, parse_study

_STUDY_FOLDER, _STUDY_FILE = ".study-folder", ".study-file"
_TRIAL_NAME = re.compile(r"trial-(\d+)")
_WRITE_ANEW = "run the study's 'fieldtune tune' command again to write it anew"
_HINT = "choose another folder with --out, or remove this one"


class RunFolder:
    """An open run folder; only one process has it open at a time.

    Args:
        path: the folder; made where it does not exist.
        text: the study file's text, or None to open an existing run.
        trials: replaces the study's number of trials.
        seed: replaces the study's seed.

    Raises:
        RunFolderError: it holds another study, no study, or is open elsewhere.
        StorageError: it cannot be written.
    """

    def __init__(
        self,
        path: Path,
        text: str | None = None,
        *,
        trials: int | None = None,
        seed: int | None = None,
        where: str = "study.toml",
    ) -> None:
        self.path, self._disk_time = path, DiskTime()
        frozen = path / "study.toml"
        if text is None and not frozen.is_file():
            raise RunFolderError(f"{path} is not a run folder: it holds no study.toml")
        refusal = RunFolderError(f"{path} is in use by another fieldtune: wait for it, or {_HINT}")
        self._lock = ExitStack()
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
            self._lock.enter_context(locked(path / ".lock", refusal))
        remove_parts(path)
        try:
            self.study = self._freeze(frozen, text, trials, seed, where)
        except BaseException:
            self._lock.close()
            raise

    def _freeze(
        self, frozen: Path, text: str | None, trials: int | None, seed: int | None, where: str
    ) -> StudyConfig:
        if text is None:
            return load_study(frozen)
        document: Any = tomlkit.parse(text)
        if trials is not None:
            document["study"]["trials"] = trials
        if seed is not None:
            document["study"]["seed"] = seed
        text = tomlkit.dumps(document)
        study = parse_study(text, where)
        if frozen.is_file():
            before = load_study(frozen)
            if study.tuner.rungs is None and study.rungs != before.rungs:
                # A changed budget must not change the rungs of a running study.
                document.setdefault("tuner", tomlkit.table())["rungs"] = list(before.rungs)
                text = tomlkit.dumps(document)
                study = parse_study(text, where)
            steered(identity(before), study, str(self.path))
        elif (self.path / "study.db").exists():
            raise RunFolderError(f"{self.path} holds a study.db but no study.toml: {_HINT}")
        self.write("study.toml", text)
        return study

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.close()

    @property
    def database(self) -> Path:
        """Optuna's storage."""
        return self.path / "study.db"

    @property
    def recorded_trials(self) -> int:
        """Number of trials that ``trials.csv`` lists; the database has these at least."""
        return max(len((self.read("trials.csv") or "").splitlines()) - 1, 0)

    @property
    def has_results(self) -> bool:
        """Whether it holds results of trials, apart from the database."""
        return self.recorded_trials > 0 or any(self.path.glob("models/trial-*/weights.npy"))

    @property
    def study_folder(self) -> Path:
        """The folder of the study file, with the user's modules and data; this one if unknown."""
        try:
            return Path(os.fsdecode(readable(self.path / _STUDY_FOLDER).read_bytes()))
        except (OSError, ValueError):
            return self.path

    def note_study_file(self, file: Path) -> None:
        """Store where the study file is."""
        self.write(_STUDY_FOLDER, os.fsencode(file.parent.resolve()))
        self.write(_STUDY_FILE, os.fsencode(file.name))

    @property
    def identity(self) -> str:
        """The study without its budgets, as text (:mod:`fieldtune.server.study.changes`)."""
        return identity(self.study)

    def read(self, name: str) -> str | None:
        """The text of a file of the folder; None where there is none."""
        try:
            return readable(self.path / name).read_text()
        except (OSError, UnicodeDecodeError):
            return None

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file of the folder atomically: a reader sees the old one or the new one."""
        target = self.path / name
        with writing(target):
            write_atomically(target, content, parents=True)
        return target

    def save_weights(self, trial: int, weights: Weights) -> str:
        """Keep a trial's trained weights; call it before the trial is told.

        Returns the SHA-256 of the file. It is on disk when this returns, so that even after a power
        cut every trial in the database has its weights.
        """
        buffer = io.BytesIO()
        np.save(buffer, weights, allow_pickle=False)
        self.write(f"models/{trial_name(trial)}/weights.npy", buffer.getvalue())
        return hashlib.sha256(buffer.getvalue()).hexdigest()

    def checkpoint(self, trial: int) -> Checkpoint:
        """The checkpoint of a trial in training."""
        return Checkpoint(self.path / "checkpoints" / trial_name(trial), self._disk_time)

    def open_checkpoints(self, told: Collection[int]) -> list[int]:
        """Trials with a checkpoint, without those that were told; other files are removed."""
        folder, found = self.path / "checkpoints", []
        for file in folder.iterdir() if folder.is_dir() else ():
            number = _TRIAL_NAME.match(file.name)
            if number is None or int(number[1]) in told:
                with suppress(OSError):
                    file.unlink()
            else:
                found.append(int(number[1]))
        if not found:
            with suppress(OSError):
                folder.rmdir()
        return sorted(set(found))

    def load_weights(self, trial: int, sha256: str = "") -> Weights:
        """The weights of a trial.

        Args:
            trial: its number.
            sha256: of the file, in hexadecimal; empty where it is not known.

        Raises:
            RunFolderError: they are missing or damaged.
        """
        file = self.path / "models" / trial_name(trial) / "weights.npy"
        try:
            packed = readable(file).read_bytes()
            if sha256 and hashlib.sha256(packed).hexdigest() != sha256:
                raise ValueError("their SHA-256 is not the one in study.db")
            weights: Weights = np.load(io.BytesIO(packed), allow_pickle=False)
        except Exception as lost:  # NumPy raises almost anything over damaged bytes
            why = printable(str(lost), 200)
            raise RunFolderError(f"The weights of trial {trial} cannot be read: {why}") from None
        return weights


def study_file_of(run: Path) -> Path:
    """The study file that a run was started with; its frozen copy where that is gone."""
    try:
        folder, name = (readable(run / each).read_bytes() for each in (_STUDY_FOLDER, _STUDY_FILE))
        file = Path(os.fsdecode(folder)) / os.fsdecode(name)
        return file if file.is_file() else run / "study.toml"
    except (OSError, ValueError):
        return run / "study.toml"


def read_result(folder: Path, name: str) -> str:
    """The text of a result's file.

    Raises:
        RunFolderError: the folder has none.
    """
    try:
        return readable(folder / name).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise RunFolderError(f"{folder / name} is damaged, it is not text: {_WRITE_ANEW}") from None
    except OSError as failed:
        if (folder / name).exists():
            raise RunFolderError(f"{folder / name} cannot be read: {failed.strerror}") from None
        raise RunFolderError(
            f"{folder} holds no {name}: give the folder of a study that 'fieldtune tune' has run"
        ) from None


def read_summary(folder: Path, name: str = "pareto.json") -> Summary:
    """The results of a run, as ``pareto.json`` has them, or another file of that schema.

    Raises:
        RunFolderError: there is no such file, or it is of another version's schema.
    """
    text = read_result(folder, name)
    try:
        summary = Summary.model_validate_json(printable_json(text))
        why = contradiction(summary)
    except ValidationError as wrong:
        why = first_error(wrong, Summary, quotes=False).lstrip(": ")
    except ValueError as wrong:
        why = printable(str(wrong), 200)
    if why:
        raise RunFolderError(
            f"{folder / name} is damaged or of another version ({why}): {_WRITE_ANEW}"
        )
    return summary


def trial_name(trial: int) -> str:
    """``trial-0007``: a trial's folder under ``models/``."""
    return f"trial-{trial:04d}"
