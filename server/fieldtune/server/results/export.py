"""Taking a model out of a run folder, for a device."""

from __future__ import annotations

import re
from pathlib import Path

from fieldtune.profiles.common.errors import RunFolderError, UsageError, did_you_mean
from fieldtune.server.compiler.cache import ArtefactCache
from fieldtune.server.compiler.service import CompileService
from fieldtune.server.results.fingerprint import read_fingerprint
from fieldtune.server.results.run_folder import RunFolder, read_summary
from fieldtune.server.results.schema import Summary
from fieldtune.server.results.variants import card_path, read_card, read_variant
from fieldtune.server.study.artefacts import Artefacts


def chosen_trial(summary: Summary, device: str, trial: int | None) -> int:
    """The trial to export for a device: the one asked for, else the recommended one.

    Raises:
        UsageError: the device is not in the fleet, or there are no files of the trial.
        RunFolderError: there is nothing to recommend.
    """
    if device not in summary.devices:
        raise UsageError(
            f"{device!r} is not in this study's fleet{did_you_mean(device, summary.devices)}; "
            f"it has {', '.join(summary.devices) or 'no device yet'}. For another device type, run "
            "'fieldtune retarget' with it first"
        )
    front = [point.trial for point in summary.deployable]
    if trial is not None:
        if trial not in front:
            raise UsageError(
                f"Trial {trial} is not on the front, nor that of the defaults; there are files of "
                f"{', '.join(map(str, front)) or 'none'}"
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


def converted_now(folder: RunFolder, summary: Summary, trial: int, variant: str) -> bytes:
    """A variant of a trial of which there are no files yet, converted from its weights.

    Raises:
        UsageError: the study makes no such variant.
        RunFolderError: what is needed for it is not in the folder.
        CompileError: the model cannot be converted.
    """
    study, known = folder.study, read_fingerprint(folder)
    if variant not in study.task.variants:
        raise UsageError(
            f"There is no variant {variant!r}{did_you_mean(variant, study.task.variants)}; this "
            f"study makes {', '.join(study.task.variants)}"
        )
    if known is None or not known.input_shape or variant == "int8":
        raise RunFolderError(
            f"{folder.path} has no files of trial {trial} yet: run the study's 'fieldtune tune' "
            "command again to write them"
        )
    import_path = [str(folder.study_folder), str(folder.path.resolve())]
    with CompileService(ArtefactCache(), import_path, folder.path / "compiler.log") as service:
        artefacts = Artefacts(study, known.input_shape, known.classes, service)
        configuration = study.full_space.configuration(summary.point(trial).configuration)
        weights = folder.load_weights(trial)
        return service.variant(artefacts.spec(configuration), weights, variant).result()


def exported_model(folder: Path, trial: int, variant: str) -> bytes:
    """A variant of a trial on the front, checked against the SHA-256 that its card states.

    Raises:
        UsageError: the study makes no such variant.
        RunFolderError: the file or its card is missing, damaged, or another trial's.
    """
    variants = read_card(folder, trial)
    if variant not in variants:
        raise UsageError(
            f"There is no variant {variant!r}{did_you_mean(variant, variants)}; this study makes "
            f"{', '.join(variants)}"
        )
    return read_variant(folder, trial, variant, variants[variant].sha256)
