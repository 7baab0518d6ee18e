"""Taking a model out of a run folder, for a device."""

from __future__ import annotations

from pathlib import Path

from fieldtune.profiles.common.errors import RunFolderError, UsageError, did_you_mean
from fieldtune.server.results.schema import Summary
from fieldtune.server.results.variants import read_card, read_variant


def chosen_trial(summary: Summary, device: str, trial: int | None) -> int:
    """The trial to export for a device: the one asked for, else the recommended one.

    Raises:
        UsageError: the device is not in the fleet, or there are no files of the trial.
        RunFolderError: there is nothing to recommend.
    """
    if device not in summary.devices:
        raise UsageError(
            f"{device!r} is not in this study's fleet{did_you_mean(device, summary.devices)}; "
            f"it has {', '.join(summary.devices) or 'no device yet'}"
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
