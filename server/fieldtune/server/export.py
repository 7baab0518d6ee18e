"""Files to deploy: a variant for each point of the front, and its card."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from fieldtune.profiles.errors import RunFolderError, UsageError, did_you_mean
from fieldtune.server.artefacts import Artefacts
from fieldtune.server.compiler.service import CompileService
from fieldtune.server.pareto import Point, Summary
from fieldtune.server.runfolder import RunFolder, trial_name

VARIANTS = ("fp32",)


def export_front(
    folder: RunFolder, summary: Summary, artefacts: Artefacts, service: CompileService
) -> None:
    """Write the variants and ``card.json`` of every point of the front that lacks them."""
    space = folder.study.full_space
    futures = {
        point.trial: service.variant(
            artefacts.spec(space.configuration(point.configuration)),
            folder.load_weights(point.trial),
            point.variant,
        )
        for point in summary.front
        if not (folder.path / variant_file(point.trial, point.variant)).exists()
    }
    for point in summary.front:
        if point.trial in futures:
            model = futures[point.trial].result()
            folder.write(variant_file(point.trial, point.variant), model)
            folder.write(f"models/{trial_name(point.trial)}/card.json", _card(folder, point, model))


def variant_file(trial: int, variant: str) -> str:
    """Where a variant lies in the run folder."""
    return f"models/{trial_name(trial)}/{variant}.tflite"


def chosen_trial(summary: Summary, device: str, trial: int | None) -> int:
    """The trial to export for a device: the one asked for, else the recommended one.

    Raises:
        UsageError: the device is not in the fleet, or the trial is not on the front.
        RunFolderError: there is nothing to recommend.
    """
    if device not in summary.devices:
        raise UsageError(
            f"{device!r} is not in this study's fleet{did_you_mean(device, summary.devices)}; "
            f"it has {', '.join(summary.devices) or 'no device yet'}"
        )
    front = [point.trial for point in summary.front]
    if trial is not None:
        if trial not in front:
            raise UsageError(
                f"Trial {trial} is not on the front; it has {', '.join(map(str, front)) or 'none'}"
            )
        return trial
    if device not in summary.recommended:
        raise RunFolderError(f"No point of the front fits {device}: there is nothing to export")
    return summary.recommended[device].trial


def exported_model(folder: Path, trial: int, variant: str) -> bytes:
    """A variant that the study wrote.

    Raises:
        UsageError: there is no such variant.
        RunFolderError: the study has not finished, so the file is not there yet.
    """
    if variant not in VARIANTS:
        raise UsageError(
            f"There is no variant {variant!r}{did_you_mean(variant, VARIANTS)}; "
            f"known are {', '.join(VARIANTS)}"
        )
    file = folder / variant_file(trial, variant)
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise RunFolderError(
            f"{file} is not there yet: finish the study with 'fieldtune tune' on "
            f"{folder / 'study.toml'}"
        ) from None


def _card(folder: RunFolder, point: Point, model: bytes) -> str:
    """What the file beside it is, for whoever finds it on a device."""
    return (
        json.dumps(
            {
                "schema_version": 1,
                "study": folder.study.study.name,
                "trial": point.trial,
                "task": folder.study.task.model_dump(mode="json"),
                "configuration": point.configuration,
                "measures": point.measures,
                "test_samples": point.test_samples,
                "variants": {
                    point.variant: {
                        "bytes": len(model),
                        "sha256": hashlib.sha256(model).hexdigest(),
                    }
                },
                "devices": {
                    name: device.model_dump(mode="json") for name, device in point.devices.items()
                },
            },
            indent=1,
        )
        + "\n"
    )
