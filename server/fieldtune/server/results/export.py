"""Taking a model out of a run folder, for a device."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import get_args

from fieldtune.profiles.common.errors import RunFolderError, UsageError, did_you_mean
from fieldtune.server.compiler.cache import ArtefactCache
from fieldtune.server.compiler.manifest import Variant
from fieldtune.server.compiler.service import CompileService
from fieldtune.server.results.fingerprint import read_fingerprint
from fieldtune.server.results.model_files import card_path, read_card, read_variant
from fieldtune.server.results.run_folder import RunFolder, read_summary
from fieldtune.server.results.schema import Point, Summary
from fieldtune.server.results.variants import calibration_samples
from fieldtune.server.study.artefacts import Artefacts


def chosen_trial(summary: Summary, device: str, trial: int | None) -> int:
    """The trial to export for a device: the one asked for, else the recommended one.

    Raises:
        UsageError: the device is not in the fleet, or there is no model of the trial.
        RunFolderError: there is nothing to recommend.
    """
    if device not in summary.devices:
        raise UsageError(
            f"{device!r} is not in this study's fleet{did_you_mean(device, summary.devices)}; "
            f"it has {', '.join(summary.devices) or 'no device yet'}. For another device type, run "
            "'fieldtune retarget' with it first"
        )
    if trial is not None:
        if all(point.trial != trial for point in summary.stored):
            front = ", ".join(str(point.trial) for point in summary.deployable)
            raise UsageError(
                f"There is no model of trial {trial} to export; the front and the defaults "
                f"are {front or 'none'}"
            )
        return trial
    if device not in summary.recommended:
        raise RunFolderError(f"No point of the front fits {device}: there is nothing to export")
    return summary.recommended[device].trial


def retargeted_file(device: str) -> str:
    """Where in a run folder the results for a device type of another fleet are kept."""
    return f"retargeted/{re.sub(r'[^A-Za-z0-9._-]', '_', device)}.json"


def results_for(folder: Path, device: str) -> Summary:
    """The results of a run for a device type: the study's, or those it was retargeted to.

    Raises:
        RunFolderError: there are none, or they are damaged.
    """
    summary = read_summary(folder)
    if device in summary.devices or not (folder / retargeted_file(device)).is_file():
        return summary
    retargeted = read_summary(folder, retargeted_file(device))
    return retargeted if device in retargeted.devices else summary


def is_converted(folder: Path, summary: Summary, trial: int) -> bool:
    """Whether a trial's files were written; an interrupted study has not come to that."""
    return bool(summary.point(trial).variants) or (folder / card_path(trial)).exists()


def retargeted_results(folder: Path) -> list[Summary]:
    """The results for each device type of another fleet that a run was retargeted to.

    Raises:
        RunFolderError: one of them is damaged.
    """
    files = sorted((folder / "retargeted").glob("*.json"))
    return [read_summary(folder, f"retargeted/{file.name}") for file in files]


def to_measure(folder: Path, summary: Summary) -> list[Point]:
    """The points whose files the study's command measures, with those that it was retargeted to.

    Args:
        folder: of the run.
        summary: of the study.

    Raises:
        RunFolderError: results for another device type are damaged.
    """
    stored = {point.trial: point for point in summary.stored}
    found = {point.trial: point for point in summary.exported}
    for other in retargeted_results(folder):
        for trial in (chosen.trial for chosen in other.recommended.values()):
            found.setdefault(trial, stored.get(trial) or other.point(trial))
    return list(found.values())


def no_variant(variant: str, made: Collection[str]) -> UsageError:
    """The error for a conversion that a study does not make."""
    known = variant in get_args(Variant)
    remedy = f"; a study with {variant!r} in variants of its [task] makes it" if known else ""
    return UsageError(
        f"There is no variant {variant!r}{'' if known else did_you_mean(variant, made)}; this "
        f"study makes {', '.join(made)}{remedy}"
    )


def converted_now(folder: RunFolder, summary: Summary, trial: int, variant: str) -> bytes:
    """A variant of a trial of which there are no files yet, converted from its weights.

    Raises:
        UsageError: the study makes no such variant.
        RunFolderError: what is needed for it is not in the folder.
        DataError: the study's calibration for int8 fails.
        CompileError: the model cannot be converted.
    """
    study, known = folder.study, read_fingerprint(folder)
    if variant not in study.task.variants:
        raise no_variant(variant, study.task.variants)
    if known is None or not known.input_shape:
        raise RunFolderError(
            f"{folder.path} has no {variant} file of trial {trial}: run the study's 'fieldtune "
            "tune' command again to write it"
        )
    import_path = [str(folder.study_folder), str(folder.path.resolve())]
    calibration = calibration_samples(study.task, import_path) if variant == "int8" else None
    with CompileService(ArtefactCache(), import_path, folder.path / "compiler.log") as service:
        artefacts = Artefacts(study, known.input_shape, known.classes, service)
        configuration = study.full_space.configuration(summary.point(trial).configuration)
        weights = folder.load_weights(trial)
        spec = artefacts.spec(configuration)
        return service.variants(spec, weights, [variant], calibration).result()[variant]


def exported_model(folder: Path, trial: int, variant: str) -> bytes:
    """A variant of a trial that has files, checked against the SHA-256 that its card states.

    Raises:
        UsageError: the study makes no such variant.
        RunFolderError: the file or its card is missing, damaged, or another trial's.
    """
    variants = read_card(folder, trial).variants
    if variant not in variants:
        raise no_variant(variant, variants)
    return read_variant(folder, trial, variant, variants[variant].sha256)
