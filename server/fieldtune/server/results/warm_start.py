"""Warm start from finished studies: ``fieldtune tune --warm-start DIR``.

The space and the trained trials of an earlier run are copied into the new run folder
(``prior.json``). So the new study can resume without the old folder, and does not depend on later
changes of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from fieldtune.profiles.common.errors import FieldtuneError, RunFolderError, UsageError
from fieldtune.profiles.common.files import readable
from fieldtune.profiles.common.text import printable_json
from fieldtune.server.outcomes.earlier import FEWEST, EarlierStudy, EarlierTrial
from fieldtune.server.results.run_folder import RunFolder
from fieldtune.server.results.schema import SCHEMA_VERSION, Summary
from fieldtune.server.study.config import StudyConfig
from fieldtune.server.study.load import load_study
from fieldtune.server.study.space import Parameter

FILE = "prior.json"

_STUDIES = TypeAdapter(list[EarlierStudy])


def warm_start(folder: RunFolder, given: Sequence[Path]) -> list[EarlierStudy]:
    """The earlier studies of a run: those it was started with, or for a new run, the given ones.

    Args:
        folder: the run folder.
        given: folders of finished runs; empty to resume with those that the run has.

    Raises:
        UsageError: a given run cannot be used by the study.
        RunFolderError: the run was started with other ones, or a folder has no finished run.
        StorageError: the run's folder cannot be written.
    """
    kept = stored(folder)
    if not given:
        return kept
    if folder.study.tuner.name != "grey":
        raise UsageError(
            f"--warm-start has no effect with tuner.name = {folder.study.tuner.name!r}, which "
            "learns from its own trials only: leave it out, or choose 'grey'"
        )
    studies = [read_earlier(each) for each in given]
    for path, study in zip(given, studies, strict=True):
        _check_in_common(path, study, folder.study)
    if not kept:
        if folder.database.exists() or folder.has_results:
            raise RunFolderError(
                f"{folder.path} was started without --warm-start, which cannot be given later: "
                "leave it out to resume, or choose another folder with --out"
            )
        folder.write(FILE, _STUDIES.dump_json(studies, indent=1))
    elif kept != studies:
        raise RunFolderError(
            f"{folder.path} was started with other runs as --warm-start "
            f"({', '.join(study.name for study in kept)}), or they have changed since: leave "
            "--warm-start out to resume with them as they were, or choose another folder with --out"
        )
    return studies


def read_earlier(path: Path) -> EarlierStudy:
    """The study of a finished run's folder.

    Raises:
        RunFolderError: it is not a run folder, has another schema, or has too few trained trials.
    """
    if not path.is_dir():
        raise RunFolderError(f"--warm-start {path}: there is no such folder")
    try:
        summary = Summary.model_validate_json(
            printable_json(readable(path / "pareto.json").read_text())
        )
        study = load_study(readable(path / "study.toml"))
    except OSError:
        raise RunFolderError(
            f"--warm-start {path}: it holds no pareto.json; give the folder of a study that "
            "'fieldtune tune' has run"
        ) from None
    except ValueError:
        raise RunFolderError(
            f"--warm-start {path}: its pareto.json is not of this version's schema "
            f"({SCHEMA_VERSION}); run 'fieldtune tune' on it once, or leave it out"
        ) from None
    except FieldtuneError as wrong:
        raise RunFolderError(f"--warm-start {path}: {wrong}") from None
    if summary.schema_version != SCHEMA_VERSION:
        raise RunFolderError(
            f"--warm-start {path}: its pareto.json has schema version {summary.schema_version}, "
            f"and this fieldtune reads {SCHEMA_VERSION}: leave it out"
        )
    trials = [
        EarlierTrial(configuration=each.configuration, objectives=each.objectives)
        for each in summary.attempts
        if each.state == "completed"
    ]
    if len(trials) < FEWEST:
        raise RunFolderError(
            f"--warm-start {path}: it holds {len(trials)} trained trials, and at least {FEWEST} "
            "are needed to learn from it"
        )
    return EarlierStudy(name=study.study.name, parameters=study.full_space.parameters(),
                        trials=trials)  # fmt: skip


def stored(folder: RunFolder) -> list[EarlierStudy]:
    """The earlier studies that a run was started with.

    Raises:
        RunFolderError: the file is damaged.
    """
    file = folder.path / FILE
    try:
        return _STUDIES.validate_json(readable(file).read_bytes())
    except FileNotFoundError:
        return []
    except (OSError, ValidationError) as lost:
        raise RunFolderError(
            f"{file} cannot be read, and without it this run cannot be resumed: restore it, "
            f"or choose another folder with --out ({str(lost).splitlines()[0]})"
        ) from None


def _check_in_common(path: Path, earlier: EarlierStudy, study: StudyConfig) -> None:
    ours = study.full_space.parameters()
    if not any(
        _alike(ours[name], theirs) for name, theirs in earlier.parameters.items() if name in ours
    ):
        raise UsageError(
            f"--warm-start {path}: its study {earlier.name!r} has no parameter in common with this "
            f"one; it has {', '.join(earlier.parameters)}"
        )
    learned = [objective.name for objective in study.study.objectives if objective.learned]
    if not any(name in trial.objectives for name in learned for trial in earlier.trials):
        measured = sorted({name for trial in earlier.trials for name in trial.objectives})
        raise UsageError(
            f"--warm-start {path}: its study {earlier.name!r} measured {', '.join(measured)}, and "
            f"nothing that this one has to learn ({', '.join(learned) or 'all of it is known'})"
        )


def _alike(ours: Parameter, theirs: Parameter) -> bool:
    """Whether values of one parameter are informative for the other: same choices, or numbers."""
    if ours.choices and theirs.choices and set(ours.choices) & set(theirs.choices):
        return True
    return all(
        isinstance(value, (int, float)) and not isinstance(value, bool)
        for each in (ours, theirs)
        for value in each.choices or ()
    )
